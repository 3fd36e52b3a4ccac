"""Parts of an image: the field of view on a dark border, and the middle."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_FIELD_LEVEL = 0.1  # of the way from the border's brightness to the brightest tissue: above JPEG noise and stray light
_FIELD_CHORD = 0.05  # a row or column belongs to the field if this share of it is bright; specks and lettering do not
_SMALLEST_FIELD = 0.2  # of a side; a smaller one is no field of view, and the image is kept whole
_ANALYSED_SIDE = 640  # pixels; the field is searched in a shrunken copy, exact to 0.3 % of the side


def crop_field_of_view(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the smallest rectangle around the bright field on a dark border, uint8 (height, width, 3).

    An image without a border, of one brightness or without a large enough field is returned whole.
    """
    height, width, _ = image.shape
    factor = max(1, min(height, width) // _ANALYSED_SIDE)
    brightness = np.asarray(Image.fromarray(image).reduce(factor)).max(axis=2)
    dark, bright = np.percentile(brightness, (1, 95))
    field = brightness > dark + _FIELD_LEVEL * (bright - dark)
    rows = _longest_run(field.mean(axis=1) > _FIELD_CHORD)
    columns = _longest_run(field.mean(axis=0) > _FIELD_CHORD)
    for (first, end), side in ((rows, field.shape[0]), (columns, field.shape[1])):
        if end - first < _SMALLEST_FIELD * side:
            return image
    return image[rows[0] * factor : rows[1] * factor, columns[0] * factor : columns[1] * factor]


def crop_middle(image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Return the middle of an image (height, width, channels), at most `share` of its longer side in each direction.

    At the same number of pixels, the middle of a retina, with optic disc and macula, then has finer detail.
    """
    height, width, _ = image.shape
    window = round(share * max(height, width))
    rows, columns = min(height, window), min(width, window)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (start, end) of the longest run of True, (0, 0) without any."""
    steps = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if len(starts) == 0:
        return (0, 0)
    longest = int(np.argmax(ends - starts))
    return (int(starts[longest]), int(ends[longest]))
