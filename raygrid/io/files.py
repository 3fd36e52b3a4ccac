"""Files that are either whole or not there: a reader never meets a half-written one."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raygrid.errors import StoreError
from raygrid.io.mirror import remove as remove
from raygrid.io.mirror import upload
from raygrid.io.paths import TEMPORARY_PREFIX

ROOM_REMEDY = "make room (`raygrid clean` lists what a study no longer uses) and run the same command again"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it is synced and renamed to `path`.

    In a study folder in object storage it is uploaded first, so that what is there on one node is there on all.

    Raises StoreError if it cannot be written: a full disk, a folder that may not be made, storage that does not answer.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        upload(temporary, path)
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error}); see to space and permissions, and run the same command again"
        ) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def require_room(folder: Path, num_bytes: float, what: str, remedy: str) -> None:
    """Return nothing if the disk of a folder has room for what is to come, however little is sure of a quota.

    Args:
        what: what is to come, as in "the decoded images".
        remedy: what to do about it, without a full stop.

    Raises StoreError that says how much is free and how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise StoreError(f"{folder} has {free / 1e9:.1f} GB free, {what} need {num_bytes / 1e9:.1f} GB; {remedy}")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`. Raises StoreError if it is not there or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is not there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not readable as JSON ({error}); delete it and run the study again") from error


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file. Raises StoreError if it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise StoreError(f"{path} is not there; delete its folder and run the study again") from None
