"""Gradients of a surrogate's loss by the images, which no confidence makes vanish."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.errors import SpecError


class Scaled(NamedTuple):
    """A gradient without its magnitude, which may be too small for a float: values times exp(log_scale), per image.

    Attributes:
        values: (batch, channel, height, width).
        log_scale: (batch,).
    """

    values: Tensor
    log_scale: Tensor

    def plus(self, other: "Scaled", factor: float = 1.0) -> "Scaled":
        """Return self + factor * other, on the larger of both scales."""
        scale = torch.maximum(self.log_scale, other.log_scale)
        mine, others = ((s.log_scale - scale).exp().view(-1, 1, 1, 1) for s in (self, other))
        return Scaled(self.values * mine + other.values * (factor * others), scale)

    def times(self, factor: float) -> "Scaled":
        """Return the gradient times a number."""
        return Scaled(self.values * factor, self.log_scale)


class Bfloat16(nn.Module):
    """A network that computes products in bfloat16 and gives float32 logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, outputs) for images in [-1, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()


def freeze(model: nn.Module) -> nn.Module:
    """Return `model` in evaluation mode with no parameter asking for a gradient."""
    return model.eval().requires_grad_(False)


def loss_gradient(
    surrogate: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    targeted: bool = False,
    label_weights: Sequence[float] = (),
    contrast: float = 1.0,
) -> Scaled:
    """Return the gradient by the images of the loss of `contrast` times the images.

    The loss is binary cross-entropy with the true labels, summed over labels. Its derivative by a logit rounds to
    exactly 0 for a confident positive (z > 16.6 in float32), which would leave the image unattacked; the backward
    pass is therefore seeded with the same derivative in log space, scaled so that its largest entry is 1
    (docs/explanation/design.md, invariant 3).
    """
    images = images.detach().requires_grad_(True)
    logits = surrogate(images if contrast == 1 else images * contrast)
    seed, log_scale = logit_seed(logits.detach(), labels, targeted=targeted, label_weights=label_weights)
    (gradient,) = torch.autograd.grad(logits, images, grad_outputs=seed)
    return Scaled(gradient, log_scale)


def logit_seed(
    logits: Tensor, labels: Tensor, *, targeted: bool = False, label_weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Return the direction by the logits (batch, outputs) that an attack climbs, and the log of its size (batch,).

    With s = 2y - 1 it is the loss's derivative, -s w sigmoid(-s z), divided by its largest magnitude per image; finite
    and non-zero for |z| up to 1e4. Targeted, s is that of the opposite label and the sign is turned: the loss of the
    wished label falls.
    """
    sign = labels.to(logits.dtype) * 2 - 1
    wished = -sign if targeted else sign
    log_magnitude = F.logsigmoid(-wished * logits)
    if label_weights:
        if len(label_weights) != logits.shape[1]:
            raise SpecError(
                f"label_weights of an attack has {len(label_weights)} numbers, the model {logits.shape[1]} outputs; "
                "give one for each label"
            )
        log_magnitude = log_magnitude + logits.new_tensor(label_weights).log()
    log_scale = log_magnitude.amax(dim=1)
    return -sign * (log_magnitude - log_scale[:, None]).exp(), log_scale
