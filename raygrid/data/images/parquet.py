"""Images as a column of a Parquet table: their bytes, and their shape in the file's metadata.

Arrow's own tensor type is written as a list of 32-bit numbers, five to ten times slower to write and to read than the
bytes themselves; any Parquet reader opens a column of bytes.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

COLUMN = "image"
_SHAPE = b"image_shape"  # height, width, channel; values are uint8


def with_images(columns: dict[str, Any], images: NDArray[np.uint8]) -> pa.Table:
    """Return a table of `columns` and of images (n, height, width, channel) uint8."""
    size = int(np.prod(images.shape[1:]))
    data = pa.py_buffer(np.ascontiguousarray(images).reshape(-1))
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(images), [None, data])
    table = pa.table({**columns, COLUMN: column})
    return table.replace_schema_metadata({_SHAPE: json.dumps(images.shape[1:])})


def images_of(table: pa.Table) -> NDArray[np.uint8]:
    """Return the images of a table made by `with_images`, (n, height, width, channel) uint8, read-only."""
    shape = image_shape(table.schema)
    size = int(np.prod(shape))
    column = table[COLUMN].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    values = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return values[column.offset * size : (column.offset + len(column)) * size].reshape(len(column), *shape)


def image_shape(schema: pa.Schema) -> tuple[int, ...]:
    """Return (height, width, channel) of the images of a table or file with this schema."""
    return tuple(json.loads(schema.metadata[_SHAPE]))
