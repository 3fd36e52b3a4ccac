"""TIFF files: damage that Pillow does not report, and a description of kinds that it cannot read.

Strips below stands for strips and tiles.
"""

import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.jpeg import require_whole_jpeg

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_SAMPLES, _ROWS_PER_STRIP, _PLANAR, _SAMPLE_FORMAT, _JPEG_TABLES = 277, 278, 284, 339, 347
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets and byte counts
_TILE_SIDES = (322, 323)
_UNCOMPRESSED, _JPEG, _DEFLATE = 1, 7, (8, 32946)
_HEADER_SIZE = 8  # bytes: nothing of an image lies there
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_CHUNK = 1 << 20  # bytes unpacked at once


def require_whole_tiff(path: Path, file: BinaryIO, tags: dict[int, Any]) -> None:
    """Check the strips of the first image of an open file, whose position stays; `tags` are those of Pillow's tag_v2.

    Changes inside uncompressed, LZW, PackBits, Zstandard and fax-coded strips are not found here: these have no
    checksum.

    Raises DamagedFileError if strips are absent, or if JPEG or deflated data is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    offsets_tag, counts_tag = _TILES if _TILES[0] in tags else _STRIPS
    offsets, counts = _numbers(tags, offsets_tag), _numbers(tags, counts_tag)
    if len(offsets) < _num_strips(tags):
        raise _damaged(path, f"{len(offsets)} of {_num_strips(tags)} strips or tiles")
    compression = tags.get(_COMPRESSION, _UNCOMPRESSED)
    most = 2 * int(tags[_WIDTH]) * int(tags[_HEIGHT]) * int(tags.get(_SAMPLES, 1)) * max(_numbers(tags, _BITS) or [1])
    for number, offset in enumerate(offsets):
        count = counts[number] if number < len(counts) else None
        if not _HEADER_SIZE <= offset < size or (count == 0 and any(counts)):
            raise _damaged(
                path, f"strip or tile {number + 1} of {len(offsets)} with {count} bytes at byte {offset} of {size}"
            )
        if count is None or tags.get(_FILL_ORDER, 1) != 1:  # bits in reversed order are left to Pillow
            continue
        if compression in _DEFLATE:
            _require_inflatable(path, os.pread(file.fileno(), min(count, size), offset), number, most)
        elif compression == _JPEG:
            strip = os.pread(file.fileno(), min(count, size), offset)
            tables = bytes(tags.get(_JPEG_TABLES, b""))
            require_whole_jpeg(path, tables[:-2] + strip[2:] if tables else strip)


def describe_tiff(file: BinaryIO) -> tuple[str, str]:
    """Return (kind, remedy) of an open TIFF file that Pillow refuses; no remedy if the file is damaged."""
    file.seek(0)
    start = file.read(16)
    try:
        tags = ImageFileDirectory_v2(start if start[2] == 43 or start[3] == 43 else start[:8])
        if tags.next >= os.fstat(file.fileno()).st_size:
            return "a TIFF image without its directory: the file is cut off", ""
        file.seek(tags.next)
        tags.load(file)
        bits, samples = _numbers(tags, _BITS) or [1], tags.get(_SAMPLES, 1)
        form = _FORMATS.get((_numbers(tags, _SAMPLE_FORMAT) or [1])[0], "undefined")
        kind = (
            f"a TIFF image of a kind that Pillow cannot read ({samples} {form} values of {bits[0]} bits per pixel, "
            f"PhotometricInterpretation {tags.get(_PHOTOMETRIC)}, Compression {tags.get(_COMPRESSION, 1)})"
        )
        return kind, "save it as PNG, or as TIFF with 8 or 16 bits per channel, unsigned"
    except Exception:  # the parser raises anything
        return "a TIFF image with an unreadable directory", ""


def _numbers(tags: Any, tag: int) -> list[int]:
    value = tags.get(tag, ())
    return [int(number) for number in (value if isinstance(value, tuple) else (value,))]


def _num_strips(tags: dict[int, Any]) -> int:
    """Return the number of strips or tiles that the size of the image needs."""
    width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
    planes = int(tags.get(_SAMPLES, 1)) if tags.get(_PLANAR) == 2 else 1
    if _TILES[0] in tags:
        across, down = (max(1, int(tags[tag])) for tag in _TILE_SIDES)
        return -(-width // across) * -(-height // down) * planes
    return -(-height // min(height, max(1, int(tags.get(_ROWS_PER_STRIP) or height)))) * planes


def _require_inflatable(path: Path, strip: bytes, number: int, most: int) -> None:
    """Raise DamagedFileError unless a strip is a whole zlib stream; its checksum is compared, which libtiff does not.

    A strip that holds more than `most` bytes is left to Pillow, which stops at the size of the image.
    """
    inflater, unpacked = zlib.decompressobj(), 0
    try:
        while strip and unpacked < most:
            unpacked += len(inflater.decompress(strip, _CHUNK))
            strip = inflater.unconsumed_tail
    except zlib.error as error:
        raise _damaged(path, f"damaged data in strip or tile {number + 1} ({error})") from error
    if not strip and not inflater.eof:
        raise _damaged(path, f"strip or tile {number + 1} without its end")


def _damaged(path: Path, got: str) -> DamagedFileError:
    return DamagedFileError(f"{path}: expected a complete PNG, JPEG, TIFF or DICOM image, got a TIFF image with {got}")
