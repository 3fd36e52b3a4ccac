"""The virtual environments that set-up commands create, and the tests that decide whether they do."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath

from raygrid.study.cluster_file.config import Step, on_node
from raygrid.study.cluster_file.shell import Command

_WITH_VALUE = ("-p", "--python", "--prompt", "--seed-package", "--index", "--index-url", "--default-index", "-m")


def created_environments(step: Step) -> Iterator[PurePosixPath]:
    """Yield the folder of each virtual environment that a step creates, relative paths counted from its `cd`."""
    for command, folder in in_folders(step):
        operand = _environment(command)
        if operand is not None:
            yield on_node(folder / operand)


def in_folders(step: Step) -> Iterator[tuple[Command, PurePosixPath]]:
    """Yield each command with the folder in which it runs; every step starts in the user's home."""
    folder = PurePosixPath("~")
    for command in step.commands:
        yield command, folder
        if command.program == "cd":
            folder = on_node(folder / next(iter(command.operands()), "~"))


def trusted_environments(step: Step) -> set[PurePosixPath]:
    """Return the environments that a step does not create if there is a folder of their name, even an empty one."""
    guarded = {
        on_node(folder / operand)
        for command, folder in in_folders(step)
        if command.is_guarded and (operand := _environment(command)) is not None
    }
    return guarded & set(_tested_folders(step))


def _tested_folders(step: Step) -> Iterator[PurePosixPath]:
    """Yield each folder whose mere presence a step tests, as `[ -d FOLDER ]` does."""
    for command, folder in in_folders(step):
        if command.program in ("[", "[[", "test"):
            for option, operand in pairwise(command.words):
                if option in ("-d", "-e", "-a"):
                    yield on_node(folder / operand)
        elif command.program in ("ls", "stat") and command.is_guarded:
            for operand in command.operands():
                yield on_node(folder / operand)


def _environment(command: Command) -> str | None:
    """Return the folder operand of a command that creates a virtual environment, or None if it creates none."""
    if not command.words:
        return None
    operands = command.operands(_WITH_VALUE)
    if command.program == "uv" and operands[:1] in (["sync"], ["run"]):
        return ".venv"
    if command.program == "uv" and operands[:1] == ["venv"]:
        return operands[1] if len(operands) > 1 else ".venv"
    if re.fullmatch(r"python[0-9.]*", command.program) and re.search(r"-m (venv|virtualenv)( |$)", command.text):
        return operands[0] if operands else None
    if command.program == "virtualenv" and operands:
        return operands[-1]
    return None
