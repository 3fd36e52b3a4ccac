"""Stored grey values of a DICOM file to grey levels: rescale or modality table, then window, VOI table or range.

Enhanced objects keep these settings in functional groups: in the shared one, or else in that of the frame.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.data.images.dicom_header import CORRECT, PixelFormat, decimals
from raygrid.data.images.dicom_tables import grey_table
from raygrid.data.images.intensity import Window, as_levels
from raygrid.errors import DataError

_RESCALE = ("RescaleSlope", "RescaleIntercept")
_WINDOW = ("WindowCenter", "WindowWidth")
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_DEFAULT_FUNCTION = "LINEAR"


def grey_levels(
    path: Path, array: NDArray[Any], dataset: Any, header: PixelFormat, window: Window | None
) -> NDArray[np.uint8]:
    """Return stored values as uint8 of the same shape; `window` replaces the file's window or VOI table.

    Raises DataError if the settings of the file are incomplete, contradict each other or no value reaches a table.
    """
    _require_sign(path, array, dataset, header)
    values, lowest = _rescaled(path, array, dataset, header)
    if window is not None:
        return as_levels(values, window)
    settings = _settings(path, dataset, "FrameVOILUTSequence", (*_WINDOW, "VOILUTFunction", "VOILUTSequence"))
    if settings.get("VOILUTSequence"):
        whole = np.rint(values).astype(np.int64)
        item = settings.VOILUTSequence[0]
        table = grey_table(path, item, "VOILUTSequence", whole, lowest < 0, _is_little(dataset))
        return as_levels(table.apply(whole), (0, 2**table.depth - 1))
    centre, width = (decimals(path, settings, name) for name in _WINDOW)
    if centre and width:
        return _windowed(path, values, settings, centre[0], width[0])
    if centre or width:
        got = _WINDOW[0] if centre else _WINDOW[1]
        raise DataError(
            f"{path}: expected WindowCenter and WindowWidth, got only {got}; repair the file, or set the option window"
        )
    shown = values[~_is_padding(array, dataset, header)]
    shown = shown if shown.size else values
    return as_levels(values, (float(shown.min()), float(shown.max())))


def _is_little(dataset: Any) -> bool:
    return bool(dataset.file_meta.TransferSyntaxUID.is_little_endian)


def groups(dataset: Any) -> list[Any]:
    """Return the functional groups of a data set: the shared one and those of the frames, as far as it has them."""
    return [
        group
        for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in dataset.get(sequence) or ()
    ]


def _settings(path: Path, dataset: Any, sequence: str, names: tuple[str, ...]) -> Any:
    """Return the data set that holds the elements `names`: the file's own, or the functional group's `sequence`.

    Raises DataError if two places hold them with different values.
    """
    places = [group.get(sequence)[0] for group in groups(dataset) if group.get(sequence)]
    places.append(dataset)
    contents = {content: place for place in reversed(places) if any(content := _content(path, place, names))}
    if len(contents) > 1:
        present = ", ".join(name for name in names if any(name in place for place in places))
        raise DataError(
            f"{path}: expected one value of each of {present}, got different ones in {sequence} and elsewhere; "
            f"{CORRECT}"
        )
    return next(iter(contents.values()), dataset)


def _content(path: Path, place: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return what the elements decide, the same for two places that mean the same; only empty contents if none does."""
    return tuple(_meant(path, place, name) for name in names)


def _meant(path: Path, place: Any, name: str) -> Any:
    if name in _WINDOW:
        return decimals(path, place, name)[:1]  # further windows are not used
    if name in _RESCALE:
        return decimals(path, place, name)
    value = place.get(name)
    if not value or value == _DEFAULT_FUNCTION:
        return ""
    if isinstance(value, str):
        return value
    return repr([[(element.tag, element.value) for element in item] for item in value])


def _rescaled(path: Path, array: NDArray[Any], dataset: Any, header: PixelFormat) -> tuple[NDArray[Any], float]:
    """Return the values after the modality step, and the lowest value that it can give."""
    settings = _settings(path, dataset, "PixelValueTransformationSequence", (*_RESCALE, _TABLES[0]))
    given = [decimals(path, settings, name) for name in _RESCALE]
    for name, numbers in zip(_RESCALE, given, strict=True):
        if len(numbers) > 1:
            raise DataError(f"{path}: expected one number in {name}, got {len(numbers)}; {CORRECT}")
    slope, intercept = (numbers[0] if numbers else default for numbers, default in zip(given, (1, 0), strict=True))
    if settings.get(_TABLES[0]):
        if (slope, intercept) != (1, 0):
            raise DataError(
                f"{path}: expected RescaleSlope or ModalityLUTSequence, got both; delete the one that does not apply"
            )
        item = settings.ModalityLUTSequence[0]
        return grey_table(path, item, _TABLES[0], array, header.signed, _is_little(dataset)).apply(array), 0
    if not any(given):
        return array, header.lowest
    highest = header.lowest + 2**header.stored - 1
    values = array.astype(np.float64) * slope + intercept
    if slope == 0 or not math.isfinite(float(values.min())) or not math.isfinite(float(values.max())):
        raise DataError(
            f"{path}: expected a RescaleSlope other than 0 and finite results, got {slope:g} and RescaleIntercept "
            f"{intercept:g}; {CORRECT}"
        )
    return values, min(header.lowest * slope, highest * slope) + intercept


def _windowed(path: Path, values: NDArray[Any], settings: Any, centre: float, width: float) -> NDArray[np.uint8]:
    """Apply a window to the end of the grey scale (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    pydicom's apply_windowing gives the same, but does not return the range of its result.
    """
    function = str(settings.get("VOILUTFunction") or _DEFAULT_FUNCTION).strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DataError(f"{path}: expected VOILUTFunction LINEAR, LINEAR_EXACT or SIGMOID, got {function!r}; repair it")
    if not width >= (1 if function == "LINEAR" else 1e-9):
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


def _is_padding(array: NDArray[Any], dataset: Any, header: PixelFormat) -> NDArray[np.bool_]:
    """Return where a stored value is PixelPaddingValue, or lies between it and PixelPaddingRangeLimit."""
    limits = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    known = [_as_stored(value, header) for value in limits if isinstance(value, int)]
    if not isinstance(limits[0], int):
        return np.zeros(array.shape, np.bool_)
    return np.asarray((array >= min(known)) & (array <= max(known)))


def _as_stored(value: int, header: PixelFormat) -> int:
    """Return a 16-bit value of the header, which pydicom may have read with the wrong sign, as stored values are."""
    low = int(value & (2**header.stored - 1))
    return low - 2**header.stored if header.signed and low >= 2 ** (header.stored - 1) else low


def _require_sign(path: Path, array: NDArray[Any], dataset: Any, header: PixelFormat) -> None:
    """Raise DataError if the header's smallest and largest value hold for the other PixelRepresentation only."""
    names = ("SmallestImagePixelValue", "LargestImagePixelValue")
    said = [dataset.get(name) for name in names]
    if header.stored > 16 or not all(isinstance(value, int) for value in said):
        return
    size = 2**header.stored
    half = size // 2
    other = (
        np.where(array < 0, array.astype(np.int64) + size, array)
        if header.signed
        else (np.where(array >= half, array.astype(np.int64) - size, array))
    )
    own_low, own_high = (_as_stored(value, header) for value in said)
    low, high = (value & 0xFFFF if header.signed else (value + 2**15) % 2**16 - 2**15 for value in said)
    if (own_low <= array.min() and array.max() <= own_high) or low > other.min() or other.max() > high:
        return
    raise DataError(
        f"{path}: expected values from {low} to {high}, the range of {' and '.join(names)}, got {array.min()} to "
        f"{array.max()} with PixelRepresentation {int(header.signed)}; correct PixelRepresentation"
    )
