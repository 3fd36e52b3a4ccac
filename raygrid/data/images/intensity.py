"""Intensities of any range to the 256 grey levels of a prepared image; size limits of images."""

import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raygrid.data.damage import DamagedFileError, SuspectImageWarning
from raygrid.errors import DataError

MAX_PIXELS = 150_000_000  # height x width: above any radiograph or photograph, below Pillow's own limit of 179 million

MAX_RATIO = 20  # of an image's longer side to its shorter

_FEW_LEVELS = 16  # 12-bit values in a 16-bit file reach no more

Window: TypeAlias = tuple[float, float]


def require_decodable(path: Path, height: int, width: int) -> None:
    """Check the size of an image, in pixels, before it is decoded.

    Raises DamagedFileError if a side is 0, DataError above MAX_PIXELS or MAX_RATIO.
    """
    if height < 1 or width < 1:
        raise DamagedFileError(f"{path}: expected an image, got {height} x {width} pixels in its header")
    if max(height, width) > MAX_RATIO * min(height, width):  # padded to a square, it would be almost empty, and huge
        raise DataError(
            f"{path}: expected sides of at most {MAX_RATIO} to 1, got {height} x {width} pixels; crop the image"
        )
    if height * width > MAX_PIXELS:
        raise too_large(path, f"{height} x {width} pixels in its header")


def too_large(path: Path, got: str) -> DataError:
    """Return the error for an image of too many pixels."""
    return DataError(
        f"{path}: expected at most {MAX_PIXELS // 10**6} megapixels, got {got}; the file is damaged or made to fill "
        "the memory: replace it, or shrink the image"
    )


def as_levels(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Return `values` of any shape as uint8: low and below 0, high and above 255, linear and rounded between.

    An empty window (low = high, an image of one intensity) gives 0.
    """
    low, high = window
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)


def tell_if_flat(path: Path, before: NDArray[Any], levels: NDArray[np.uint8]) -> None:
    """Warn with SuspectImageWarning if the levels are all equal and the values before a window or table are not."""
    if levels.size and levels.min() == levels.max() and before.min() != before.max():
        message = (
            f"{path}: one grey level ({levels.flat[0]}) after windowing, from values {before.min()} to {before.max()}"
        )
        warnings.warn(SuspectImageWarning(f"{message}: check that the window covers the values"), stacklevel=2)


def tell_if_dark(path: Path, values: NDArray[Any], levels: NDArray[np.uint8]) -> None:
    """Warn with SuspectImageWarning if 16-bit values, not all equal, reach fewer than 16 of the 256 grey levels."""
    if values.size and levels.max() < _FEW_LEVELS and levels.min() != levels.max():
        message = f"{path}: values from {values.min()} to {values.max()} of 65535, so at most {_FEW_LEVELS} grey levels"
        warnings.warn(SuspectImageWarning(f"{message}: set the option window to their range"), stacklevel=2)


def with_channels(levels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return (height, width) or (height, width, 1 or 3) as (height, width, channels).

    Grey is repeated for colour; colour becomes grey by Pillow's luma weights (0.299, 0.587, 0.114).
    """
    plane = levels[:, :, 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    if plane.ndim == 2:
        return plane[:, :, None] if channels == 1 else np.repeat(plane[:, :, None], channels, axis=2)
    return plane if channels == 3 else np.asarray(Image.fromarray(plane).convert("L"))[:, :, None]


def resize_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the whole image as uint8 (size, size, channel), with its proportions.

    The shorter side is padded with black on both sides. When the image shrinks, the filter averages over all source
    pixels (no aliasing). An image of this size is returned unchanged.
    """
    if image.shape[:2] == (size, size):
        return image
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    return np.asarray(square_picture(picture, size)).reshape(size, size, -1)


def square_picture(picture: Image.Image, size: int) -> Image.Image:
    """Return a grey or RGB picture, padded and resized as in `resize_square`."""
    width, height = picture.size
    side = max(width, height)
    square = picture
    if width != height:
        square = Image.new(picture.mode, (side, side))
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square.resize((size, size), Image.Resampling.BICUBIC) if side != size else square
