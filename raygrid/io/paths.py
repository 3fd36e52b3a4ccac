"""Folders: those that raygrid creates, the cache of this node, and the prefix of unfinished files."""

import os
import tempfile
from pathlib import Path

from raygrid.errors import StoreError

TEMPORARY_PREFIX = ".writing-"
CACHE_VARIABLE = "RAYGRID_CACHE"
_FOLDER_REMEDY = (
    "choose another folder, or change the owner or the permissions (chown, chmod) and run the command again"
)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Create a folder and its parents where they are absent.

    Args:
        mode: permissions of the folder if it is new, before the umask.

    Raises StoreError if it cannot be created, or this user cannot write to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise StoreError(f"{folder} cannot be created ({error.strerror}); {_FOLDER_REMEDY}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(f"{folder} cannot be written to by this user; {_FOLDER_REMEDY}")


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
