"""Damaged files: a reader describes the damage; the loader knows the origin of the file, and adds the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from raygrid.errors import DataError


class DamagedFileError(DataError):
    """A file that is absent, empty or damaged; the message names no remedy, which `with_remedy` adds."""


@contextmanager
def with_remedy(remedy: str) -> Iterator[None]:
    """Run the block with a remedy, such as "download the file again", at the end of each DamagedFileError.

    Raises DataError in place of DamagedFileError; any other error passes unchanged.
    """
    try:
        yield
    except DamagedFileError as error:
        raise DataError(f"{error}; {remedy}") from error
