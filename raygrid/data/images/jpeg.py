"""Damage inside JPEG streams. Pillow decodes their pixels, but hides the warnings of libjpeg.

simplejpeg decodes the same stream at an eighth of its size, and reports the first warning only. So the stream is
first cleared of harmless causes of warnings: application segments, comments and stray bytes in the header, unusual
parameters of a sequential scan, and bytes after the end.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.intensity import MAX_PIXELS, too_large

_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_END_MARKER, _SCAN_MARKER = b"\xff\xd9", b"\xff\xda"
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))  # restart markers among them
_END, _SCAN, _HUFFMAN = 0xD9, 0xDA, 0xC4
_METADATA = (*range(0xE0, 0xF0), 0xFE)
_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_BASELINE, _SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_DECODED = _SEQUENTIAL + _PROGRESSIVE  # not lossless: simplejpeg writes behind its buffer, as these cannot be shrunk
_WHOLE_SPECTRUM = bytes((0, 63, 0))  # first and last coefficient of a sequential scan, and bits left out

_ZEROS, _ONES = bytes(64), b"\xff" * 64  # longer than any code, than a block of equal values, and than alignment

# how libjpeg's warnings about pixels begin
_DAMAGE = ("Corrupt JPEG data", "Inconsistent progression", "Unsupported marker type")
_NO_END = "Premature end of JPEG file"
_FILLED = "extraneous bytes before marker 0xd9"
_EXPECTED = "a complete PNG, JPEG, TIFF or DICOM image"


class _Frame(NamedTuple):
    """Kind (marker) and size in pixels, from the header of a JPEG stream."""

    kind: int
    height: int
    width: int


def require_whole_jpeg(path: Path, content: bytes) -> None:
    """Check the coded pixels of a JPEG stream: a file, or a frame of a DICOM file that may be followed by padding.

    Changed bytes are not found if the decoder comes back into step before the end, with all pixels decoded. Of lossless
    streams, and of kinds that no decoder here reads, the end marker alone is checked.

    Raises DamagedFileError if the end marker or scans are absent, or if the decoder reports damaged data; DataError if
    the image is too large.
    """
    cleared, frame = _cleared(content)
    if frame is None or frame.kind not in _DECODED:
        if cleared.rfind(_END_MARKER) < cleared.rfind(_SCAN_MARKER):
            raise _damaged(path, "a JPEG image without its end")
        return
    if frame.height * frame.width > MAX_PIXELS:
        raise too_large(path, f"{frame.height} x {frame.width} pixels in the header of a JPEG image")
    warning = _warning(cleared)
    if _FILLED in warning:  # some cameras fill up the scan with zeros; a hole of zeros stands in place of pixels
        scan = cleared.removesuffix(_END_MARKER).rstrip(b"\0")
        scan += b"\0" if scan.endswith(b"\xff") else b""  # a stuffed byte, not a marker
        warning = warning if _warning(scan + _END_MARKER) else ""
    if warning.startswith(_NO_END) or (warning and cleared.rfind(_END_MARKER) < cleared.rfind(_SCAN_MARKER)):
        raise _damaged(path, "a JPEG image without its end")
    if warning.startswith(_DAMAGE):
        raise _damaged(path, f"damaged JPEG data ({warning})")
    if not warning and _has_a_hole(cleared):
        raise _damaged(path, "damaged JPEG data (a hole of equal bytes)")
    if not warning and _lacks_scans(cleared):
        raise _damaged(path, "a JPEG image without its last scans")


def _damaged(path: Path, got: str) -> DamagedFileError:
    return DamagedFileError(f"{path}: expected {_EXPECTED}, got {got}")


def first_warning(content: bytes, **options: Any) -> str:
    """Return the first warning or error of libjpeg about a JPEG stream, empty without any.

    Args:
        options: arguments of `simplejpeg.decode_jpeg`. It must not shrink a lossless stream.
    """
    import simplejpeg  # at the first JPEG image: attacking and scoring do without

    try:
        simplejpeg.decode_jpeg(content, strict=True, **options)
    except Exception as error:  # also for a kind of JPEG that it does not read: the decoder of the pixels decides
        return str(error)
    return ""


def _warning(content: bytes) -> str:
    # Grey at the smallest size is fastest: all coded data is still read, chroma included.
    return first_warning(content, colorspace="GRAY", fastdct=True, min_height=1, min_width=1, min_factor=8)


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment up to the end marker; coded data and stray bytes lie between them."""
    position = 2
    while found := _MARKER.search(content, position):
        marker, start = content[found.end() - 1], found.start()
        position = found.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker != _END:
            position += max(2, int.from_bytes(content[position : position + 2], "big"))
        yield marker, start, position
        if marker == _END:
            return


def _cleared(content: bytes) -> tuple[bytes, _Frame | None]:
    """Return the stream without harmless causes of warnings, and its frame; no frame if a stream has none or no scan.

    All values then have 8 bits: the coding of 12 bits is the same, with wider differences, and simplejpeg reads 8 only.
    """
    header, frame = bytearray(content[:2]), None
    scan_start = end = 0
    for marker, start, stop in _segments(content):
        end = stop if marker == _END else len(content)
        if scan_start or marker in _METADATA:
            continue
        segment = bytearray(content[start:stop])
        if marker in _FRAMES:
            frame = _Frame(marker, int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big"))
            segment[4:5] = b"\x08"
        if marker == _SCAN:
            scan_start = stop
            if frame is not None and frame.kind in _SEQUENTIAL:
                segment[-3:] = _WHOLE_SPECTRUM
        header += segment
    return (bytes(header) + content[scan_start:end], frame) if scan_start else (content, None)


def _lacks_scans(content: bytes) -> bool:
    """Return whether a coefficient of the components in the header has no scan, or not the scan of its last bit."""
    frame = 0
    absent: dict[int, set[int]] = {}
    for marker, start, _ in _segments(content):
        if marker in _FRAMES:
            frame, count = marker, content[start + 9]
            absent = {content[start + 10 + 3 * place]: set(range(64)) for place in range(count)}
        elif marker == _SCAN:
            count = content[start + 4]
            parameters = content[start + 5 + 2 * count : start + 8 + 2 * count]
            first, last, bits = parameters if frame in _PROGRESSIVE else _WHOLE_SPECTRUM
            if bits & 15:  # of each coefficient, this many low bits follow in later scans
                continue
            for place in range(count):
                absent[content[start + 5 + 2 * place]] -= set(range(first, last + 1))
    return any(absent.values())


def _has_a_hole(content: bytes) -> bool:
    """Return whether zeros or ones stand in place of coded data, which a decoder may take for hundreds of equal values.

    Zeros are a hole only where their code is a value: by the tables of other files, zeros are a flat area.
    """
    frame, count = 0, 0
    first_codes: dict[int, int] = {}
    for marker, start, stop in _segments(content):
        if marker in _FRAMES:
            frame, count = marker, content[start + 9]
        elif marker == _HUFFMAN:
            first_codes.update(_first_codes(content[start + 4 : stop]))
        elif marker == _SCAN:
            coded = content[stop:].removesuffix(_END_MARKER)
            tables = content[start + 6 : start + 5 + 2 * count : 2]
            means_a_value = any(first_codes.get(0x10 | table & 15, 0) & 15 for table in tables)
            one_scan = frame in _BASELINE and content[start + 4] == count
            return _ONES in coded.rstrip(b"\xff") or (one_scan and means_a_value and _ZEROS in coded.rstrip(b"\0"))
    return False


def _first_codes(tables: bytes) -> Iterator[tuple[int, int]]:
    """Yield (class and number, symbol coded by zeros) of each Huffman table in a segment."""
    while len(tables) > 17:
        yield tables[0], tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
