"""The control of an attack: the same perturbation, shuffled over the image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raygrid.hashing import keyed_generator


def shuffles(seed: int, image_ids: Sequence[str], num_places: int) -> Tensor:
    """Return one permutation of `num_places` places per image, (n, num_places) int64.

    The key is (seed, image id), so an image has the same permutation on any worker, in any batch, and for all attacks
    and surrogates: the shuffle adds no noise to their differences.
    """
    rows = [keyed_generator(seed, "control", image_id).permutation(num_places) for image_id in image_ids]
    return torch.from_numpy(np.stack(rows))


def control(images: Tensor, adversarial: Tensor, permutations: Tensor) -> Tensor:
    """Return the images plus their shuffled perturbations, clipped to [-1, 1].

    Permutations of height x width places move whole pixels; those of channel x height x width places move single
    values, as the paper did (2.1, "spatially shuffled"; docs/explanation/protocol.md, Attacks).
    """
    perturbation = adversarial - images
    num_places = permutations.shape[1]
    if num_places == perturbation[0].numel():
        moved = perturbation.flatten(1).gather(1, permutations)
    else:
        channels = perturbation.shape[1]
        moved = perturbation.flatten(2).gather(2, permutations[:, None].expand(-1, channels, -1))
    return (images + moved.view(images.shape)).clamp_(-1, 1)
