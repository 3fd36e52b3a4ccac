"""Local folders that stand for folders in object storage: what is written to one is uploaded, what is removed deleted.

A folder is known by a marker file, so that any process on the node that is given a path below it finds its URL.
"""

import json
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from raygrid.io.object_storage import Remote, parse

FOLDER = "raygrid-mirrors"  # all replicas lie below a folder of this name: other paths need no looking
MARKER = ".raygrid-mirror.json"


@dataclass(frozen=True)
class Replica:
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


def replica_of(path: Path) -> Replica | None:
    """Return the replica that a path lies in, None for an ordinary path."""
    if FOLDER not in path.parts:
        return None
    root = next((folder for folder in (path, *path.parents) if (folder / MARKER).exists()), None)
    return None if root is None else _read(root)


def publish(temporary: Path, path: Path) -> None:
    """Upload a finished file that is about to be renamed to `path`; nothing to do outside of replicas.

    Before the rename: a local file must not count as done while the other nodes lack it. It takes over the server's
    time, by which it is later known to be the same.

    Raises StoreError if it cannot be uploaded.
    """
    replica = replica_of(path)
    if replica is not None:
        stamp = replica.remote.upload(temporary, replica.name(path))
        os.utime(temporary, (stamp.modified_s, stamp.modified_s))


def remove(path: Path) -> None:
    """Delete a file or a folder that may not be there, in object storage first: the copy here is what can be lost.

    Raises StoreError if the storage does not let it be deleted.
    """
    replica = replica_of(path)
    if replica is not None:
        replica.remote.delete(replica.name(path))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=64)
def _read(root: Path) -> Replica:
    values = json.loads((root / MARKER).read_text(encoding="utf-8"))
    return Replica(root, parse(values["url"]), str(values["identity"]))
