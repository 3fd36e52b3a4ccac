"""This node's cache folder, and the prefix of files that are still being written."""

import os
import tempfile
from pathlib import Path

from raygrid.errors import StoreError

TEMPORARY_PREFIX = ".writing-"
CACHE_VARIABLE = "RAYGRID_CACHE"


def cache_dir() -> Path:
    """Return the folder of this node's files: $RAYGRID_CACHE, or one of the user's own in the temporary folder.

    Raises StoreError if it cannot be made or belongs to somebody else, who could then change what is trained on.
    """
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named).expanduser() if named else Path(tempfile.gettempdir()) / f"raygrid-{os.getuid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"the cache {folder} cannot be made ({error.strerror}); set {CACHE_VARIABLE} to a folder of your own"
        ) from error
    if not os.access(folder, os.W_OK):
        raise StoreError(f"the cache {folder} cannot be written to; set {CACHE_VARIABLE} to a folder of your own")
    if not named and folder.stat().st_uid != os.getuid():
        raise StoreError(f"{folder} belongs to another user; set {CACHE_VARIABLE} to a folder of your own")
    return folder
