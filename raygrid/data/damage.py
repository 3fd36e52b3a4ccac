"""Damaged files and suspect images.

A reader describes the damage; the loader knows the origin of the file, and adds the remedy. An image that can be read
but is probably not as its author meant it is kept, with a warning.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from raygrid.errors import DataError, one_line


class DamagedFileError(DataError):
    """A file that is absent, empty or damaged; the message names no remedy, which `with_remedy` adds."""


class SuspectImageWarning(UserWarning):
    """An image that was read, but is probably not as its author meant it.

    The message is the path, a colon and the observation, such as "one grey level after windowing". It is raised by
    `warnings.warn`; `raygrid prepare` counts these observations and lists them in the manifest.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@contextmanager
def with_remedy(remedy: str) -> Iterator[None]:
    """Run the block with a remedy, such as "download the file again", at the end of each DamagedFileError.

    Raises DataError in place of DamagedFileError; any other error passes unchanged.
    """
    try:
        yield
    except DamagedFileError as error:
        raise DataError(*error.with_context(after=f"; {remedy}").lines) from error


@contextmanager
def suspicions() -> Iterator[list[str]]:
    """Run the block, and yield the list that receives the message of each SuspectImageWarning.

    Other warnings are shown as they would be without this block.
    """
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", SuspectImageWarning)
        show = warnings.showwarning

        def collect(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SuspectImageWarning):
                found.append(str(message))
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = collect  # catch_warnings restores it
        yield found
