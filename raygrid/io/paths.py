"""The cache folder of this node, and the prefix of unfinished files."""

import os
import tempfile
from pathlib import Path

from raygrid.errors import StoreError

TEMPORARY_PREFIX = ".writing-"
CACHE_VARIABLE = "RAYGRID_CACHE"


def cache_dir() -> Path:
    """Return the cache folder of this node: $RAYGRID_CACHE, or a folder of the user in the temporary folder.

    Raises StoreError if the folder cannot be created or written to, or belongs to another user, who could then replace
    training images.
    """
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named).expanduser() if named else Path(tempfile.gettempdir()) / f"raygrid-{os.getuid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"the cache {folder} cannot be created ({error.strerror}); set {CACHE_VARIABLE} to a folder of your own"
        ) from error
    if not os.access(folder, os.W_OK):
        raise StoreError(f"the cache {folder} cannot be written to; set {CACHE_VARIABLE} to a folder of your own")
    if not named and folder.stat().st_uid != os.getuid():
        raise StoreError(f"the cache {folder} belongs to another user; set {CACHE_VARIABLE} to a folder of your own")
    return folder
