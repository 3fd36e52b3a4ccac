"""Studies and raw data in object storage: each node works on a local folder of its own that mirrors the remote one.

Writing goes through `raygrid.io.files`, which uploads; `pull` brings what other nodes wrote. A path that is no mirror
is left alone by all of this, so that the other rooms need not know which kind they have.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from raygrid.errors import SpecError, StoreError
from raygrid.io.cache import cache_dir
from raygrid.io.files import TEMPORARY_PREFIX
from raygrid.io.object_storage import Stamp, is_url, parse
from raygrid.io.replica import FOLDER, MARKER, Replica, publish, replica_of

_THREADS = 8
_OWN = (MARKER, "driver.lock")  # files of this node's that no other has


def attach(location: str | Path) -> Path:
    """Return the local folder of a location: a path as it is, a URL as this node's mirror of it, still empty.

    Raises SpecError for a URL that cannot be used, StoreError if its bucket is not there or refuses.
    """
    text = str(location)
    if re.match(r"(s3|gs):/", text) and not is_url(text):
        raise SpecError(f"{text} was a URL before it was made a path; give raygrid.io.mirror.attach the URL as text")
    if not is_url(text):
        return Path(location)
    remote = parse(text)
    _check(remote.url)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{remote.bucket}-{remote.prefix}").strip("-")[-60:]
    root = cache_dir().absolute() / FOLDER / f"{readable}-{hashlib.sha256(remote.url.encode()).hexdigest()[:12]}"
    if not (root / MARKER).exists():
        _mark(root, remote.url)
    return root


def location(folder: Path) -> str:
    """Return what leads any node to a folder by `folder_at`; its path is not the same on all."""
    replica = replica_of(folder)
    return str(folder) if replica is None else f"{replica.remote.url}#{replica.name(folder)}"


def folder_at(location: str) -> Path:
    """Return this node's folder for what `location` returned on another one. Raises as `attach` does."""
    if not is_url(location):
        return Path(location)
    url, _, name = location.partition("#")
    return attach(url) / name


def shown(path: Path) -> str:
    """Return a path as a person knows it: what lies in a mirror by its URL."""
    replica = replica_of(path)
    if replica is None:
        return str(path)
    name = replica.name(path)
    return f"{replica.remote.url.partition('?')[0]}{'/' if name else ''}{name}"


def whereabouts(path: Path) -> str:
    """Return where a file can be opened: its path, and for what lies in a mirror its URL, too."""
    return str(path.absolute()) if shown(path) == str(path) else f"{path.absolute()} ({shown(path)})"


def pull(path: Path, *, only: Sequence[str] = ("*",), without: Sequence[str] = ()) -> None:
    """Bring a file, or all below a folder, to what object storage has now; nothing to do outside of mirrors.

    What has changed is fetched, what is no longer there is removed here; files in the making stay.

    Args:
        only: patterns of file names (not of paths); other files are left as they are.
        without: patterns of file names that are left as they are all the same.

    Raises StoreError if the storage refuses or does not answer.
    """
    replica = replica_of(path)
    if replica is None:
        return

    def chosen(name: str) -> bool:
        file = name.rpartition("/")[2]
        return _matches(file, only) and not _matches(file, without)

    # the order matters: a file that a worker publishes after the look at this disk must not seem to be deleted
    here = {replica.name(file) for file in _files(path)}
    there = replica.remote.list(replica.name(path))
    for folder in {(replica.root / name).parent for name in there}:
        folder.mkdir(parents=True, exist_ok=True)  # also of what is left where it is: folders are looked at
    wanted = {name: stamp for name, stamp in there.items() if chosen(name)}
    if _stale(replica, wanted):
        with FileLock(_lock_path(replica, path)):  # other processes of this node want the same
            _fetch_all(replica, _stale(replica, wanted))
    for name in here - there.keys():
        if chosen(name):
            (replica.root / name).unlink(missing_ok=True)
            _prune(replica.root, (replica.root / name).parent)


def push(path: Path) -> None:
    """Upload a file, or all below a folder, where object storage has none or another; for what others write here.

    Raises StoreError if the storage refuses or does not answer.
    """
    replica = replica_of(path)
    if replica is None:
        return
    there = replica.remote.list(replica.name(path))
    for file in _files(path):
        known = there.get(replica.name(file))
        if known is None or not _is_same(file, known):
            publish(file, file)


def exists(path: Path) -> bool:
    """Whether a file is there, for a mirror: in object storage, be it on this node or not."""
    replica = replica_of(path)
    return path.exists() if replica is None else replica.remote.stat(replica.name(path)) is not None


def num_bytes(path: Path) -> int:
    """Return the size of a file or of all files below a folder, of a mirror as it is in object storage."""
    replica = replica_of(path)
    if replica is not None and TEMPORARY_PREFIX not in path.name:
        return sum(stamp.num_bytes for stamp in replica.remote.list(replica.name(path)).values())
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


def _is_same(file: Path, stamp: Stamp) -> bool:
    try:
        known = file.stat()
    except FileNotFoundError:
        return False
    return Stamp(known.st_size, int(known.st_mtime)) == stamp


def _stale(replica: Replica, wanted: dict[str, Stamp]) -> dict[str, Stamp]:
    return {name: stamp for name, stamp in wanted.items() if not _is_same(replica.root / name, stamp)}


def _lock_path(replica: Replica, path: Path) -> Path:
    folder = replica.root.with_name(f"{replica.root.name}.locks")
    folder.mkdir(exist_ok=True)
    return folder / hashlib.sha256(replica.name(path).encode()).hexdigest()[:12]


def _fetch_all(replica: Replica, wanted: dict[str, Stamp]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        running = [pool.submit(_fetch, replica, name, stamp) for name, stamp in wanted.items()]
        for each in running:
            each.result()


def _fetch(replica: Replica, name: str, stamp: Stamp) -> None:
    """Download an object under a temporary name, and rename it; one that was deleted meanwhile is passed over."""
    path = replica.root / name
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")
    try:
        replica.remote.download(name, temporary)
        os.utime(temporary, (stamp.modified_s, stamp.modified_s))
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
