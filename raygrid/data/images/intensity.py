"""Intensities of any range to the 256 levels of a prepared image, and the largest image that is decoded."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raygrid.errors import DataError

MAX_PIXELS = 150_000_000  # height x width: above any radiograph or photograph, below Pillow's own limit of 179 million

MAX_RATIO = 20  # of an image's longer side to its shorter

Window: TypeAlias = tuple[float, float]


def require_decodable(path: Path, height: int, width: int) -> None:
    """Return nothing if an image of this size may be decoded. Raises DataError for no pixels or above MAX_PIXELS."""
    if height < 1 or width < 1:
        raise DataError(
            f"{path}: expected an image, got {height} x {width} pixels in its header; fetch or export it again"
        )
    if max(height, width) > MAX_RATIO * min(height, width):  # made square, it would be almost empty, and huge
        raise DataError(
            f"{path}: expected sides of at most {MAX_RATIO} to 1, got {height} x {width} pixels; crop the image"
        )
    if height * width > MAX_PIXELS:
        raise too_large(path, f"{height} x {width} pixels in its header")


def too_large(path: Path, got: str) -> DataError:
    """Return the error for an image that is refused before it is decoded."""
    return DataError(
        f"{path}: expected at most {MAX_PIXELS // 10**6} megapixels, got {got}; such a file is damaged or made to fill "
        "the memory: fetch it again, or shrink it"
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


def with_channels(levels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return (height, width) or (height, width, 1 or 3) as (height, width, channels).

    Grey is repeated for colour; colour becomes grey by Pillow's luma weights (0.299, 0.587, 0.114).
    """
    plane = levels[:, :, 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    if plane.ndim == 2:
        return plane[:, :, None] if channels == 1 else np.repeat(plane[:, :, None], channels, axis=2)
    return plane if channels == 3 else np.asarray(Image.fromarray(plane).convert("L"))[:, :, None]


def resize_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the whole image at (size, size, channel), uint8, its proportions kept.

    The shorter side is padded with black on both sides; the filter averages over all source pixels when it
    shrinks (no aliasing). An image that has the size already comes back unchanged.
    """
    if image.shape[:2] == (size, size):
        return image
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    return np.asarray(square_picture(picture, size)).reshape(size, size, -1)


def square_picture(picture: Image.Image, size: int) -> Image.Image:
    """Return a grey or RGB picture as `resize_square` does an array."""
    width, height = picture.size
    side = max(width, height)
    square = picture
    if width != height:
        square = Image.new(picture.mode, (side, side))
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square.resize((size, size), Image.Resampling.BICUBIC) if side != size else square
