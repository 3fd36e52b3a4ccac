"""DICOM files to grey levels, as in a viewer; pydicom is imported at the first DICOM file.

Steps, in this order (PS3.3 C.11): modality rescale or LUT; VOI LUT or else the file's first window or else the range
from the darkest to the brightest pixel; inversion of MONOCHROME1. A user's window replaces the file's.

`dicom_header` checks the header against itself, `dicom_pixels` decodes the bytes and compares them with the header,
`dicom_grey` and `dicom_tables` turn stored values into levels.
"""

import logging
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.dicom_grey import grey_levels, groups
from raygrid.data.images.dicom_header import (
    CORRECT,
    GREY,
    PALETTE,
    PixelFormat,
    decimals,
    integer,
    pixel_format,
    require_square_pixels,
)
from raygrid.data.images.dicom_pixels import stored_values
from raygrid.data.images.dicom_tables import palette_colours
from raygrid.data.images.intensity import Window, as_levels, require_decodable, tell_if_flat
from raygrid.errors import DataError

_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # of floating-point and integer pixels


def dicom_levels(path: Path, file: BinaryIO, window: Window | None) -> NDArray[np.uint8]:
    """Return the image of an open DICOM file, uint8 (height, width) for grey or (height, width, 3) for colour.

    `window` is (low, high) in rescaled units, such as Hounsfield units.

    Raises DataError if the file is not one image, its header contradicts itself or the pixels, or the pixels cannot be
    decompressed; DamagedFileError if bytes are absent. Errors of pydicom pass unchanged.
    """
    pydicom = _pydicom(path)
    syntax = _header(path, file)[2]
    ends_in_pixels = _pixel_tag_follows(file)
    file.seek(0)
    dataset = pydicom.dcmread(file)
    if ends_in_pixels and not any(tag in dataset for tag in _PIXEL_TAGS):  # pydicom drops an incomplete element
        raise DamagedFileError(f"{path}: expected compressed pixels and their end mark, got a file that ends in them")
    header = pixel_format(path, dataset, syntax)
    require_square_pixels(path, _with_pixel_measures(dataset))
    if window is not None and header.kind not in GREY:
        raise DataError(
            f"{path}: expected a grey image for the option window, got {header.kind}; remove the option window"
        )
    array = stored_values(path, pydicom, dataset, header)
    if array.shape != header.shape:
        raise DataError(f"{path}: expected one image of {header.shape} values, got {array.shape}; {CORRECT}")
    if header.kind in GREY:
        levels = grey_levels(path, array, dataset, header, window)
        tell_if_flat(path, array, levels)
        return 255 - levels if header.kind == "MONOCHROME1" else levels
    if header.kind == PALETTE:
        levels = palette_colours(path, dataset, array, dataset.file_meta.TransferSyntaxUID.is_little_endian)
    else:
        levels = _colour_levels(path, array, header)
    tell_if_flat(path, array, levels)
    return levels


def dicom_size(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Return (height, width) in pixels from the header of an open DICOM file. Raises DataError if it has none."""
    _pydicom(path)
    return _header(path, file)[:2]


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise DataError(f"{path}: this is a DICOM file, and pydicom is absent: pip install pydicom") from error
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # else it logs every oddity and error of every file
    return pydicom


def _header(path: Path, file: BinaryIO) -> tuple[int, int, str]:
    """Return (height, width) in pixels and the UID of the transfer syntax; the file is then at the pixels.

    Raises DataError unless the header describes one image of a permitted size.
    """
    import pydicom

    syntax = str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") or "")
    # pydicom unpacks a deflated file whole before it reads the header: a bomb could not be stopped.
    if syntax == _DEFLATED:
        raise DataError(
            f"{path}: expected a plain header before the pixels, got a deflated file; unpack it with dcmconv"
        )
    header = pydicom.dcmread(file, stop_before_pixels=True)
    if not header.get("Rows") or not header.get("Columns"):
        kind = getattr(header.get("SOPClassUID"), "name", "unknown kind")
        got = f"a DICOM file without Rows and Columns ({kind})"
        raise DataError(f"{path}: expected an image, got {got}; leave it out, or copy it again if it is cut off")
    height, width = (integer(path, header, name) for name in ("Rows", "Columns"))
    require_decodable(path, height, width)
    if not pydicom.uid.UID(syntax).is_transfer_syntax:
        raise DataError(f"{path}: expected a TransferSyntaxUID of the standard, got {syntax!r}; {CORRECT}")
    frames = decimals(path, header, "NumberOfFrames")
    if frames not in ((), (0,), (1,)):  # 0 is written where there is no number
        got = "\\".join(f"{number:g}" for number in frames)
        raise DataError(f"{path}: expected one image, got {got} frames; export each frame as a separate file")
    return height, width, syntax


def _pixel_tag_follows(file: BinaryIO) -> bool:
    group_element = file.read(4)
    little = int.from_bytes(group_element[:2], "little") << 16 | int.from_bytes(group_element[2:], "little")
    return little in _PIXEL_TAGS or int.from_bytes(group_element, "big") in _PIXEL_TAGS


def _with_pixel_measures(dataset: Any) -> list[Any]:
    """Return the data set and the items of its functional groups that hold spacings."""
    return [dataset, *(item for group in groups(dataset) for item in group.get("PixelMeasuresSequence") or ())]


def _colour_levels(path: Path, array: NDArray[Any], header: PixelFormat) -> NDArray[np.uint8]:
    """Return RGB values of any depth as levels: of more than 8 bits the upper 8, as of 16-bit image files."""
    if header.stored < 8:
        return as_levels(array, (0, 2**header.stored - 1))
    if header.stored > 8 and int(array.max()) < 256 and array.any():
        raise DataError(
            f"{path}: expected colour values of {header.stored} bits, got none above {int(array.max())}; correct "
            "BitsStored and HighBit, or export the image with 8 bits"
        )
    return (array >> (header.stored - 8)).astype(np.uint8)
