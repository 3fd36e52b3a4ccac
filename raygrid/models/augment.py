"""Augmentation of a batch on its device, each image by its own keyed draw.

Nothing is drawn from a global generator. A resumed training, or one on another worker, augments image i of epoch e
exactly as an uninterrupted one does.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raygrid.hashing import keyed_generator

NUM_DRAWS = 10
MAX_TRANSLATION = 0.1  # share of the image's side
MAX_COLOUR_GAIN = 0.15
MAX_COLOUR_BIAS = 0.15  # of the range [-1, 1]


def keyed_draws(seed: int, image_ids: Sequence[str], epoch: int) -> NDArray[np.float32]:
    """Return uniform draws in [0, 1), (n, NUM_DRAWS), each row a function of only (seed, image id, epoch)."""
    rows = [
        keyed_generator(seed, "augment", image_id, epoch).random(NUM_DRAWS, dtype=np.float32) for image_id in image_ids
    ]
    return np.stack(rows)


def augment(images: Tensor, draws: Tensor, names: Sequence[str]) -> Tensor:
    """Return augmented images, same shape (batch, channel, height, width) and range [-1, 1].

    Args:
        draws: (batch, NUM_DRAWS) uniform in [0, 1).
        names: augmentations to apply, out of `raygrid.spec.AUGMENTATIONS`.
    """
    if "flip_horizontal" in names:
        images = _where(draws[:, 0] < 0.5, images.flip(-1), images)
    if "flip_vertical" in names:
        images = _where(draws[:, 1] < 0.5, images.flip(-2), images)
    if "rotate" in names or "translate" in names:
        images = _move(images, draws, rotate="rotate" in names, translate="translate" in names)
    if "colour" in names:
        images = _recolour(images, draws[:, 5:])
    return images


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, 1, 1, 1), yes, no)


def _move(images: Tensor, draws: Tensor, *, rotate: bool, translate: bool) -> Tensor:
    angle = draws[:, 2] * (2 * torch.pi) if rotate else torch.zeros_like(draws[:, 2])
    # affine_grid counts from -1 to 1 across the image, so a share of the side is doubled
    shift = (draws[:, 3:5] * 2 - 1) * (2 * MAX_TRANSLATION) if translate else torch.zeros_like(draws[:, 3:5])
    cosine, sine = angle.cos(), angle.sin()
    theta = torch.stack(
        [torch.stack([cosine, -sine, shift[:, 0]], dim=1), torch.stack([sine, cosine, shift[:, 1]], dim=1)], dim=1
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # pixels from outside the image are black: -1, not 0
    return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1


def _recolour(images: Tensor, draws: Tensor) -> Tensor:
    channels = images.shape[1]
    signed = draws * 2 - 1
    gain = 1 + signed[:, :1] * MAX_COLOUR_GAIN
    bias = signed[:, 1 : 1 + channels] * MAX_COLOUR_BIAS
    return (images * gain.view(-1, 1, 1, 1) + bias.view(-1, channels, 1, 1)).clamp(-1, 1)
