"""Mirrors: each node works on a local copy of a folder in object storage.

A marker file identifies a mirror, so any process on the node finds the URL of a path below it. `raygrid.io.files`
uploads every file that it writes; `pull` downloads the files of other nodes. For a path outside of mirrors these
functions do nothing or act on the local file, so the other packages do not distinguish the two.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from raygrid.errors import SpecError, StoreError
from raygrid.io.heartbeat import require_lease
from raygrid.io.object_storage import ObjectVersion, Remote, is_url, parse
from raygrid.io.paths import CACHE_VARIABLE, TEMPORARY_PREFIX, cache_dir, make_folder

FOLDER = "raygrid-mirrors"  # every mirror lies below a folder of this name, so other paths need no search
MARKER = ".raygrid-mirror.json"

_THREADS = 8
_LOCAL_FILES = (MARKER, "driver.lock")  # never uploaded


@dataclass(frozen=True)
class Mirror:
    """A local folder and its remote folder.

    Attributes:
        identity: random, created with the local folder: processes that read the same identity share the folder.
    """

    root: Path
    remote: Remote
    identity: str

    def name(self, path: Path) -> str:
        """Return the object name of a local path, relative to the remote folder; "" for the mirror itself."""
        relative = path.relative_to(self.root).as_posix()
        return "" if relative == "." else relative


def mirror_of(path: Path) -> Mirror | None:
    """Return the mirror of a path, None for an ordinary path."""
    if FOLDER not in path.parts:
        return None
    root = next((folder for folder in (path, *path.parents) if (folder / MARKER).exists()), None)
    return None if root is None else _read(root)


def upload(temporary: Path, path: Path) -> None:
    """Upload a finished temporary file as the object of `path`, if `path` lies in a mirror.

    The upload precedes the rename: a local file must not count as finished while the other nodes lack it. The file
    gets the server's modification time, which later shows whether it is current.

    Raises StoreError if the upload fails, or if another driver has taken over the folder of this one.
    """
    mirror = mirror_of(path)
    if mirror is not None:
        require_lease(mirror.remote)
        version = mirror.remote.upload(temporary, mirror.name(path))
        os.utime(temporary, (version.modified_s, version.modified_s))


def remove(path: Path) -> None:
    """Delete a file or a folder, if present; in object storage first, so a failure leaves the local copy in place.

    Raises StoreError if the storage refuses the deletion or does not answer, or if another driver has taken over.
    """
    mirror = mirror_of(path)
    if mirror is not None:
        require_lease(mirror.remote)
        mirror.remote.delete(mirror.name(path))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=64)
def _read(root: Path) -> Mirror:
    values = json.loads((root / MARKER).read_text(encoding="utf-8"))
    return Mirror(root, parse(values["url"]), str(values["identity"]))


def local_dir(location: str | Path) -> Path:
    """Return the local folder of a location: a path unchanged; for a URL, this node's mirror, which may be empty.

    Raises SpecError if the URL is invalid, StoreError if its bucket is absent or access is refused.
    """
    text = str(location)
    if re.match(r"(s3|gs):/", text) and not is_url(text):
        raise SpecError(f"{text}: expected a URL as text, got a Path made of one; pass the URL as a str")
    if not is_url(text):
        return Path(location)
    remote = parse(text)
    _check(remote.url)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{remote.bucket}-{remote.prefix}").strip("-")[-60:]
    root = cache_dir().absolute() / FOLDER / f"{readable}-{hashlib.sha256(remote.url.encode()).hexdigest()[:12]}"
    if not (root / MARKER).exists():
        _mark(root, remote.url)
    return root


def to_portable(folder: Path) -> str:
    """Return a text from which `from_portable` finds this folder on any node; its path may differ between nodes."""
    mirror = mirror_of(folder)
    return str(folder) if mirror is None else f"{mirror.remote.url}#{mirror.name(folder)}"


def from_portable(location: str) -> Path:
    """Return this node's folder for a text of `to_portable`. Raises the errors of `local_dir`."""
    if not is_url(location):
        return Path(location)
    url, _, name = location.partition("#")
    return local_dir(url) / name


def display_path(path: Path) -> str:
    """Return the URL of a path in a mirror, any other path unchanged; for messages."""
    mirror = mirror_of(path)
    if mirror is None:
        return str(path)
    name = mirror.name(path)
    return f"{mirror.remote.url.partition('?')[0]}{'/' if name else ''}{name}"


def display_path_and_url(path: Path) -> str:
    """Return the absolute path of a file, followed by its URL if it lies in a mirror; for messages."""
    return str(path.absolute()) if display_path(path) == str(path) else f"{path.absolute()} ({display_path(path)})"


def pull(path: Path, *, only: Sequence[str] = ("*",), without: Sequence[str] = ()) -> None:
    """Update a file, or all files below a folder, from object storage, if the path lies in a mirror.

    Changed files are downloaded, and files whose object is gone are removed. Temporary files stay.

    Args:
        only: patterns of file names (not of paths) to update.
        without: patterns of file names to leave alone; they take precedence over `only`.

    Raises StoreError if the storage refuses or does not answer.
    """
    mirror = mirror_of(path)
    if mirror is None:
        return

    def chosen(name: str) -> bool:
        file = name.rpartition("/")[2]
        return _matches(file, only) and not _matches(file, without)

    # this order: a file that a worker uploads between the two listings must not be taken for a deleted one
    here = {mirror.name(file) for file in _files(path)}
    there = mirror.remote.list(mirror.name(path))
    for folder in {(mirror.root / name).parent for name in there}:
        make_folder(folder)  # also for files that are not downloaded: callers list folders
    wanted = {name: version for name, version in there.items() if chosen(name)}
    if _stale(mirror, wanted):
        with FileLock(_lock_path(mirror, path)):  # other processes of this node may download the same files
            _fetch_all(mirror, _stale(mirror, wanted))
    for name in here - there.keys():
        if chosen(name):
            (mirror.root / name).unlink(missing_ok=True)
            _prune(mirror.root, (mirror.root / name).parent)


def push(path: Path) -> None:
    """Upload a file, or all files below a folder, unless object storage has the same; for files of other programs.

    Raises StoreError if the storage refuses or does not answer.
    """
    mirror = mirror_of(path)
    if mirror is None:
        return
    there = mirror.remote.list(mirror.name(path))
    for file in _files(path):
        known = there.get(mirror.name(file))
        if known is None or not _is_same(file, known):
            upload(file, file)


def exists(path: Path) -> bool:
    """Whether a file exists; for a path in a mirror, whether object storage has it."""
    mirror = mirror_of(path)
    return path.exists() if mirror is None else mirror.remote.stat(mirror.name(path)) is not None


def num_bytes(path: Path) -> int:
    """Return the size of a file or of all files below a folder; for a path in a mirror, the size in object storage."""
    mirror = mirror_of(path)
    if mirror is not None and TEMPORARY_PREFIX not in path.name:
        return sum(version.num_bytes for version in mirror.remote.list(mirror.name(path)).values())
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


@lru_cache(maxsize=64)
def _check(url: str) -> None:
    parse(url).check()


def _mark(root: Path, url: str) -> None:
    """Create the folder and its marker; if several processes do, the first marker stays."""
    make_folder(root, mode=0o700)
    temporary = root / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{MARKER}"
    temporary.write_text(json.dumps({"url": url, "identity": uuid.uuid4().hex}), encoding="utf-8")
    try:
        os.link(temporary, root / MARKER)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _files(path: Path) -> Iterable[Path]:
    """Return the shared files: neither temporary files nor files for this node only."""
    found = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return [p for p in found if not p.name.startswith(TEMPORARY_PREFIX) and p.name not in _LOCAL_FILES]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_same(file: Path, version: ObjectVersion) -> bool:
    try:
        known = file.stat()
    except FileNotFoundError:
        return False
    return ObjectVersion(known.st_size, int(known.st_mtime)) == version


def _stale(mirror: Mirror, wanted: dict[str, ObjectVersion]) -> dict[str, ObjectVersion]:
    return {name: version for name, version in wanted.items() if not _is_same(mirror.root / name, version)}


def _lock_path(mirror: Mirror, path: Path) -> Path:
    folder = mirror.root.with_name(f"{mirror.root.name}.locks")
    make_folder(folder)
    return folder / hashlib.sha256(mirror.name(path).encode()).hexdigest()[:12]


def _fetch_all(mirror: Mirror, wanted: dict[str, ObjectVersion]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        running = [pool.submit(_fetch, mirror, name, version) for name, version in wanted.items()]
        for each in running:
            each.result()


def _fetch(mirror: Mirror, name: str, version: ObjectVersion) -> None:
    """Download an object under a temporary name, and rename it; skip an object deleted meanwhile."""
    path = mirror.root / name
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        mirror.remote.download(name, temporary)
        os.utime(temporary, (version.modified_s, version.modified_s))
        temporary.replace(path)
    except FileNotFoundError:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error}); free space, or set {CACHE_VARIABLE} to a folder on a larger disk"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _prune(root: Path, folder: Path) -> None:
    """Remove empty folders from `folder` upwards, but not the mirror itself."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
