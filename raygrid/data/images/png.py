"""PNG files: checksums and rows, neither of which Pillow checks to the end."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from PIL import Image

from raygrid.data.damage import DamagedFileError

_SIGNATURE_SIZE = 8  # bytes
_OPTIONAL = 0x20  # bit of the first letter of a chunk's name: the image is right without the chunk
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PASSES = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
# of an interlaced image: first column, step, first row, step
_CHUNK = 1 << 20  # bytes unpacked at once


def require_whole_png(path: Path, content: bytes) -> None:
    """Check the chunks of a PNG file that its pixels need.

    Raises DamagedFileError if one is cut off or has another checksum.
    """
    for name, data, checksum in _chunks(content):
        if checksum is None:
            raise _damaged(path, f"without the end of its chunk {name.decode('latin-1')!r}")
        if zlib.crc32(data, zlib.crc32(name)) != checksum:
            raise _damaged(path, f"with a damaged chunk {name.decode('latin-1')!r} (checksum mismatch)")


def require_all_rows(path: Path, content: bytes, picture: Image.Image) -> None:
    """Check that a decoded PNG file has all its rows; Pillow leaves absent ones black.

    The pixels are unpacked a second time only if the last row is black, or if the image is interlaced.

    Raises DamagedFileError if rows are absent.
    """
    header = content[_SIGNATURE_SIZE + 8 :]
    width, height = picture.size
    depth, kind, interlaced = header[8], header[9], header[12]
    if not interlaced and any(picture.crop((0, height - 1, width, height)).tobytes()):
        return
    passes = _PASSES if interlaced else ((0, 1, 0, 1),)
    expected = 0
    for column, across, row, down in passes:
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * depth * _CHANNELS[kind] // 8))
    found, inflater = 0, zlib.decompressobj()
    for name, data, _ in _chunks(content):
        packed = bytes(data) if name == b"IDAT" else b""
        while packed and found < expected:
            found += len(inflater.decompress(packed, _CHUNK))
            packed = inflater.unconsumed_tail
    if found < expected:
        raise _damaged(path, f"with {found} bytes of pixels instead of {expected}: rows are missing")


def require_all_colours(path: Path, content: bytes, picture: Image.Image) -> None:
    """Check that a decoded PNG file has a colour for each of its pixels; Pillow makes the others black.

    Raises DamagedFileError if the palette is absent or too short.
    """
    if picture.mode != "P":
        return
    num_colours = next((len(data) // 3 for name, data, _ in _chunks(content) if name == b"PLTE"), 0)
    _, last = cast(tuple[int, int], picture.getextrema())
    if last >= num_colours:
        raise _damaged(path, f"with {num_colours} palette colours, but a pixel of colour {last + 1}")


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, int | None]]:
    """Yield (name, data, checksum) of the chunks that the pixels need; no checksum if the file ends before it."""
    view, position = memoryview(content), _SIGNATURE_SIZE
    while position + 8 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        name = content[position + 4 : position + 8]
        end = position + 12 + length
        if name == b"IEND":
            return
        if not name[0] & _OPTIONAL:
            checksum = int.from_bytes(content[end - 4 : end], "big") if end <= len(content) else None
            yield name, view[position + 8 : end - 4], checksum
        position = end


def _damaged(path: Path, got: str) -> DamagedFileError:
    return DamagedFileError(f"{path}: expected a complete PNG, JPEG, TIFF or DICOM image, got a PNG image {got}")
