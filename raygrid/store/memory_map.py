"""Prepared images, decoded once per node into a flat file that all trainings map into memory.

Reading Parquet directly would give each trial a decompressed copy of its own. The operating system keeps the used pages
of a mapped file and drops them if memory is short, so the images of a modality need not fit into memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raygrid.data.images.parquet import COLUMN, image_shape, images_of
from raygrid.io.cache import cached_file

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class MappedImages:
    """Some rows of a mapped file; indexing reads the requested images only.

    Attributes:
        stored: (all images of the file, height, width, channel) uint8, on disk.
        rows: (n,) row numbers in `stored`, in the order of these images.
    """

    stored: NDArray[np.uint8]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the images at `positions` as an array in memory, (k, height, width, channel) uint8."""
        return np.asarray(self.stored[self.rows[positions]])


def map_images(key: str, shards: Sequence[Path]) -> NDArray[np.uint8]:
    """Return the images of Parquet shards, in their order, as one mapped array (n, height, width, channel) uint8.

    Args:
        key: identifies the content; the same key must always mean the same images.

    Raises StoreError if the disk of the cache has too little free space.
    """

    def decode(file: BinaryIO) -> None:
        for shard in shards:
            for batch in pq.ParquetFile(shard).iter_batches(batch_size=_ROWS_AT_ONCE, columns=[COLUMN]):
                file.write(images_of(pa.Table.from_batches([batch])).data)

    num_images = sum(pq.read_metadata(shard).num_rows for shard in shards)
    shape = (num_images, *image_shape(pq.read_schema(shards[0])))
    path = cached_file(f"{key}.uint8", int(np.prod(shape)), decode)
    mapped: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
    return mapped
