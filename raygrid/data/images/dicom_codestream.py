"""The headers of compressed frames (JPEG, JPEG-LS, JPEG 2000): size, depth and colour, and whether the end is there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.jpeg import first_warning
from raygrid.errors import DataError

_END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_SIZES = (*(code for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)), 0xF7)  # starts of frame
_HOLE = bytes(32)  # a JPEG-LS code of 16 bits has at most 64 zero bits in a row
_LOSSLESS = 0xC3
_BEHIND, _PADDING = re.compile("([0-9]+) extraneous bytes before marker 0xd9"), 2
_SCAN, _TILE, _STYLE = 0xDA, 0x90, 0x52
_PLAIN_START, _BOXED_START = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "


@dataclass(frozen=True)
class Codestream:
    """The header of a compressed frame; `colour` is RGB, YBR or empty where the frame has no mark of it.

    `is_converted` is true if Pillow gives RGB, whatever the frame stores: it does so for frames with an Adobe mark.
    """

    height: int
    width: int
    components: int
    precision: int
    colour: str
    is_subsampled: bool
    is_converted: bool = False
    is_signed: bool = False


def read_jpeg(path: Path, frame: bytes) -> Codestream:
    """Return the header of a JPEG or JPEG-LS frame. Raises DamagedFileError if the header or the end is absent."""
    if not frame.startswith(b"\xff\xd8"):
        raise DamagedFileError(f"{path}: expected a JPEG frame, got bytes that begin with {frame[:4]!r}")
    found: Codestream | None = None
    is_ls = False
    colours = {}
    for code, body in _jpeg_segments(frame):
        if code == 0xE0 and body.startswith(b"JFIF"):
            colours["JFIF"] = "YBR"
        elif code == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:  # shorter ones are ignored by libjpeg
            colours["Adobe"] = "YBR" if body[11] else "RGB"
        elif code in _SIZES and len(body) >= 6:
            parts = [body[6 + 3 * place : 9 + 3 * place] for place in range(body[5])]
            if bytes(part[0] for part in parts if part) in (b"RGB", b"rgb"):
                colours["letters"] = "RGB"
            is_ls = code == 0xF7
            found = Codestream(
                int.from_bytes(body[1:3], "big"),
                int.from_bytes(body[3:5], "big"),
                len(parts),
                body[0],
                "",
                len({part[1:2] for part in parts}) > 1,
            )
    if found is None:
        raise DamagedFileError(f"{path}: expected a JPEG frame, got one without its size")
    if frame.rfind(_END) < frame.rfind(b"\xff\xda"):
        raise DamagedFileError(f"{path}: expected a complete JPEG frame, got one without its end")
    if is_ls and _HOLE in frame[frame.rfind(b"\xff\xda") : frame.rfind(_END)]:
        raise DamagedFileError(f"{path}: expected a complete JPEG-LS frame, got one with a hole of zeros")
    if found.components != 3:
        return found
    # the order of libjpeg
    colour = next((colours[name] for name in ("JFIF", "Adobe", "letters") if name in colours), "")
    return replace(found, colour=colour, is_converted="Adobe" in colours)


def require_whole_lossless_jpeg(path: Path, frame: bytes, stream: Codestream) -> None:
    """Check the coded pixels of a lossless JPEG frame, whose header is `stream`.

    Changed bytes are not found if the decoder comes back into step before the end, with all pixels decoded.

    Raises DamagedFileError if the decoder reports damaged data.
    """
    position = frame.find(bytes((0xFF, _LOSSLESS)))
    # The coding of wider values is that of 8 bits, with wider differences; simplejpeg reads 8 bits only, and full size.
    narrow = frame[: position + 4] + b"\x08" + frame[position + 5 :]
    kind, content = ("GRAY", narrow) if stream.components == 1 else ("RGB", marked_as_rgb(narrow))
    warning = first_warning(content, colorspace=kind)
    behind = _BEHIND.search(warning)
    if warning.startswith("Corrupt JPEG data") and not (behind and int(behind[1]) <= _PADDING):
        raise DamagedFileError(f"{path}: expected a complete frame, got damaged JPEG data ({warning})")


def marked_as_rgb(frame: bytes) -> bytes:
    """Return a JPEG frame with Adobe's mark of RGB: Pillow reads frames marked by the letters R, G, B only so."""
    return frame[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + frame[2:]


def _jpeg_segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, content) of each segment before the first scan."""
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        code = frame[position + 1]
        if code == 0xFF:  # a fill byte
            position += 1
            continue
        if code == _SCAN:
            return
        end = position + 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
        yield code, frame[position + 4 : end]
        position = end


def read_jpeg_2000(path: Path, frame: bytes) -> Codestream:
    """Return the header of a JPEG 2000 frame; `colour` is RGB if its colour transform makes RGB, else empty.

    Raises DamagedFileError if a part of a tile or the end is absent, DataError for components of different sizes.
    """
    stream = frame[frame.find(_PLAIN_START) :] if frame.startswith(_BOXED_START) else frame
    if not stream.startswith(_PLAIN_START) or len(stream) < 45:
        raise DamagedFileError(f"{path}: expected a JPEG 2000 frame, got bytes that begin with {frame[:4]!r}")
    right, bottom, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    components = int.from_bytes(stream[40:42], "big")
    precision, is_signed = (stream[42] & 0x7F) + 1, stream[42] > 0x7F
    steps = {stream[43 + 3 * place : 45 + 3 * place] for place in range(components)}
    if steps != {b"\1\1"}:
        raise DataError(f"{path}: expected JPEG 2000 components of one size, got {len(steps)} sizes; decompress it")
    transformed = False
    position = 2
    while position + 12 <= len(stream) and stream[position + 1] != _TILE:
        if stream[position + 1] == _STYLE:
            transformed = stream[position + 8] == 1
        position += 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
    _require_tiles(path, stream, position)
    return Codestream(
        bottom - top, right - left, components, precision, "RGB" if transformed else "", False, is_signed=is_signed
    )


def _require_tiles(path: Path, stream: bytes, position: int) -> None:
    """Step over the parts of tiles from a position on. Raises DamagedFileError unless the end follows them."""
    while stream[position : position + 2] == bytes((0xFF, _TILE)):
        length = int.from_bytes(stream[position + 6 : position + 10], "big")
        if length < 12:  # 0: the last part reaches to the end; else it is damaged
            position = max(stream.rfind(_END), position) if length == 0 else len(stream)
            break
        position += length
    if stream[position : position + 2] != _END:
        raise DamagedFileError(f"{path}: expected a complete JPEG 2000 frame, got one without its end")
