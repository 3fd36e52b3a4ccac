"""Check that the user who runs Ray may write to the file systems that the commands mount."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from raygrid.study.cluster_file.config import ClusterFile, Finding, Node, Step, note
from raygrid.study.cluster_file.shell import Command

_WITH_VALUE = ("-t", "-o", "-L", "-U", "-O", "-T", "--types", "--options", "--source", "--target", "--target-prefix")
_USER_FILE_SYSTEMS = frozenset({"gcsfuse", "s3fs", "goofys", "sshfs", "blobfuse", "blobfuse2", "mount-s3", "juicefs"})
# They mount nothing new, or a folder in which everyone may write, or one that belongs to the named user.
_HARMLESS = re.compile(
    r"(^|,)(ro|bind|rbind|remount|move|(uid|umask|mp_umask|dir_mode|accesspoint)=[^,]+)(,|$)|^(tmpfs|proc|sysfs|devpts|overlay)$"
)
_FSTAB_LINE = re.compile(r"(?:\S+:\S*|/dev/\S+|UUID=\S+|LABEL=\S+)\s+(/[^\s'\"]+)\s+[a-z]\w+\s")
_CHANGES_OWNER = ("chown", "chmod", "setfacl", "install")


def check_mounts(file: ClusterFile) -> Iterator[Finding]:
    """Yield mounted folders that belong to root and that no later command makes writable for the user."""
    if file.ssh_user == "root":
        return
    for node in file.nodes:
        for place, step in enumerate(node.steps):
            for number, command in enumerate(step.commands):
                for folder in _roots_folders(command, node):
                    later = [*step.commands[number + 1 :], *_commands_of(node.steps[place + 1 :])]
                    if not any(_makes_writable(other, folder) for other in later):
                        yield _not_writable(step, folder, file.ssh_user)
                    if file.has_container and not step.in_container and not _is_volume(file, node, folder):
                        yield note(
                            f"{step.where}: {folder} is mounted outside the container in which Ray runs; add "
                            f"-v {folder}:{folder} to docker/run_options"
                        )


def mounted_on(command: Command) -> str:
    """Return the folder on which a `mount` command puts a file system, or an empty text if it is no such command."""
    is_mount = command.program == "mount" or command.program.startswith("mount.")
    if not is_mount or command.has_option("--bind", "--rbind", "--move", "--all", "-a", "-l", "--make-shared"):
        return ""
    if any(_HARMLESS.search(word) and "remount" in word for word in command.words):
        return ""
    return next(reversed(command.operands(_WITH_VALUE)), "")


def _roots_folders(command: Command, node: Node) -> list[str]:
    """Return the folders that belong to root after a command has mounted a file system on them."""
    if any(_HARMLESS.search(word) for word in command.words[1:]) or command.has_option(
        "-r", "--read-only", "--uid", "--dir-mode"
    ):
        return []
    if command.program in _USER_FILE_SYSTEMS and command.as_root:
        return command.operands(("-o", "--uid", "--gid"))[-1:]
    if command.program == "mount" and command.has_option("-a", "--all"):
        lines = (match for step in node.steps if "fstab" in step.text for match in _FSTAB_LINE.findall(step.text))
        return list(dict.fromkeys(lines))
    return [folder] if (folder := mounted_on(command)) else []


def _makes_writable(command: Command, folder: str) -> bool:
    """Whether a command gives a folder to the user, or stops the set-up if it is not writable."""
    path = PurePosixPath(folder)
    named = [PurePosixPath(word) for word in command.words[1:]]
    if command.program in ("[", "[[", "test"):
        return "-w" in command.words and path in named
    if command.program not in _CHANGES_OWNER or (command.program == "chmod" and not _adds_write(command)):
        return False
    is_deep = command.has_option("-R", "--recursive")
    return any(path == other or path in other.parents or (is_deep and other in path.parents) for other in named)


def _adds_write(command: Command) -> bool:
    mode = next(iter(command.operands()), "")
    if re.fullmatch("[0-7]+", mode):
        return bool(int(mode, 8) & 0o022)
    return "w" in mode


def _commands_of(steps: tuple[Step, ...]) -> Iterator[Command]:
    for step in steps:
        yield from step.commands


def _not_writable(step: Step, folder: str, user: str) -> Finding:
    return Finding(
        f"{step.where}: {folder} belongs to root after the mount, like every new file system, and no later "
        f'command makes it writable for {user or "the user"}; add [ -w {folder} ] || sudo chown "$USER" {folder}'
    )


def _is_volume(file: ClusterFile, node: Node, folder: str) -> bool:
    return any(folder in re.split(r"[\s:=,]", option) for option in file.run_options(node))
