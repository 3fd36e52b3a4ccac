"""Check commands that install packages: pip outside a virtual environment, apt on a new machine, and those of Ray."""

import re
from collections.abc import Iterator

from raygrid.study.cluster_file.config import START, ClusterFile, Finding, Node, Step, note
from raygrid.study.cluster_file.shell import Command

_SYSTEM_FOLDER = r"(/usr/bin/|/bin/)?"
_PIP = re.compile(rf"{_SYSTEM_FOLDER}pip[0-9.]*")
_PYTHON = re.compile(rf"{_SYSTEM_FOLDER}python[0-9.]*")
_ELSEWHERE = ("--break-system-packages", "--target", "-t", "--prefix", "--root", "--python", "--dry-run")
# A line for the shell's start-up file that makes an environment the one of every later command
_ACTIVATION = re.compile(r"activate|PATH=|shell\.\w+ hook")
_CONDA = ("conda", "mamba", "micromamba")  # their `init` writes into the start-up file
START_UP_FILE = re.compile(r"\.(bashrc|bash_profile|profile)\b|/etc/(environment|profile)")
_LOCK_TIMEOUT = "dpkg::lock::timeout"
_ANSWERS = re.compile(r"\byes\s*\||assume-yes|\s-q=2\b", re.IGNORECASE)
_WAITS_FOR_LOCK = re.compile(
    r"dpkg/lock|cloud-init\s+status\s+(-w|--wait)|unattended-upgrades|apt-daily|apt\.conf.*dpkg::lock|"
    r"dpkg::lock.*apt\.conf|(pkill|killall)\s.*\b(apt|dpkg)|\b(until|break)\b",  # or a loop until it succeeds
    re.IGNORECASE | re.DOTALL,
)


def check_packages(file: ClusterFile) -> Iterator[Finding]:
    """Yield installations that a new machine refuses, or that fail while it installs its own upgrades."""
    for node in file.nodes:
        yield from _pip(node)
        yield from _apt(node, file)


def installs_with_system_pip(command: Command) -> bool:
    """Whether a command calls the system's pip to install something, as far as its own words say."""
    words = command.words
    if not words or "PIP_BREAK_SYSTEM_PACKAGES" in command.variables or command.has_option(*_ELSEWHERE):
        return False
    if _PIP.fullmatch(words[0]):
        return command.operands()[:1] in (["install"], ["uninstall"])
    if _PYTHON.fullmatch(words[0]):
        return re.search(r"(^| )-\w*m ?pip (\S+ )*?(un)?install\b", " ".join(words[1:])) is not None
    return command.program == "uv" and words[1:3] == ("pip", "install") and command.has_option("--system")


def _pip(node: Node) -> Iterator[Finding]:
    is_active = False  # whether the start-up file of the shell activates an environment
    for step in node.steps:
        if step.in_container or step.is_rays:  # an image decides for itself; added commands are named elsewhere
            continue
        is_active_here = is_active
        for command in step.commands:
            if _activates(command):
                is_active_here = True
            elif installs_with_system_pip(command) and (command.as_root or not (is_active_here or _has_path(command))):
                yield note(
                    f"{step.where}: {command.text!r} uses the system's pip, which refuses on Debian 12 and Ubuntu "
                    '24.04 ("externally-managed-environment"); install into a virtual environment, as in '
                    "python3 -m venv ~/env && ~/env/bin/pip install ..."
                )
        is_active |= bool(START_UP_FILE.search(step.text) and _ACTIVATION.search(step.text))
        is_active |= any(other.program in _CONDA and "init" in other.operands() for other in step.commands)


def _activates(command: Command) -> bool:
    if command.program in ("source", ".", "pyenv", *_CONDA):
        return any(re.search(r"(^|/)activate$|^shell$", word) for word in command.words[1:])
    return command.program in ("", "export") and _has_path(command)


def _has_path(command: Command) -> bool:
    return bool({"PATH", "VIRTUAL_ENV"} & command.variables.keys())


def _apt(node: Node, file: ClusterFile) -> Iterator[Finding]:
    waits = False
    updated: list[bool] = []  # where the lists were brought up to date: in the container, on its host
    for step in node.steps:
        waits |= bool(_WAITS_FOR_LOCK.search(step.text))
        for command in step.commands if step.stage != START else ():
            if command.program == "add-apt-repository":  # updates the lists
                updated.append(step.in_container)
            if command.program not in ("apt-get", "apt", "aptitude"):
                continue
            action = next(iter(command.operands(("-o", "-t", "-c", "--option"))), "")
            if action == "update":
                updated.append(step.in_container)
            elif action in ("install", "upgrade", "dist-upgrade", "full-upgrade"):
                yield from _installation(step, command, waits, step.in_container in updated, file.is_cloud)


def _installation(step: Step, command: Command, waits: bool, updated: bool, is_cloud: bool) -> Iterator[Finding]:
    shown = f"{step.where}: {command.text!r}"
    if not (waits or step.in_container or any(_LOCK_TIMEOUT in word.lower() for word in command.words)):
        yield Finding(
            f"{shown} fails while the machine holds dpkg's lock, as Ubuntu does during the upgrades of "
            "its first boot; add -o DPkg::Lock::Timeout=300",
            is_fault=is_cloud,
        )
    if not updated:
        yield Finding(
            f"{shown} relies on the package lists of the image, which are old or absent; run apt-get update before it",
            is_fault=is_cloud or step.in_container,
        )
    if not (command.has_option("-y", "--yes", "--assume-yes", "-qq") or _ANSWERS.search(step.text)):
        yield note(f"{shown} asks for confirmation, and nobody answers; add -y")


def added_commands(file: ClusterFile) -> Iterator[Finding]:
    """Yield the commands that `ray up` would run although the file does not name them.

    It is a fault if one installs packages outside a container: the system's pip refuses on Debian 12 and Ubuntu 24.04.
    """
    harmless: dict[str, list[str]] = {}
    for step in file.steps:
        key = step.where.partition("[")[0]
        if step.is_rays and not step.in_container and any(map(installs_with_system_pip, step.commands)):
            yield Finding(
                f"{key}: absent, so Ray runs {step.text!r} with the system's pip, which refuses that on Debian 12 and "
                f"Ubuntu 24.04; add the list, or {key}: []"
            )
        elif step.is_rays:
            harmless.setdefault(key, []).append(repr(step.text))
    for key, texts in harmless.items():
        yield note(f"{key}: absent, so Ray runs {' and '.join(texts)}; add the list to choose the commands yourself")
