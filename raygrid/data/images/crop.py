"""Parts of an image: the field of view on a dark border, and the middle."""

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raygrid.data.damage import SuspectImageWarning

_FIELD_LEVEL = 0.1  # of the way from the border's brightness to the brightest tissue: above JPEG noise and stray light
_FIELD_CHORD = 0.05  # a row or column belongs to the field if this share of it is bright; specks and lettering do not
_SMALLEST_FIELD = 0.2  # of a side; a smaller one is no field of view, and the image is kept whole
_ANALYSED_SIDE = 640  # pixels; the field is searched in a shrunken copy, exact to 0.3 % of the side
# Beyond these shares the field is uncertain, and the image is kept whole. Healthy photographs are far from them.
_MOST_DROPPED = 0.05  # bright pixels outside the field, of all bright pixels: lettering has less
_MOST_DIM = 0.08  # area outside the field that is brighter than the border, of the field's rectangle
_DIM_LEVELS, _DIM_LEVEL = 4, 0.03  # brighter by these grey levels and by this share of the contrast
_DIM_SIDE = 80  # blocks along the shorter side: their means are free of noise
_CORNER = 4  # blocks of a side of a corner, where the border is
_LEAST_FILLED = 0.45  # bright share of the field's rectangle: 0.79 for a circle
# Shorter side, of the longer: of a whole circle, of one cut off at the frame, and of one cut off inside it, as by an
# added border; half a circle is half a photograph.
_ROUND, _CUT_AT_FRAME, _CUT_INSIDE = 0.85, 0.5, 0.65
_CUT_CHORD = 0.4  # bright share of the row or column where a circle is cut off; an end that is round has less

Run = tuple[int, int]  # first row or column, and the one after the last


def crop_field_of_view(image: NDArray[np.uint8], name: object = "image") -> NDArray[np.uint8]:
    """Return the smallest rectangle around the bright field on a dark border, uint8 (height, width, 3).

    An image without a border is returned whole. So is an image whose field is uncertain, with a SuspectImageWarning
    that begins with `name`, such as the path: the field is too small or far from round, or bright parts lie outside it.
    """
    height, width, _ = image.shape
    factor = max(1, min(height, width) // _ANALYSED_SIDE)
    brightness = np.asarray(Image.fromarray(image).reduce(factor)).max(axis=2)
    dark, bright = np.percentile(brightness, (1, 95))
    field = brightness > dark + _FIELD_LEVEL * (bright - dark)
    rows = _longest_run(field.mean(axis=1) > _FIELD_CHORD)
    columns = _longest_run(field.mean(axis=0) > _FIELD_CHORD)
    if doubt := _doubt(field, rows, columns) or _dim_part(brightness, rows, columns, bright - dark):
        warnings.warn(SuspectImageWarning(f"{name}: not cropped to its field of view, {doubt}"), stacklevel=2)
        return image
    return image[rows[0] * factor : rows[1] * factor, columns[0] * factor : columns[1] * factor]


def _doubt(field: NDArray[np.bool_], rows: Run, columns: Run) -> str:
    """Return why the rectangle is not the field of view, in words; empty without doubt."""
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    for length, side in ((height, field.shape[0]), (width, field.shape[1])):
        if length < _SMALLEST_FIELD * side:
            return f"no bright part reaches {_SMALLEST_FIELD:.0%} of both sides"
    inside = field[slice(*rows), slice(*columns)]
    dropped = 1 - inside.sum() / field.sum()
    if dropped > _MOST_DROPPED:
        return f"{dropped:.0%} of its bright pixels lie outside the largest bright part"
    if inside.mean() < _LEAST_FILLED:
        return f"only {inside.mean():.0%} of the rectangle around its bright part is bright"
    short, long = min(height, width), max(height, width)
    along = inside if height < width else inside.T  # its first and last rows are the ends of the shorter side
    depth = max(1, short // 50)
    (start, end), side = (rows, field.shape[0]) if height < width else (columns, field.shape[1])
    are_cut = [edge.any(axis=0).mean() >= _CUT_CHORD for edge in (along[:depth], along[-depth:])]
    at_frame = [start <= depth, end >= side - depth]
    least = _ROUND
    if any(are_cut):
        least = _CUT_AT_FRAME if any(map(all, zip(are_cut, at_frame, strict=True))) else _CUT_INSIDE
    if short < least * long:
        return f"its bright part is far from round (sides {height / width:.2f} to 1)"
    return ""


def _dim_part(brightness: NDArray[np.uint8], rows: Run, columns: Run, contrast: float) -> str:
    """Return in words that the part outside the rectangle is brighter than a border, as beside a flare; else empty."""
    step = max(1, min(brightness.shape) // _DIM_SIDE)
    blocks = np.asarray(Image.fromarray(brightness).reduce(step)).astype(np.float64)
    ends = (slice(_CORNER), slice(-_CORNER, None))
    # the second brightest: the border may brighten to one side, and a label may lie in one corner
    corners = sorted(float(np.median(blocks[top, left])) for top in ends for left in ends)
    dim = blocks > corners[2] + max(_DIM_LEVELS, _DIM_LEVEL * contrast)
    # a block more on each side: the field's own edge is no dim part
    dim[slice(*_blocks(rows, step)), slice(*_blocks(columns, step))] = False
    share = dim.sum() * step**2 / ((rows[1] - rows[0]) * (columns[1] - columns[0]))
    return "the part beside it is brighter than a border" if share > _MOST_DIM else ""


def _blocks(run: Run, step: int) -> Run:
    """Return the run of blocks that touch a run of pixels, and one more at each end."""
    return max(0, run[0] // step - 1), -(-run[1] // step) + 1


def crop_middle(image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Return the middle of an image (height, width, channels), at most `share` of its longer side in each direction.

    At the same number of pixels, the middle of a retina, with optic disc and macula, then has finer detail.
    """
    height, width, _ = image.shape
    window = round(share * max(height, width))
    rows, columns = min(height, window), min(width, window)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _longest_run(flags: NDArray[np.bool_]) -> Run:
    """Return (start, end) of the longest run of True, (0, 0) without any."""
    steps = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if len(starts) == 0:
        return (0, 0)
    longest = int(np.argmax(ends - starts))
    return (int(starts[longest]), int(ends[longest]))
