"""Set-up commands that fail when they run again: workers run them twice, and `ray up` repeats them on the head."""

import re
from collections.abc import Iterator

from raygrid.study.cluster_file.config import START, ClusterFile, Finding, Step, note
from raygrid.study.cluster_file.environments import created_environments
from raygrid.study.cluster_file.mounts import mounted_on
from raygrid.study.cluster_file.shell import Command

_TWICE = "workers run the set-up commands twice"
_REMOVE = ("rm", "umount")
_GROWS = re.compile(r"^/dev/|\.log$")  # files that are meant to grow
_MAY_REPEAT = re.compile(r"(^|,)r?bind(,|$)|^(tmpfs|efs)$")  # a second mount has no error


def check_repeats(file: ClusterFile) -> Iterator[Finding]:
    """Yield the commands before `ray start` whose second run fails, or does more than the first."""
    before: list[Command] = []  # those that remove something
    for step in file.steps:
        if step.stage == START or step.is_rays:
            continue
        for command in step.commands:
            shown = f"{step.where}: {command.text!r}"
            removed = any(_removes(earlier, command) for earlier in before)
            before += [command] if command.program in _REMOVE else []
            if command.program.startswith("mkfs") and not command.is_guarded:
                yield Finding(f"{shown} erases the disk when it runs again, and {_TWICE}; check with blkid first")
            elif command.decides and not (command.is_guarded or removed) and (remedy := _fails_again(step, command)):
                yield Finding(f"{shown} fails when it runs again, and {_TWICE}; {remedy}")
            files = [name for name in _appended(command) if not _GROWS.search(name)]
            if files and not command.is_guarded:
                yield note(
                    f"{step.where}: appends to {', '.join(files)} at each run, and {_TWICE}; put grep -q ... || "
                    "before it"
                )


def _fails_again(step: Step, command: Command) -> str:
    """Return the remedy if a second run of a command fails, else an empty text."""
    program, operands = command.program, command.operands(("-C", "-c"))
    if "mktemp" in step.text:  # a new place at each run
        return ""
    if program == "mkdir" and not command.has_option("-p", "--parents"):
        return "use mkdir -p"
    if program == "git" and operands[:1] == ["clone"]:
        return "test for the folder first, as in [ -d FOLDER/.git ] ||"
    if program == "ln" and not command.has_option("-f", "--force"):
        return "use ln -sfn"
    # with two operands, adduser puts a user into a group, which may be repeated
    adds = program in ("useradd", "groupadd") or (program in ("adduser", "addgroup") and len(operands) < 2)
    if adds and not command.has_option("-f", "--force"):
        return "test with id NAME || or getent group NAME || before it"
    if mounted_on(command) and not any(_MAY_REPEAT.search(word) for word in command.words[1:]):
        return "test with mountpoint -q FOLDER || before it"
    keeps = command.has_option("--clear", "--allow-existing", "-c") or "UV_VENV_CLEAR" in command.variables
    if program == "uv" and operands[:1] == ["venv"] and not keeps:
        folder = next((str(folder) for folder in created_environments(step)), "FOLDER")
        return f"test with [ -x {folder}/bin/python ] || before it"
    return ""


def _removes(earlier: Command, command: Command) -> bool:
    """Whether an earlier command of the same step removes the file or the mount that a command makes."""
    made = " ".join([*command.words, *([".venv"] if command.program == "uv" else [])])
    return any(re.search(rf"(^|[/ ]){re.escape(word.strip('/'))}/?(\.git)?( |$)", made) for word in earlier.operands())


def _appended(command: Command) -> list[str]:
    is_tee = command.program == "tee" and command.has_option("-a", "--append")
    return [*command.appends, *(command.operands() if is_tee else ())]
