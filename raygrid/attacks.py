"""Perturbations through a surrogate: every attack of a study from the fewest gradient evaluations.

All attacks start at the image itself, so they walk one path until something tells them apart: the step size, or the
first step at which a budget clips. The gradient at a point that several attacks share is computed once (FGSM at any
epsilon needs only PGD's first); results are bit-equal to running each attack alone through `craft`.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.keyed import keyed_generator
from raygrid.spec import AttackSpec

_CLIP_TOLERANCE = 1e-9  # of epsilon: 3 x 0.01 is not 0.03 in binary


def to_unit_range(images: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """Return float32 images (n, channel, height, width) in [-1, 1] for uint8 images (n, height, width, channel).

    They travel to the device as bytes, and lie in memory channel last, as convolutions want them.
    """
    # images read from Parquet are views of Arrow's memory, which torch may not write to
    tensor = torch.from_numpy(np.require(images, requirements="W")).to(device)
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float().div_(127.5).sub_(1)


def freeze(model: nn.Module) -> nn.Module:
    """Return `model` in evaluation mode with no parameter asking for a gradient."""
    return model.eval().requires_grad_(False)


class Crafter:
    """One surrogate, ready to be attacked through.

    Attributes:
        num_gradients: gradient evaluations per image so far.
        zero_gradients: (batch,) bool of the last `craft`: images whose first gradient is zero everywhere.
    """

    def __init__(self, surrogate: nn.Module) -> None:
        self.surrogate = freeze(surrogate)
        self.num_gradients = 0
        self.zero_gradients = torch.zeros(0, dtype=torch.bool)

    def craft(
        self, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec]
    ) -> Iterator[tuple[AttackSpec, Tensor]]:
        """Yield (attack, adversarial images) for every attack, each as soon as it is finished.

        Args:
            images: (batch, channel, height, width) in [-1, 1].
            labels: (batch, outputs), 0 or 1.

        Each step adds alpha times the gradient's sign, clips to the epsilon-ball where that can act, and to
        [-1, 1]. Source: FGSM, Goodfellow et al. 2015; PGD without random start, Madry et al. 2018.
        """
        paths: list[tuple[Tensor, list[AttackSpec]]] = [(images, list(attacks))]
        for step in count(1):
            going_on: list[tuple[Tensor, list[AttackSpec]]] = []
            for current, running in paths:
                direction = self._gradient(current, labels, first=step == 1).sign_()
                for moved, together in _moves(images, current, direction, running, step):
                    for attack in together:
                        if attack.steps == step:
                            yield attack, moved
                    unfinished = [a for a in together if a.steps > step]
                    if unfinished:
                        going_on.append((moved, unfinished))
            if not going_on:
                return
            paths = going_on

    def _gradient(self, images: Tensor, labels: Tensor, *, first: bool) -> Tensor:
        gradient = loss_gradient(self.surrogate, images, labels)
        self.num_gradients += 1
        if first:
            self.zero_gradients = gradient.flatten(1).eq(0).all(dim=1)
        return gradient


def loss_gradient(surrogate: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the loss by the images, up to a positive factor per image.

    The loss is binary cross-entropy with the true labels, summed over labels. Its derivative by a logit rounds to
    exactly 0 for a confident positive (z > 16.6 in float32), which would leave the image unattacked; the backward
    pass is therefore seeded with the same derivative in log space, scaled so that its largest entry is 1
    (docs/design.md, invariant 3). Only the sign is used, so the factor does not matter.
    """
    images = images.detach().requires_grad_(True)
    logits = surrogate(images)
    (gradient,) = torch.autograd.grad(logits, images, grad_outputs=logit_seed(logits.detach(), labels))
    return gradient


def logit_seed(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss's derivative by the logits (batch, outputs), divided by its largest magnitude per image.

    With s = 2y - 1 it is -s sigmoid(-s z); finite and non-zero for |z| up to 1e4.
    """
    sign = labels.to(logits.dtype) * 2 - 1
    log_magnitude = F.logsigmoid(-sign * logits)
    return -sign * (log_magnitude - log_magnitude.amax(dim=1, keepdim=True)).exp()


def shuffles(seed: int, image_ids: Sequence[str], num_values: int) -> Tensor:
    """Return one permutation of an image's values per image, (n, num_values) int64.

    It is keyed by (seed, image id), so that the control is the same on any worker and in any batch, and an image
    keeps it over all attacks and surrogates: differences between them are not blurred by another shuffle.
    """
    rows = [keyed_generator(seed, "control", image_id).permutation(num_values) for image_id in image_ids]
    return torch.from_numpy(np.stack(rows))


def control(images: Tensor, adversarial: Tensor, permutations: Tensor) -> Tensor:
    """Return images with the same perturbation shuffled over all values of the image, clipped to [-1, 1].

    Source: the paper, 2.1 ("spatially shuffled"); one flat shuffle per image (docs/protocol.md, Attacks).
    """
    perturbation = (adversarial - images).flatten(1)
    return (images + perturbation.gather(1, permutations).view(images.shape)).clamp_(-1, 1)


def _moves(
    images: Tensor, current: Tensor, direction: Tensor, running: Sequence[AttackSpec], step: int
) -> Iterator[tuple[Tensor, list[AttackSpec]]]:
    """Yield the next point of each group of attacks that are still on one path."""
    groups: dict[tuple[float, float | None], list[AttackSpec]] = {}
    for attack in running:
        # while step * alpha <= epsilon the ball cannot clip; clipping all the same would only round
        clips = step * attack.alpha > attack.epsilon * (1 + _CLIP_TOLERANCE)
        groups.setdefault((attack.alpha, attack.epsilon if clips else None), []).append(attack)
    for (alpha, epsilon), together in groups.items():
        moved = current + alpha * direction
        if epsilon is not None:
            moved = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon)
        yield moved.clamp_(-1, 1), together
