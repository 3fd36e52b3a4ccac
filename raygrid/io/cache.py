"""Files that a node derives once from slower sources. Other processes on the node wait, then use the same file."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from raygrid.errors import StoreError
from raygrid.io.files import atomic_path, require_space
from raygrid.io.paths import CACHE_VARIABLE, TEMPORARY_PREFIX, cache_dir


def cached_file(name: str, num_bytes: int, write: Callable[[BinaryIO], None]) -> Path:
    """Return the path of the file `name` in the cache, written by `write` if it is absent.

    Args:
        name: identifies the content; the same name must always mean the same bytes.
        num_bytes: size of the finished file; a file of another size is written again.

    Raises StoreError if the disk has too little free space or `write` writes another number of bytes, and every error
    of `write`. After an error, no partial file remains.
    """
    path = cache_dir() / name
    with FileLock(path.with_name(f"{name}.lock")):
        if path.exists() and path.stat().st_size == num_bytes:
            return path
        for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*-{name}"):  # left by a process that was killed
            leftover.unlink()
        remedy = f"set {CACHE_VARIABLE} to a folder on a larger local disk"
        require_space(path.parent, num_bytes, "the decoded images", remedy)
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                write(file)
            if temporary.stat().st_size != num_bytes:
                raise StoreError(
                    f"{path}: expected {num_bytes} bytes, got {temporary.stat().st_size}; report this, it is a defect"
                )
    return path
