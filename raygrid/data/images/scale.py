"""Images between grey levels (bytes, 0 to 255) and the scale that networks and budgets live on, [-1, 1]."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_HALF = 127.5  # grey levels per unit
_LEVEL_TOLERANCE = 1e-4  # grey levels; rounding errors leave a whole level just below itself


def to_unit_range(images: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """Return float32 images (n, channel, height, width) in [-1, 1] for uint8 images (n, height, width, channel).

    They travel to the device as bytes, and lie in memory channel last, as convolutions want them.
    """
    # images read from Parquet are views of Arrow's memory, which torch may not write to
    tensor = torch.from_numpy(np.require(images, requirements="W")).to(device)
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float().div_(_HALF).sub_(1)


def round_to_levels(adversarial: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Return adversarial images whose values are grey levels, at most epsilon from the images (which are levels).

    The budget is rounded down to whole levels, so rounding never leaves it: 0.02 becomes 2 of 255 levels, 0.0157.
    """
    most = math.floor(epsilon * _HALF * (1 + 1e-9))
    before = (images + 1).mul_(_HALF).round_()
    change = (adversarial + 1).mul_(_HALF).round_().sub_(before).clamp_(-most, most)
    return (before + change).clamp_(0, 255).div_(_HALF).sub_(1)


def round_towards(images: Tensor, changed: Tensor) -> Tensor:
    """Return changed images whose values are grey levels, each rounded towards the image (which has levels).

    No value moves further from the image, so the result keeps every budget that the change keeps: a change of 2.55
    levels becomes 2, where rounding to nearest would make it 3.
    """
    before = (images + 1).mul_(_HALF).round_()
    change = (changed + 1).mul_(_HALF).sub_(before)
    whole = change.add_(change.sign().mul_(_LEVEL_TOLERANCE)).trunc_()
    return whole.add_(before).clamp_(0, 255).div_(_HALF).sub_(1)
