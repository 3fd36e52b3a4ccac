"""The elements of a DICOM header that describe its pixels, checked before anything is decoded.

A header can be wrong. Each element that decides how values are read is usable, or raises an error that names it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygrid.errors import DataError

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
JPEG_8_OR_12_BIT = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{last}" for last in (90, 91, 201, 202, 203))  # the last three: HTJ2K
CORRECT = "correct the header, or export the image again"
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SQUARE_WITHIN = 0.02  # of the ratio of two spacings: they are rounded
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


@dataclass(frozen=True)
class PixelFormat:
    """How the header says that the pixels are stored. `stored` counts the bits of `allocated` that hold a value."""

    rows: int
    columns: int
    kind: str
    samples: int
    planar: int
    allocated: int
    stored: int
    signed: bool
    syntax: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) for grey and palettes, (rows, columns, 3) for colour."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, 3)

    @property
    def lowest(self) -> int:
        """The smallest value that the stored bits can hold."""
        return -(2 ** (self.stored - 1)) if self.signed else 0


def pixel_format(path: Path, dataset: Any, syntax: str) -> PixelFormat:
    """Return how the pixels of a pydicom data set are stored; `syntax` is the UID of its transfer syntax.

    Raises DataError if an element is absent or contradicts another one, or the kind of pixels is not supported.
    """
    if "PixelData" not in dataset:
        got = next((name for name in ("FloatPixelData", "DoubleFloatPixelData") if name in dataset), None)
        if got:
            raise DataError(f"{path}: expected integers in PixelData, got {got}; export it with 16 bits per pixel")
        got = "a DICOM file without PixelData"
        raise DataError(
            f"{path}: expected an image, got {got}; export it with pixels, or copy it again if it is cut off"
        )
    kind = str(dataset.get("PhotometricInterpretation") or "no PhotometricInterpretation")
    if kind not in (*GREY, PALETTE, *COLOUR):
        raise DataError(f"{path}: expected one grey, RGB, YBR or palette colour image, got {kind}; export it as RGB")
    if kind in ("YBR_ICT", "YBR_RCT") and syntax not in JPEG_2000:
        raise DataError(f"{path}: expected {kind} in JPEG 2000 only, got another transfer syntax; {CORRECT}")
    samples = 3 if kind in COLOUR else 1
    _require(path, dataset, "SamplesPerPixel", samples, f"{samples} for {kind}")
    allocated, stored = _bits(path, dataset)
    signed = bool(_one_of(path, dataset, "PixelRepresentation", (0, 1)))
    # It describes plain pixels only: compressed ones come from their decoder in a known order.
    planar = _one_of(path, dataset, "PlanarConfiguration", (0, 1)) if samples == 3 and syntax in _NATIVE else 0
    shape = (integer(path, dataset, "Rows"), integer(path, dataset, "Columns"))
    result = PixelFormat(*shape, kind, samples, planar, allocated, stored, signed, syntax)
    _require_supported(path, result)
    _require_one_inversion(path, dataset, kind)
    return result


def _bits(path: Path, dataset: Any) -> tuple[int, int]:
    allocated = _one_of(path, dataset, "BitsAllocated", (1, 8, 16, 32, 64))
    stored = integer(path, dataset, "BitsStored")
    if not 1 <= stored <= allocated:
        raise DataError(
            f"{path}: expected BitsStored from 1 to BitsAllocated, which is {allocated}, got {stored}; {CORRECT}"
        )
    _require(path, dataset, "HighBit", stored - 1, f"{stored - 1} (BitsStored - 1)", may_be_absent=True)
    return allocated, stored


def _require_supported(path: Path, header: PixelFormat) -> None:
    if header.samples == 3 and header.signed:
        raise DataError(f"{path}: expected PixelRepresentation 0 for {header.kind}, got 1; {CORRECT}")
    if header.kind.startswith("YBR") and header.stored != 8:
        raise DataError(
            f"{path}: expected 8 bits per channel for {header.kind}, got BitsStored {header.stored}; export it as RGB"
        )
    if header.kind == "YBR_FULL_422" and header.syntax in _NATIVE and (header.columns % 2 or header.planar):
        raise DataError(
            f"{path}: expected an even number of columns and PlanarConfiguration 0 for YBR_FULL_422, got "
            f"{header.columns} columns and PlanarConfiguration {header.planar}; {CORRECT}"
        )
    if header.kind == PALETTE and (header.stored > 16 or header.syntax in JPEG_8_OR_12_BIT):
        got = "lossy JPEG" if header.syntax in JPEG_8_OR_12_BIT else f"BitsStored {header.stored}"
        raise DataError(f"{path}: expected exact palette indices of at most 16 bits, got {got}; export it as RGB")


def _require_one_inversion(path: Path, dataset: Any, kind: str) -> None:
    """Raise DataError if PresentationLUTShape contradicts PhotometricInterpretation: viewers differ on which counts."""
    shape = str(dataset.get("PresentationLUTShape") or "")
    if kind in GREY and shape and shape != _SHAPES[kind]:
        raise DataError(
            f"{path}: expected PresentationLUTShape {_SHAPES[kind]} with {kind}, got {shape}; correct one of the two, "
            "or delete PresentationLUTShape"
        )


def require_square_pixels(path: Path, datasets: Sequence[Any]) -> None:
    """Check the proportions of a pixel in a file's data set and its functional groups.

    Raises DataError if PixelAspectRatio or a spacing has two different values (spacings: by more than 2 %).
    """
    for dataset in datasets:
        ratio = decimals(path, dataset, "PixelAspectRatio")
        if ratio and (len(ratio) != 2 or ratio[0] != ratio[1]):
            raise DataError(_not_square(path, "PixelAspectRatio", "\\".join(f"{value:g}" for value in ratio)))
        for name in _SPACINGS:
            try:
                down, across = (float(value) for value in dataset.get(name) or ())
            except (TypeError, ValueError):  # absent, or not two numbers: it decides nothing
                continue
            if down > 0 and across > 0 and abs(down / across - 1) > _SQUARE_WITHIN:
                raise DataError(_not_square(path, name, f"{down:g}\\{across:g}"))


def _not_square(path: Path, name: str, got: str) -> str:
    return f"{path}: expected square pixels, got {name} {got}; resample the image to square pixels and export it again"


def integer(path: Path, dataset: Any, name: str) -> int:
    """Return the value of an element with one integer. Raises DataError if it has none or several."""
    value = dataset.get(name)
    if not isinstance(value, int):
        raise DataError(f"{path}: expected {name} with one integer, got {value!r}; {CORRECT}")
    return int(value)


def _one_of(path: Path, dataset: Any, name: str, allowed: tuple[int, ...]) -> int:
    value = integer(path, dataset, name)
    if value not in allowed:
        expected = f"{', '.join(map(str, allowed[:-1]))} or {allowed[-1]}"
        raise DataError(f"{path}: expected {name} {expected}, got {value}; {CORRECT}")
    return value


def _require(path: Path, dataset: Any, name: str, expected: int, meaning: str, *, may_be_absent: bool = False) -> None:
    if may_be_absent and dataset.get(name) is None:
        return
    if (value := integer(path, dataset, name)) != expected:
        raise DataError(f"{path}: expected {name} {meaning}, got {value}; {CORRECT}")


def decimals(path: Path, dataset: Any, name: str) -> tuple[float, ...]:
    """Return the numbers of an element, none if it is absent or empty.

    Raises DataError if a value is not a finite decimal number.
    """
    if name not in dataset:
        return ()
    raw = dataset.get_item(name).value
    if not isinstance(raw, bytes):
        raw = dataset[name].value
        values = [raw] if raw is None or isinstance(raw, (str, int, float)) else list(raw)
        texts = ["" if value is None else str(getattr(value, "original_string", value)) for value in values]
    elif dataset.get_item(name).VR not in (None, "DS", "IS", "UN"):  # binary numbers
        value = dataset[name].value
        texts = [str(one) for one in (value if isinstance(value, Sequence) else [value])]
    else:
        texts = raw.decode("latin-1").split("\\")
    texts = [text.strip(" \0\t\r\n") for text in texts]
    while texts and not texts[-1]:
        texts.pop()
    for text in texts:
        if not _DECIMAL.fullmatch(text) or not abs(float(text)) < float("inf"):
            raise DataError(f"{path}: expected decimal numbers with a point in {name}, got {text!r}; {CORRECT}")
    return tuple(float(text) for text in texts)
