"""Set-up commands that fail when they run again: workers run them twice, and `ray up` repeats them on the head."""

import re
from collections.abc import Iterator

from raygrid.study.cluster_file.config import START, ClusterFile, Step
from raygrid.study.cluster_file.environments import created_environments
from raygrid.study.cluster_file.finding import Finding, note
from raygrid.study.cluster_file.mounts import mounted_on
from raygrid.study.cluster_file.shell import Command

_TWICE = "workers run the set-up commands twice"


def check_repeats(file: ClusterFile) -> Iterator[Finding]:
    """Yield the commands before `ray start` whose second run fails, or does more than the first."""
    for step in file.steps:
        if step.stage == START or step.is_rays:
            continue
        for place, command in enumerate(step.commands):
            shown = f"{step.where}: {command.text!r}"
            removed = any(_removes(earlier, command) for earlier in step.commands[:place])
            if command.program.startswith("mkfs") and not command.is_guarded:
                yield Finding(f"{shown} erases the disk when it runs again, and {_TWICE}; test for blkid first")
            elif command.decides and not (command.is_guarded or removed) and (remedy := _fails_again(step, command)):
                yield Finding(f"{shown} fails when it runs again, and {_TWICE}; {remedy}")
            files = [*command.appends, *(command.operands() if command.program == "tee" else ())]
            if (command.appends or _appending_tee(command)) and not command.is_guarded:
                yield note(
                    f"{step.where}: appends to {', '.join(files)} at each run, and {_TWICE}; test with grep -q ... || "
                    "before it"
                )


def _fails_again(step: Step, command: Command) -> str:
    """Return the remedy if a second run of a command fails, else an empty text."""
    program, words = command.program, command.words
    if program == "mkdir" and not command.has_option("-p", "--parents"):
        return "use mkdir -p"
    if program == "git" and "clone" in words:
        return "test for the folder first, as in [ -d FOLDER/.git ] ||"
    if program == "ln" and not command.has_option("-f", "--force"):
        return "use ln -sfn"
    if program in ("useradd", "adduser", "groupadd", "addgroup"):
        return "test with id NAME || or getent group NAME || before it"
    if mounted_on(command):
        return "test with mountpoint -q FOLDER || before it"
    keeps = command.has_option("--clear", "--allow-existing", "-c") or "UV_VENV_CLEAR" in command.variables
    if program == "uv" and "venv" in words and not keeps:
        folder = next((str(folder) for folder in created_environments(step)), "FOLDER")
        return f"test with [ -x {folder}/bin/python ] || before it"
    return ""


def _removes(earlier: Command, command: Command) -> bool:
    """Whether an earlier command of the same step removes the file or the mount that a command makes."""
    made = " ".join([*command.words, *([".venv"] if command.program == "uv" else [])])
    return earlier.program in ("rm", "umount") and any(
        re.search(rf"(^|[/ ]){re.escape(word.strip('/'))}/?(\.git)?( |$)", made) for word in earlier.operands()
    )


def _appending_tee(command: Command) -> bool:
    return command.program == "tee" and command.has_option("-a", "--append")
