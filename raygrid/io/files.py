"""Atomic files: a reader finds a complete file or none, never a partial one."""

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
from raygrid.io.mirror import upload
from raygrid.io.paths import TEMPORARY_PREFIX

SPACE_REMEDY = "free space (`raygrid clean` lists files that a study no longer uses) and run the same command again"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; after the block, sync the file and rename it to `path`.

    In the mirror of a folder in object storage, the file is uploaded before the rename: a file that exists on one node
    is available to all. If the block raises, the temporary file is removed and `path` stays unchanged.

    Raises StoreError if the file cannot be written or uploaded.
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
            f"{path} cannot be written ({error}); check free space and permissions, and run the same command again"
        ) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def require_space(folder: Path, num_bytes: float, content: str, remedy: str) -> None:
    """Check that the disk of a folder has enough free space; quotas are not considered.

    Args:
        content: the subject of the message, plural: "the decoded images".
        remedy: an imperative without a full stop.

    Raises StoreError with the free and the needed space if the disk has too little.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise StoreError(f"{folder} has {free / 1e9:.1f} GB free, {content} need {num_bytes / 1e9:.1f} GB; {remedy}")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`. Raises StoreError if the file is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist; run the study again") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not valid JSON ({error}); delete it and run the study again") from error


def checksum(path: Path) -> str:
    """Return the SHA-256 (hex) of a file. Raises StoreError if it is absent."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist; delete its folder and run the study again") from None
