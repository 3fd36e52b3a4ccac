"""Prepared images, decoded once per node into a flat file that every training maps: one copy, and only what is used.

Parquet must be decompressed to be read, and a trial that did so would hold a copy of its own. The first process of a
node that asks decodes the shards, a few rows at a time, into a local cache; others wait for it and then map the file.
The operating system keeps the pages that are used and drops them when memory is short, so the images of a modality
need not fit into memory.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from raygrid.errors import StoreError
from raygrid.files import TEMPORARY_PREFIX, atomic_path
from raygrid.image_column import COLUMN, image_shape, images_of

CACHE_VARIABLE = "RAYGRID_CACHE"
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class MappedImages:
    """Some rows of a mapped file; indexing reads just the images that are asked for.

    Attributes:
        stored: (all images of the file, height, width, channel) uint8, on disk.
        rows: (n,) places in `stored`, in the order in which these images are counted.
    """

    stored: NDArray[np.uint8]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the images at `positions` as an array in memory, (k, height, width, channel) uint8."""
        return np.asarray(self.stored[self.rows[positions]])


def cache_dir() -> Path:
    """Return the folder of this node's mapped files: $RAYGRID_CACHE, or one of the user's own in the temporary folder.

    Raises StoreError if that folder belongs to somebody else, who could then change what is trained on.
    """
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"raygrid-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not named and folder.stat().st_uid != os.getuid():
        raise StoreError(f"{folder} belongs to another user; set {CACHE_VARIABLE} to a folder of your own")
    return folder


def map_images(key: str, shards: Sequence[Path]) -> NDArray[np.uint8]:
    """Return the images of Parquet shards, in their order, as one mapped array (n, height, width, channel) uint8.

    Args:
        key: names the content; the same key must always mean the same images.

    Raises StoreError if the cache has no room for them.
    """
    shape = _shape(shards)
    path = cache_dir() / f"{key}.uint8"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists() or path.stat().st_size != np.prod(shape):
            for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*-{path.name}"):  # of a process that was killed
                leftover.unlink()
            _decode(shards, path, num_bytes=int(np.prod(shape)))
    mapped: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
    return mapped


def _shape(shards: Sequence[Path]) -> tuple[int, ...]:
    num_images = sum(pq.read_metadata(shard).num_rows for shard in shards)
    return (num_images, *image_shape(pq.read_schema(shards[0])))


def _decode(shards: Sequence[Path], path: Path, *, num_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < num_bytes:
        raise StoreError(
            f"{path.parent} has {free / 1e9:.1f} GB free, the decoded training images need {num_bytes / 1e9:.1f} GB; "
            f"set {CACHE_VARIABLE} to a folder on a larger local disk"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for shard in shards:
            for batch in pq.ParquetFile(shard).iter_batches(batch_size=_ROWS_AT_ONCE, columns=[COLUMN]):
                file.write(images_of(pa.Table.from_batches([batch])).data)
