"""Mirrors: each node works on a local folder that stands for a folder in object storage.

A mirror is known by a marker file, so that any process on the node that is given a path below it finds its URL.
Writing goes through `raygrid.io.files`, which uploads; `pull` brings what other nodes wrote. A path that is no mirror
is left alone by all of this, so that the other rooms need not know which kind they have.
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
from raygrid.io.object_storage import ObjectVersion, Remote, is_url, parse
from raygrid.io.paths import TEMPORARY_PREFIX, cache_dir

FOLDER = "raygrid-mirrors"  # all mirrors lie below a folder of this name: other paths need no looking
MARKER = ".raygrid-mirror.json"

_THREADS = 8
_OWN = (MARKER, "driver.lock")  # files of this node's that no other has


@dataclass(frozen=True)
class Mirror:
    """A local folder and what it stands for.

    Attributes:
        identity: random, made with the folder: two processes that see the same have the same folder.
    """

    root: Path
    remote: Remote
    identity: str

    def name(self, path: Path) -> str:
        """Return the name, relative to the remote folder, of what a local path stands for."""
        relative = path.relative_to(self.root).as_posix()
        return "" if relative == "." else relative


def mirror_of(path: Path) -> Mirror | None:
    """Return the mirror that a path lies in, None for an ordinary path."""
    if FOLDER not in path.parts:
        return None
    root = next((folder for folder in (path, *path.parents) if (folder / MARKER).exists()), None)
    return None if root is None else _read(root)


def upload(temporary: Path, path: Path) -> None:
    """Upload a finished file that is about to be renamed to `path`; nothing to do outside of mirrors.

    Before the rename: a local file must not count as done while the other nodes lack it. It takes over the server's
    time, by which it is later known to be the same.

    Raises StoreError if it cannot be uploaded.
    """
    mirror = mirror_of(path)
    if mirror is not None:
        version = mirror.remote.upload(temporary, mirror.name(path))
        os.utime(temporary, (version.modified_s, version.modified_s))


def remove(path: Path) -> None:
    """Delete a file or a folder that may not be there, in object storage first: the copy here is what can be lost.

    Raises StoreError if the storage does not let it be deleted.
    """
    mirror = mirror_of(path)
    if mirror is not None:
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
    """Return the local folder of a location: a path as it is, a URL as this node's mirror of it, still empty.

    Raises SpecError for a URL that cannot be used, StoreError if its bucket is not there or refuses.
    """
    text = str(location)
    if re.match(r"(s3|gs):/", text) and not is_url(text):
        raise SpecError(f"{text} was a URL before it was made a path; give raygrid.io.mirror.local_dir the URL as text")
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
    """Return what leads any node to a folder by `folder_at`; its path is not the same on all."""
    mirror = mirror_of(folder)
    return str(folder) if mirror is None else f"{mirror.remote.url}#{mirror.name(folder)}"


def from_portable(location: str) -> Path:
    """Return this node's folder for what `location` returned on another one. Raises as `attach` does."""
    if not is_url(location):
        return Path(location)
    url, _, name = location.partition("#")
    return local_dir(url) / name


def display_path(path: Path) -> str:
    """Return a path as a person knows it: what lies in a mirror by its URL."""
    mirror = mirror_of(path)
    if mirror is None:
        return str(path)
    name = mirror.name(path)
    return f"{mirror.remote.url.partition('?')[0]}{'/' if name else ''}{name}"


def display_path_and_url(path: Path) -> str:
    """Return where a file can be opened: its path, and for what lies in a mirror its URL, too."""
    return str(path.absolute()) if display_path(path) == str(path) else f"{path.absolute()} ({display_path(path)})"


def pull(path: Path, *, only: Sequence[str] = ("*",), without: Sequence[str] = ()) -> None:
    """Bring a file, or all below a folder, to what object storage has now; nothing to do outside of mirrors.

    What has changed is fetched, what is no longer there is removed here; files in the making stay.

    Args:
        only: patterns of file names (not of paths); other files are left as they are.
        without: patterns of file names that are left as they are all the same.

    Raises StoreError if the storage refuses or does not answer.
    """
    mirror = mirror_of(path)
    if mirror is None:
        return

    def chosen(name: str) -> bool:
        file = name.rpartition("/")[2]
        return _matches(file, only) and not _matches(file, without)

    # the order matters: a file that a worker publishes after the look at this disk must not seem to be deleted
    here = {mirror.name(file) for file in _files(path)}
    there = mirror.remote.list(mirror.name(path))
    for folder in {(mirror.root / name).parent for name in there}:
        folder.mkdir(parents=True, exist_ok=True)  # also of what is left where it is: folders are looked at
    wanted = {name: version for name, version in there.items() if chosen(name)}
    if _stale(mirror, wanted):
        with FileLock(_lock_path(mirror, path)):  # other processes of this node want the same
            _fetch_all(mirror, _stale(mirror, wanted))
    for name in here - there.keys():
        if chosen(name):
            (mirror.root / name).unlink(missing_ok=True)
            _prune(mirror.root, (mirror.root / name).parent)


def push(path: Path) -> None:
    """Upload a file, or all below a folder, where object storage has none or another; for what others write here.

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
    """Whether a file is there, for a mirror: in object storage, be it on this node or not."""
    mirror = mirror_of(path)
    return path.exists() if mirror is None else mirror.remote.stat(mirror.name(path)) is not None


def num_bytes(path: Path) -> int:
    """Return the size of a file or of all files below a folder, of a mirror as it is in object storage."""
    mirror = mirror_of(path)
    if mirror is not None and TEMPORARY_PREFIX not in path.name:
        return sum(version.num_bytes for version in mirror.remote.list(mirror.name(path)).values())
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


@lru_cache(maxsize=64)
def _check(url: str) -> None:
    parse(url).check()


def _mark(root: Path, url: str) -> None:
    """Make the folder and its marker; of several processes the first one's stays."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = root / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{MARKER}"
    temporary.write_text(json.dumps({"url": url, "identity": uuid.uuid4().hex}), encoding="utf-8")
    try:
        os.link(temporary, root / MARKER)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _files(path: Path) -> Iterable[Path]:
    """Return the files that the other nodes have, too: none in the making, none of this node's own."""
    found = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return [p for p in found if not p.name.startswith(TEMPORARY_PREFIX) and p.name not in _OWN]


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
    folder.mkdir(exist_ok=True)
    return folder / hashlib.sha256(mirror.name(path).encode()).hexdigest()[:12]


def _fetch_all(mirror: Mirror, wanted: dict[str, ObjectVersion]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        running = [pool.submit(_fetch, mirror, name, version) for name, version in wanted.items()]
        for each in running:
            each.result()


def _fetch(mirror: Mirror, name: str, version: ObjectVersion) -> None:
    """Download an object under a temporary name, and rename it; one that was deleted meanwhile is passed over."""
    path = mirror.root / name
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        mirror.remote.download(name, temporary)
        os.utime(temporary, (version.modified_s, version.modified_s))
        temporary.replace(path)
    except FileNotFoundError:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); see to the space of RAYGRID_CACHE") from error
    finally:
        temporary.unlink(missing_ok=True)


def _prune(root: Path, folder: Path) -> None:
    """Remove folders that have become empty, up to the mirror's own."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
