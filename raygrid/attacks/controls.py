"""The control of an attack: the same perturbation in other places."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raygrid.hashing import keyed_generator


def shuffles(seed: int, image_ids: Sequence[str], num_places: int) -> Tensor:
    """Return one permutation of an image's places per image, (n, num_places) int64.

    It is keyed by (seed, image id), so that the control is the same on any worker and in any batch, and an image
    keeps it over all attacks and surrogates: differences between them are not blurred by another shuffle.
    """
    rows = [keyed_generator(seed, "control", image_id).permutation(num_places) for image_id in image_ids]
    return torch.from_numpy(np.stack(rows))


def control(images: Tensor, adversarial: Tensor, permutations: Tensor) -> Tensor:
    """Return images with the same perturbation shuffled over the image, clipped to [-1, 1].

    Permutations over height x width places move whole pixels; over channel x height x width, single values, as the
    paper did (2.1, "spatially shuffled"; docs/explanation/protocol.md, Attacks).
    """
    perturbation = adversarial - images
    num_places = permutations.shape[1]
    if num_places == perturbation[0].numel():
        moved = perturbation.flatten(1).gather(1, permutations)
    else:
        channels = perturbation.shape[1]
        moved = perturbation.flatten(2).gather(2, permutations[:, None].expand(-1, channels, -1))
    return (images + moved.view(images.shape)).clamp_(-1, 1)
