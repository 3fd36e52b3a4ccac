"""Images between grey levels (bytes, 0 to 255) and the scale of networks and budgets, [-1, 1].

PyTorch is imported by the one function that needs it: analysis takes the constant from here and has no PyTorch.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

GREY_LEVELS_PER_UNIT = 127.5  # 255 levels span [-1, 1]
_LEVEL_TOLERANCE = 1e-4  # grey levels; rounding errors leave a whole level just below itself


def to_unit_range(images: NDArray[np.uint8], device: str = "cpu") -> "Tensor":
    """Return float32 images (n, channel, height, width) in [-1, 1] for uint8 images (n, height, width, channel).

    They travel to the device as bytes. Their memory format is channels_last, the fastest for convolutions.
    """
    import torch

    # images read from Parquet are views of Arrow's memory, and torch may not write to it
    tensor = torch.from_numpy(np.require(images, requirements="W")).to(device)
    levels = tensor.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float()
    return levels.div_(GREY_LEVELS_PER_UNIT).sub_(1)


def round_to_levels(adversarial: "Tensor", images: "Tensor", epsilon: float) -> "Tensor":
    """Return adversarial images of whole grey levels, at most `epsilon` from the images.

    All images are (n, channel, height, width) in [-1, 1]; `images` are whole grey levels already. The budget
    is rounded down to whole levels, so rounding never leaves it: 0.02 becomes 2 of 255 levels, 0.0157.
    """
    most = math.floor(epsilon * GREY_LEVELS_PER_UNIT * (1 + 1e-9))
    before = (images + 1).mul_(GREY_LEVELS_PER_UNIT).round_()
    change = (adversarial + 1).mul_(GREY_LEVELS_PER_UNIT).round_().sub_(before).clamp_(-most, most)
    return (before + change).clamp_(0, 255).div_(GREY_LEVELS_PER_UNIT).sub_(1)


def round_towards(images: "Tensor", changed: "Tensor") -> "Tensor":
    """Return the changed images with every value rounded to a whole grey level, towards the image.

    All images are (n, channel, height, width) in [-1, 1]; `images` are whole grey levels already. No value
    moves further from the image, so the result keeps the budget of the change: a change of 2.55 levels becomes 2;
    rounding to nearest would make it 3.
    """
    before = (images + 1).mul_(GREY_LEVELS_PER_UNIT).round_()
    change = (changed + 1).mul_(GREY_LEVELS_PER_UNIT).sub_(before)
    whole = change.add_(change.sign().mul_(_LEVEL_TOLERANCE)).trunc_()
    return whole.add_(before).clamp_(0, 255).div_(GREY_LEVELS_PER_UNIT).sub_(1)
