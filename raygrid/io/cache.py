"""Files of a node's own, made once from something slower to read: others on the node wait, then use the same file."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from raygrid.errors import StoreError
from raygrid.io.files import atomic_path, require_room
from raygrid.io.paths import CACHE_VARIABLE, TEMPORARY_PREFIX, cache_dir


def cached_file(name: str, num_bytes: int, write: Callable[[BinaryIO], None]) -> Path:
    """Return the path of the file `name` in the cache, written by `write` if it is not there.

    Args:
        name: stands for the content: the same name must always mean the same bytes.
        num_bytes: size of the finished file; a file of another size is written anew.

    Raises StoreError if the disk has no room for it, and what `write` raises; then nothing is left behind.
    """
    path = cache_dir() / name
    with FileLock(path.with_name(f"{name}.lock")):
        if path.exists() and path.stat().st_size == num_bytes:
            return path
        for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*-{name}"):  # of a process that was killed
            leftover.unlink()
        remedy = f"set {CACHE_VARIABLE} to a folder on a larger local disk"
        require_room(path.parent, num_bytes, "the decoded images", remedy)
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                write(file)
            if temporary.stat().st_size != num_bytes:
                raise StoreError(f"{path} came out with {temporary.stat().st_size} bytes, expected {num_bytes}")
    return path
