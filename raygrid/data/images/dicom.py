"""DICOM files to grey levels, as in a viewer; pydicom is imported at the first DICOM file.

Steps, in this order (PS3.3 C.11): modality rescale or LUT; VOI LUT or else the file's first window or else the range
from the darkest to the brightest pixel; inversion of MONOCHROME1. A user's window replaces the file's.
"""

import logging
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from raygrid.data.images.intensity import Window, as_levels, require_decodable
from raygrid.errors import DataError

_DEFLATED = "1.2.840.10008.1.2.1.99"
_DECOMPRESS = (
    "decompress it (gdcmconv --raw IN OUT, or dcmdjpeg), or pip install pylibjpeg pylibjpeg-libjpeg "
    "pylibjpeg-openjpeg pyjpegls"
)


def dicom_levels(path: Path, file: BinaryIO, window: Window | None) -> NDArray[np.uint8]:
    """Return the image of an open DICOM file, uint8 (height, width) for grey or (height, width, 3) for colour.

    `window` is (low, high) in rescaled units, such as Hounsfield units.

    Raises DataError if the file is not one image, cannot be decompressed or has a window without width; errors of
    pydicom pass unchanged.
    """
    pydicom = _pydicom(path)
    _header(path, file)
    file.seek(0)
    dataset = pydicom.dcmread(file)
    if "PixelData" not in dataset:
        raise DataError(f"{path}: expected an image, got a DICOM file without PixelData; export it again with pixels")
    array = _pixels(path, pydicom, dataset)
    kind = str(dataset.PhotometricInterpretation)
    is_plane = kind in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    expected = (int(dataset.Rows), int(dataset.Columns), *(() if is_plane else (3,)))
    if array.shape != expected or not (is_plane or kind == "RGB" or kind.startswith("YBR")):
        raise DataError(
            f"{path}: expected one grey, RGB, YBR or palette colour image of {expected} values, got {kind} with "
            f"{array.shape}; export it as one image, grey or RGB"
        )
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        levels = _grey_levels(path, array, dataset, window)
        return 255 - levels if kind == "MONOCHROME1" else levels
    if window is not None:
        raise DataError(f"{path}: expected a grey image for the option window, got {kind}; remove the option window")
    if kind == "PALETTE COLOR":
        array = np.asarray(pydicom.pixels.apply_color_lut(array, dataset))[:, :, :3]
        return (array >> (8 * (array.itemsize - 1))).astype(np.uint8)
    return (array >> max(0, int(dataset.BitsStored) - 8)).astype(np.uint8)


def dicom_size(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Return (height, width) in pixels from the header of an open DICOM file. Raises DataError if it has none."""
    _pydicom(path)
    return _header(path, file)


def _pydicom(path: Path) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise DataError(f"{path}: this is a DICOM file, and pydicom is absent: pip install pydicom") from error
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # else it warns of every oddity of every file
    return pydicom


def _header(path: Path, file: BinaryIO) -> tuple[int, int]:
    """Return (height, width) in pixels. Raises DataError unless the header describes one image of a permitted size."""
    import pydicom

    # pydicom unpacks a deflated file whole before it reads the header: a bomb could not be stopped.
    if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
        raise DataError(
            f"{path}: expected a plain header before the pixels, got a deflated file; unpack it with dcmconv"
        )
    header = pydicom.dcmread(file, stop_before_pixels=True)
    if not header.get("Rows") or not header.get("Columns"):
        kind = getattr(header.get("SOPClassUID"), "name", "unknown kind")
        raise DataError(f"{path}: expected an image, got a DICOM file without Rows and Columns ({kind}); leave it out")
    require_decodable(path, int(header.Rows), int(header.Columns))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"{path}: expected one image, got {frames} frames; export each frame as a separate file")
    return int(header.Rows), int(header.Columns)


def _pixels(path: Path, pydicom: Any, dataset: Any) -> NDArray[Any]:
    """Return the stored values, (height, width) or (height, width, 3); YBR colour is converted to RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return np.asarray(pydicom.pixels.pixel_array(dataset))
    got = f"the transfer syntax {syntax.name}"
    try:
        if pydicom.pixels.get_decoder(syntax).is_available:
            return np.asarray(pydicom.pixels.pixel_array(dataset))
    except (NotImplementedError, RuntimeError) as error:  # no decoder at all; the error says why
        got = f"{got}: {' '.join(str(error).split())}"
    raise DataError(f"{path}: expected pixels with an installed decoder, got {got}; {_DECOMPRESS}")


def _grey_levels(path: Path, array: NDArray[Any], dataset: Any, window: Window | None) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_modality_lut, apply_voi

    values = apply_modality_lut(array, dataset)
    if not math.isfinite(values.flat[0]):
        raise DataError(f"{path}: expected a finite RescaleSlope and RescaleIntercept; export it again")
    if window is not None:
        return as_levels(values, window)
    if dataset.get("VOILUTSequence"):
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return as_levels(apply_voi(np.rint(values).astype(np.int64), dataset), (0, 2**depth - 1))
    if _first(dataset.get("WindowCenter")) is not None and _first(dataset.get("WindowWidth")) is not None:
        return _windowed(path, values, dataset)
    return as_levels(values, (float(values.min()), float(values.max())))


def _windowed(path: Path, values: NDArray[Any], dataset: Any) -> NDArray[np.uint8]:
    """Apply the file's first window to the end of the grey scale (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    pydicom's apply_windowing gives the same, but does not return the range of its result.
    """
    centre, width = float(_first(dataset.WindowCenter)), float(_first(dataset.WindowWidth))
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DataError(f"{path}: expected VOILUTFunction LINEAR, LINEAR_EXACT or SIGMOID, got {function!r}; repair it")
    if not math.isfinite(centre) or not width >= (1 if function == "LINEAR" else 1e-9):
        raise DataError(
            f"{path}: expected a window of positive width (LINEAR: 1 or more), got centre {centre:g}, width {width:g}; "
            "repair the file, or set the option window"
        )
    if function == "SIGMOID":
        return as_levels(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), (0, 1))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:  # a threshold
        return np.where(values > centre, 255, 0).astype(np.uint8)
    return as_levels(values, (centre - width / 2, centre + width / 2))


def _first(value: Any) -> Any:
    """Return the first of one or several DICOM values, or None if there is none."""
    if value is None or isinstance(value, str):
        return value or None
    try:
        return value[0] if len(value) else None
    except TypeError:
        return value
