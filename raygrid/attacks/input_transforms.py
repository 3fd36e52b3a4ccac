"""Transforms of images before, and of gradients after, a pass through the surrogate; random ones are keyed by image."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raygrid.hashing import keyed_generator

_SMALLEST = 1 / 1.1  # of the side; 299 of 330 pixels in the paper
_KERNEL_SIGMAS = 3.0  # from the middle of the kernel to its edge


class ImageDraws:
    """Random numbers of a batch, one stream per image and purpose, so that an image's numbers ignore its batch."""

    def __init__(self, seed: int, image_ids: Sequence[str], purpose: str) -> None:
        self._generators = [keyed_generator(seed, purpose, image_id) for image_id in image_ids]

    def uniform(self, images: Tensor) -> Tensor:
        """Return the next numbers in [-1, 1) for every value of the images, in their shape and on their device."""
        shape = images.shape[1:]
        rows = np.stack([g.random(shape, dtype=np.float32) for g in self._generators])
        return torch.from_numpy(rows).to(images.device, images.dtype).mul_(2).sub_(1)

    def normal(self, images: Tensor) -> Tensor:
        """Return the next standard normal numbers for every value of the images."""
        shape = images.shape[1:]
        rows = np.stack([g.standard_normal(shape, dtype=np.float32) for g in self._generators])
        return torch.from_numpy(rows).to(images.device, images.dtype)

    def numbers(self, count: int) -> Tensor:
        """Return the next `count` numbers in [0, 1) of each image, (batch, count)."""
        return torch.from_numpy(np.stack([g.random(count, dtype=np.float32) for g in self._generators]))


def diversify(images: Tensor, numbers: Tensor, probability: float) -> Tensor:
    """Return T(x; p): with probability p an image is shrunk by up to a tenth and moved, on a mid-grey ground.

    Args:
        images: x, (batch, channel, height, width) in [-1, 1].
        numbers: (batch, 4) in [0, 1): whether to shrink, how much, how far right, how far down.
        probability: p.

    Source: DI²-FGSM, Xie et al. 2019, which takes the gradient of J(T(x; p), y).
    """
    numbers = numbers.to(images.device, images.dtype)
    shrinks = numbers[:, 0] < probability
    side = torch.where(shrinks, _SMALLEST + (1 - _SMALLEST) * numbers[:, 1], 1.0)
    free = (1 - side)[:, None] * (2 * numbers[:, 2:] - 1)  # of the place for its middle, in half sides
    matrix = torch.zeros(len(images), 2, 3, dtype=images.dtype, device=images.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / side
    matrix[:, :, 2] = -free / side[:, None]
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.where(shrinks.view(-1, 1, 1, 1), moved, images)


def smooth(gradient: Tensor, side: int) -> Tensor:
    """Return W * gradient, the convolution of each channel with a Gaussian of `side` x `side` pixels.

    It approximates the mean gradient over shifted images.

    Args:
        gradient: (batch, channel, height, width).

    Source: TI-FGSM, Dong et al. 2019.
    """
    channels = gradient.shape[1]
    kernel = _gaussian(side).to(gradient.device, gradient.dtype).expand(channels, 1, side, side)
    return F.conv2d(gradient, kernel, padding=side // 2, groups=channels)


@cache
def _gaussian(side: int) -> Tensor:
    places = torch.linspace(-_KERNEL_SIGMAS, _KERNEL_SIGMAS, side, dtype=torch.float64)
    line = torch.exp(-places.square() / 2)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()
