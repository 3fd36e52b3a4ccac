"""The stored values of a DICOM image, after a check of the bytes against the header.

pydicom decodes. This module checks the rest: the number of bytes, the fragments of a compressed frame, the frame's own
size, depth and colour, and bits beyond BitsStored.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.data.damage import DamagedFileError, SuspectImageWarning
from raygrid.data.images.dicom_codestream import (
    Codestream,
    marked_as_rgb,
    read_jpeg,
    read_jpeg_2000,
    require_whole_lossless_jpeg,
)
from raygrid.data.images.dicom_header import (
    CORRECT,
    JPEG_8_OR_12_BIT,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    PixelFormat,
)
from raygrid.data.images.jpeg import require_whole_jpeg
from raygrid.errors import DataError

_DECOMPRESS = (
    "decompress it (gdcmconv --raw IN OUT, or dcmdjpeg), or pip install pylibjpeg pylibjpeg-libjpeg "
    "pylibjpeg-openjpeg pyjpegls"
)
_SEVERAL = "expected one image, got pixels of several; export each frame as a separate file"
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_FRAME_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
_NOT_SUPPORTED = re.compile(r"\bnot support|cannot decode|missing dependenc|only \(0028", re.IGNORECASE)
_PYDICOM_FAILED = "Unable to decode as exceptions were raised by all available plugins: "
_RLE_LENGTHS = re.compile(r"RLE segment.*?(\d+) vs\. (\d+)", re.DOTALL)


def stored_values(path: Path, pydicom: Any, dataset: Any, header: PixelFormat) -> NDArray[Any]:
    """Return the stored values, of the header's shape; YBR colour is converted to RGB.

    Bits beyond BitsStored are set to 0, or to the sign of signed values. If they held anything else but a declared
    overlay, a SuspectImageWarning says so.

    Raises DamagedFileError if bytes are absent or a compressed frame is damaged, DataError if the bytes contradict the
    header or no decoder is installed.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated != bool(dataset["PixelData"].is_undefined_length):
        got = "plain" if syntax.is_encapsulated else "compressed"
        raise DataError(f"{path}: expected pixels in the transfer syntax {syntax.name}, got {got} ones; {CORRECT}")
    if not syntax.is_encapsulated:
        _require_native_length(path, dataset.PixelData, header)
        return _in_stored_bits(path, _decoded(pydicom, dataset), header, dataset, keeps_all_bits=True)
    _require_decoder(path, pydicom, syntax)
    frame = _only_frame(path, dataset)
    stream = _require_frame(path, frame, header)
    _store_frame(dataset, frame)
    try:
        array = _decompressed(path, pydicom, dataset, header, stream)
    except (NotImplementedError, RuntimeError) as error:
        message = " ".join(str(error).split()).removeprefix(_PYDICOM_FAILED)
        if _NOT_SUPPORTED.search(message):
            raise _no_decoder(path, f"the transfer syntax {syntax.name}: {message}") from error
        raise DamagedFileError(f"{path}: expected a complete frame in {syntax.name}, got {message}") from error
    return _in_stored_bits(path, array, header, dataset, keeps_all_bits=stream is None)


def _decoded(pydicom: Any, dataset: Any, **options: Any) -> NDArray[Any]:
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = pydicom.pixels.get_decoder(syntax)
    if syntax.is_encapsulated:  # PlanarConfiguration is about plain pixels; a decoder sets its own where it has planes
        options["planar_configuration"] = 0
    # pydicom would drop unused bits unseen, and add a dimension for bytes behind the image.
    array, _ = decoder.as_array(dataset, correct_unused_bits=False, allow_excess_frames=False, **options)
    return np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)


def _require_native_length(path: Path, content: bytes, header: PixelFormat) -> None:
    values = header.rows * header.columns * header.samples
    if header.kind == "YBR_FULL_422":
        values = values * 2 // 3
    expected = (values * header.allocated + 7) // 8
    described = f"{expected} bytes of pixels for {header.rows} x {header.columns} of {header.kind}"
    if len(content) < expected:
        raise DamagedFileError(f"{path}: expected {described}, got {len(content)}")
    excess = len(content) - expected
    side = min(header.rows, header.columns) * header.samples * header.allocated // 8
    if excess <= 1 or excess < side:  # padding: a wrong number of rows or columns would leave more
        return
    if any(content[expected:]) or excess >= expected:
        raise DataError(f"{path}: expected {described}, got {len(content)}; {CORRECT}")
    _tell(path, f"{excess} zero bytes after the pixels, which raygrid ignores: check Rows and Columns")


def _require_decoder(path: Path, pydicom: Any, syntax: Any) -> None:
    got = f"the transfer syntax {syntax.name}"
    try:
        if pydicom.pixels.get_decoder(syntax).is_available:
            return
    except NotImplementedError as error:  # no decoder at all; the error says why
        got = f"{got}: {' '.join(str(error).split())}"
    raise _no_decoder(path, got)


def _no_decoder(path: Path, got: str) -> DataError:
    return DataError(f"{path}: expected pixels with an installed decoder, got {got}; {_DECOMPRESS}")


def _only_frame(path: Path, dataset: Any) -> bytes:
    """Return the compressed frame, its fragments joined. Raises if there are several, or bytes are absent."""
    table, *fragments = _items(path, dataset.PixelData)
    if len(table) % 4:
        raise DamagedFileError(f"{path}: expected a basic offset table of whole numbers, got {len(table)} bytes")
    starts = sum(fragment.startswith(_FRAME_STARTS) or _starts_rle(fragment) for fragment in fragments)
    if len(table) > 4 or starts > 1 or len(dataset.get("ExtendedOffsetTable") or b"") > 8:
        raise DataError(f"{path}: {_SEVERAL}")
    frame = b"".join(fragments)
    if not frame:
        raise DamagedFileError(f"{path}: expected compressed pixels, got fragments of 0 bytes")
    return frame


def _store_frame(dataset: Any, frame: bytes) -> None:
    """Store a frame in the data set as one fragment, without tables that would lead pydicom elsewhere."""
    from pydicom.encaps import encapsulate

    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(name, None)
    dataset.PixelData = encapsulate([frame], has_bot=False)


def _starts_rle(fragment: bytes) -> bool:
    """Return whether a fragment begins as an RLE frame: with a number of segments, of which the first is at byte 64."""
    return 1 <= int.from_bytes(fragment[:4], "little") <= 15 and fragment[4:8] == b"\x40\0\0\0"


def _items(path: Path, content: bytes) -> list[bytes]:
    """Return the basic offset table and the fragments. Raises DamagedFileError if one is incomplete."""
    items = []
    position = 0
    while position + 8 <= len(content) and content[position : position + 4] != _DELIMITER:
        start, length = position + 8, int.from_bytes(content[position + 4 : position + 8], "little")
        if content[position : position + 4] != _ITEM:
            raise DamagedFileError(f"{path}: expected a fragment at byte {position} of the pixels, got other bytes")
        position = start + length
        if position > len(content):
            raise DamagedFileError(f"{path}: expected a fragment of {length} bytes, got {len(content) - start}")
        items.append(content[start:position])
    if not items:
        raise DamagedFileError(f"{path}: expected a basic offset table and fragments, got {len(content)} bytes")
    return items


def _require_frame(path: Path, frame: bytes, header: PixelFormat) -> Codestream | None:
    """Return the frame's own header, None for RLE, which has none. Raises DataError if it contradicts the file's."""
    if header.syntax in JPEG_2000:
        stream = read_jpeg_2000(path, frame)
    elif header.syntax in JPEG_8_OR_12_BIT + JPEG_LOSSLESS + JPEG_LS:
        stream = read_jpeg(path, frame)
        if header.syntax in JPEG_8_OR_12_BIT:
            require_whole_jpeg(path, frame)
    else:
        return None
    said = (header.rows, header.columns, header.samples)
    got = (stream.height or header.rows, stream.width, stream.components)  # a JPEG may leave its height to the end
    if got != said:
        raise DataError(
            f"{path}: expected a frame of {said[0]} x {said[1]} pixels with {said[2]} components, got "
            f"{got[0]} x {got[1]} with {got[2]}; {CORRECT}"
        )
    if stream.is_signed and not header.signed:
        raise DataError(
            f"{path}: expected unsigned values (PixelRepresentation 0), got a frame of signed ones; {CORRECT}"
        )
    same_bytes = header.syntax in JPEG_2000 + JPEG_LS or (stream.precision > 8) == (header.allocated > 8)
    # JPEG has no sign: pydicom would take that of the header at the wrong bit.
    lacks_sign = header.signed and header.syntax not in JPEG_2000 + JPEG_LS and stream.precision < header.stored
    if stream.precision > header.allocated or not same_bytes or lacks_sign:
        raise DataError(
            f"{path}: expected a frame of {header.stored} bits in {header.allocated}, got {stream.precision} bits; "
            f"{CORRECT}"
        )
    if header.syntax in JPEG_LOSSLESS:  # of the size in the header by now
        require_whole_lossless_jpeg(path, frame, stream)
    return stream


def _decompressed(
    path: Path, pydicom: Any, dataset: Any, header: PixelFormat, stream: Codestream | None
) -> NDArray[Any]:
    is_8_bit_jpeg = header.syntax in JPEG_8_OR_12_BIT and stream is not None and stream.precision == 8
    if stream is not None and header.samples == 3:
        _require_colour(path, header, stream)
        if is_8_bit_jpeg:
            return _jpeg_colour(path, pydicom, dataset, header, stream)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        array = _decoded(pydicom, dataset, decoding_plugin="pillow" if is_8_bit_jpeg else "")
    for warning in caught:
        lengths = _RLE_LENGTHS.search(str(warning.message))
        if lengths and int(lengths[1]) > int(lengths[2]) + 1:  # one more: padding to an even length
            raise DamagedFileError(f"{path}: expected RLE segments of {lengths[2]} bytes, got {lengths[1]}")
    return array


def _require_colour(path: Path, header: PixelFormat, stream: Codestream) -> None:
    """Raise DataError if the colour of a frame contradicts the header, and neither can be preferred."""
    is_rgb, in_rgb = header.kind == "RGB", stream.colour == "RGB"
    got = ""
    if header.syntax in JPEG_2000:
        if not is_rgb and in_rgb != (header.kind in ("YBR_ICT", "YBR_RCT")):
            got = f"a JPEG 2000 frame with{'' if in_rgb else 'out'} a colour transform"
    elif is_rgb and not stream.colour and stream.is_subsampled:
        got = "a JPEG frame with subsampled components, as YBR has them"
    elif (
        stream.colour
        and in_rgb != is_rgb
        and (header.syntax not in JPEG_8_OR_12_BIT or (in_rgb and stream.is_converted))
    ):
        got = f"a JPEG frame that declares {stream.colour}"
    if got:
        raise DataError(f"{path}: expected pixels of the kind {header.kind}, got {got}; {CORRECT}")


def _jpeg_colour(path: Path, pydicom: Any, dataset: Any, header: PixelFormat, stream: Codestream) -> NDArray[Any]:
    """Return the RGB values of a JPEG frame of 8 bits. The frame's own mark of its colour counts before the header."""
    said = "RGB" if header.kind == "RGB" else "YBR"
    if stream.colour and stream.colour != said:
        observed = f"PhotometricInterpretation {header.kind}, but the JPEG frame declares {stream.colour}"
        _tell(path, f"{observed}; raygrid follows the frame")
    if stream.colour == "RGB" and not stream.is_converted:
        _store_frame(dataset, marked_as_rgb(_only_frame(path, dataset)))
    raw = _decoded(pydicom, dataset, raw=True, decoding_plugin="pillow")
    if stream.is_converted or (stream.colour or said) == "RGB":
        return raw
    return np.asarray(pydicom.pixels.convert_color_space(raw, "YBR_FULL", "RGB"))


def _in_stored_bits(
    path: Path, array: NDArray[Any], header: PixelFormat, dataset: Any, *, keeps_all_bits: bool
) -> NDArray[Any]:
    """Return the values with the bits beyond BitsStored cleared, or set to the sign (PS3.5 8.1.1).

    `keeps_all_bits` is false where a decoder has cleared or set them already.
    """
    shift = 8 * array.itemsize - header.stored
    if shift <= 0:
        return array
    values = (array << shift) >> shift
    beyond = array.view(f"u{array.itemsize}") >> header.stored
    differs = values != array
    odd = (beyond != 0) & differs
    count = int(np.count_nonzero(odd))
    is_negative = (values >> (header.stored - 1)) == 1
    if not header.signed and count and np.array_equal(odd, is_negative) and (beyond[odd] == 2**shift - 1).all():
        raise DataError(
            f"{path}: expected unsigned values of {header.stored} bits (PixelRepresentation 0), got {count} of "
            f"{array.size} with sign extension; {CORRECT}"
        )
    if count and not _has_overlay_in_pixels(dataset):
        observed = f"{count} of {array.size} values have bits beyond BitsStored {header.stored}, which raygrid ignores"
        _tell(path, f"{observed}: check BitsStored and PixelRepresentation")
    elif not count and keeps_all_bits and differs.any():  # permitted, but nearly all writers continue the sign
        observed = f"{np.count_nonzero(differs)} of {array.size} values are negative without sign extension"
        _tell(path, f"{observed}: check PixelRepresentation")
    return values


def _tell(path: Path, observation: str) -> None:
    warnings.warn(SuspectImageWarning(f"{path}: {observation}"), stacklevel=3)


def _has_overlay_in_pixels(dataset: Any) -> bool:
    """Return whether an overlay is declared to lie in unused bits: groups 6000 to 601E, OverlayBitPosition above 0."""
    return any(int(dataset[tag].value or 0) > 0 for tag in _overlay_positions() if tag in dataset)


def _overlay_positions() -> list[int]:
    return [(group << 16) + 0x0102 for group in range(0x6000, 0x6020, 2)]
