"""Gradients of a surrogate's loss with respect to the images, which do not vanish where the surrogate is confident."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.errors import DataError, RaygridError, SpecError, in_one_line, listed


class Scaled(NamedTuple):
    """A gradient as values times exp(log_scale) per image, because its magnitude may be too small for a float.

    Attributes:
        values: (batch, channel, height, width).
        log_scale: (batch,).
    """

    values: Tensor
    log_scale: Tensor

    def plus(self, other: "Scaled", factor: float = 1.0) -> "Scaled":
        """Return self + factor * other, on the larger of the two scales of each image."""
        scale = torch.maximum(self.log_scale, other.log_scale)
        mine, others = ((s.log_scale - scale).exp().view(-1, 1, 1, 1) for s in (self, other))
        return Scaled(self.values * mine + other.values * (factor * others), scale)

    def times(self, factor: float) -> "Scaled":
        """Return the gradient times a number."""
        return Scaled(self.values * factor, self.log_scale)

    def finite_part(self) -> tuple["Scaled", Tensor]:
        """Return the gradient with 0 for every non-finite value, and the images without such values, (batch,).

        A finite gradient stays the same, bit for bit.
        """
        values, log_scale = self.values, self.log_scale
        finite = finite_images(values) & log_scale.isfinite()
        # the lowest scale gives way to that of any finite gradient added to it
        lowest = torch.finfo(log_scale.dtype).min
        scale = log_scale.nan_to_num(lowest, lowest, lowest)
        return Scaled(values.nan_to_num(0.0, 0.0, 0.0), scale), finite


def finite_images(values: Tensor) -> Tensor:
    """Return which images (batch, channel, height, width) have finite values alone, (batch,) bool."""
    # both extremes are NaN if any value is; their passes take a seventh of the time of a look at each value
    return values.amax(dim=(1, 2, 3)).isfinite() & values.amin(dim=(1, 2, 3)).isfinite()


def names_of_damaged(images: Tensor, image_ids: Sequence[str]) -> str:
    """Return the first images with non-finite values, in words; "" if there are none.

    Args:
        images: (batch, channel, height, width).
        image_ids: their names; [] names them by number.
    """
    damaged = (~finite_images(images)).nonzero()[:, 0].tolist()
    return listed([repr(image_ids[k]) if image_ids else f"number {k}" for k in damaged])


@contextmanager
def named_errors(surrogate: nn.Module, who: str) -> Iterator[None]:
    """Turn exceptions of a backward pass through a network that raygrid did not build into DataError on one line.

    Such a network, or one inside its wrappers, has its name in the attribute `who`. Exceptions of other networks pass.

    Args:
        who: start of the message, such as the attack.
    """
    try:
        yield
    except RaygridError:
        raise
    except (Exception, SystemExit) as error:  # foreign code can raise anything
        foreign = [module.who for module in surrogate.modules() if isinstance(getattr(module, "who", None), str)]
        if not foreign:
            raise
        raise DataError(
            f"{who}{' or '.join(str(name) for name in foreign)} raised {in_one_line(error)} while its gradient was "
            "computed; fix the target, or remove attacked_through"
        ) from error


class Bfloat16(nn.Module):
    """A network that computes products in bfloat16 and returns float32 logits."""

    wraps = "network"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, outputs) for images in [-1, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()


def freeze(model: nn.Module) -> nn.Module:
    """Return `model`, changed in place: in evaluation mode, without gradients for its parameters."""
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
    """Return the gradient of J(contrast * x, y) with respect to the images x.

    J is binary cross-entropy with the true labels, summed over labels. In float32 its derivative with respect to a
    logit rounds to exactly 0 for a confident positive (z > 16.6), which would leave the image unattacked. `logit_seed`
    therefore seeds the backward pass with the same derivative from log space, scaled to a largest entry of 1
    (docs/explanation/design.md, invariant 3).

    Args:
        images: x, (batch, channel, height, width) in [-1, 1].
        labels: y, (batch, outputs), 0 or 1.
        targeted, label_weights: as for `logit_seed`.
        contrast: factor of the images; SI-NI-FGSM's 1 / 2^i.
    """
    images = images.detach().requires_grad_(True)
    logits = surrogate(images if contrast == 1 else images * contrast)
    seed, log_scale = logit_seed(logits.detach(), labels, targeted=targeted, label_weights=label_weights)
    (gradient,) = torch.autograd.grad(logits, images, grad_outputs=seed)
    return Scaled(gradient, log_scale)


def logit_seed(
    logits: Tensor, labels: Tensor, *, targeted: bool = False, label_weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Return the ascent direction of an attack in the logits, (batch, outputs), and the log of its size, (batch,).

    With s = 2y - 1 it is the derivative of the loss, -s w sigmoid(-s z), divided by its largest magnitude per image:
    finite and non-zero for |z| up to 1e4. A targeted attack takes s from the opposite label and reverses the sign, so
    that the loss of the desired label falls.

    Args:
        logits: z, (batch, outputs).
        labels: y, (batch, outputs), 0 or 1.
        label_weights: w, one per output; all 1 by default.

    Raises SpecError if there is not one weight per output.
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
