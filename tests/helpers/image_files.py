"""PNG and TIFF files of any kind, with headers and chunks that no library writes."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TIFF_TYPES = {1: "B", 2: "B", 3: "H", 4: "L", 5: "L", 7: "B"}  # BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED
DEFAULT_TYPE = 3
TAGS = {
    "subfile": 254,
    "width": 256,
    "height": 257,
    "bits": 258,
    "compression": 259,
    "kind": 262,
    "fill_order": 266,
    "offsets": 273,
    "samples": 277,
    "rows_per_strip": 278,
    "counts": 279,
    "x_resolution": 282,
    "y_resolution": 283,
    "planar": 284,
    "colours": 320,
    "extra": 338,
    "format": 339,
}
TYPES = {"width": 4, "height": 4, "offsets": 4, "counts": 4, "rows_per_strip": 4, "x_resolution": 5, "y_resolution": 5}


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk with its right checksum."""
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(
    size: tuple[int, int], rows: bytes, depth: int = 8, kind: int = 0, extra: bytes = b"", interlaced: bool = False
) -> bytes:
    """Return a PNG file of (width, height); `rows` begin with a filter byte each, `extra` are chunks before them.

    The header may claim more rows than there are.
    """
    header = b"".join(side.to_bytes(4, "big") for side in size) + bytes([depth, kind, 0, 0, interlaced])
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_rows(values: np.ndarray, depth: int) -> bytes:
    """Return the rows of (height, width) or (height, width, channel), most significant bit first, unfiltered."""
    bits = (values.reshape(len(values), -1)[..., None].astype(np.int64) >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits)


def packed(values: np.ndarray, depth: int) -> bytes:
    """Return the values of (height, width) as TIFF packs them: each row begins at a byte."""
    bits = (values[..., None].astype(np.int64) >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits)


def tiff(
    path: Path, strips: Sequence[bytes], size: tuple[int, int], big_endian: bool = False, **tags: Sequence[int]
) -> Path:
    """Write a TIFF file of (width, height) and return its path; `tags` replace and add to those of 8-bit grey.

    Without `offsets`, the strips lie one after another behind the directory.
    """
    order = ">" if big_endian else "<"
    found: dict[str, Sequence[int]] = {
        "width": [size[0]],
        "height": [size[1]],
        "bits": [8],
        "compression": [1],
        "kind": [1],
        "samples": [len(tags.get("bits", [8]))],
        "rows_per_strip": [size[1]],
        "counts": [len(strip) for strip in strips],
        "offsets": [0] * len(strips),
        **tags,
    }
    if "offsets" not in tags:
        start = len(_directory(found, order))
        found["offsets"] = [start + sum(map(len, strips[:number])) for number in range(len(strips))]
    path.write_bytes(_directory(found, order) + b"".join(strips))
    return path


def _directory(tags: dict[str, Sequence[int]], order: str) -> bytes:
    entries, lists = b"", b""
    lists_start = 8 + 2 + 12 * len(tags) + 4
    for name in sorted(tags, key=lambda name: TAGS[name]):
        kind = TYPES.get(name, DEFAULT_TYPE)
        values = struct.pack(f"{order}{len(tags[name])}{TIFF_TYPES[kind]}", *tags[name])
        count = len(tags[name]) // (2 if kind == 5 else 1)
        if len(values) <= 4:
            place = values.ljust(4, b"\0")
        else:
            place = struct.pack(f"{order}L", lists_start + len(lists))
            lists += values + b"\0" * (len(values) % 2)
        entries += struct.pack(f"{order}HHL", TAGS[name], kind, count) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}LH", 8, len(tags))
    return head + entries + bytes(4) + lists
