"""Attacks of other packages: found by entry point and held to the same limits; an adapter for attacks on classes.

An entry point of the group `raygrid.attacks` names a function

    craft(surrogate, images, labels, attack) -> adversarial images

with images (batch, channel, height, width) in [-1, 1], labels (batch, outputs) of 0 and 1, a frozen surrogate that
gives logits, and the `AttackSpec`. It should draw no random numbers: results would depend on the order of blocks.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from raygrid.errors import SpecError
from raygrid.spec import AttackSpec, plugins

_TOLERANCE = 1e-5  # of rounding in a plug-in that works in another range

# an attack of torchattacks, torchattack and their like: images in [0, 1] and classes to images in [0, 1]
ClassAttack: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def run_plugin(surrogate: nn.Module, images: Tensor, labels: Tensor, attack: AttackSpec) -> tuple[Tensor, int]:
    """Return the adversarial images of another package's attack, and the number of forward passes with a gradient.

    Args:
        images: (batch, channel, height, width) in [-1, 1].
        labels: (batch, outputs), 0 or 1.

    Raises SpecError if the result has another shape, is not finite, or leaves the range or the budget.
    """
    craft = plugins()[attack.base].load()
    passes = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal passes
        passes += torch.is_grad_enabled() and inputs[0].requires_grad

    handle = surrogate.register_forward_pre_hook(count)
    try:
        adversarial: Tensor = craft(surrogate, images.clone(), labels, attack).detach()
    finally:
        handle.remove()
    _require_limits(images, adversarial, attack)
    return adversarial.clamp(-1, 1), passes


def run_class_attack(
    build: Callable[[nn.Module], ClassAttack], surrogate: nn.Module, images: Tensor, labels: Tensor
) -> Tensor:
    """Return the adversarial images in [-1, 1] of an attack object of torchattacks and its like.

    Args:
        build: makes the attack object from a model of images in [0, 1] with two classes, for instance
            `lambda model: torchattacks.PGD(model, eps=attack.epsilon / 2, alpha=attack.alpha / 2, steps=attack.steps)`;
            budgets are halved, since [0, 1] is half as long as [-1, 1].
        images: (batch, channel, height, width) in [-1, 1].
        labels: (batch, 1), 0 or 1.

    Raises SpecError if there are several labels: cross-entropy over classes has no form for them.
    """
    if labels.shape[1] != 1:
        raise SpecError(
            f"an attack on classes needs one binary label, got {labels.shape[1]} labels; use raygrid's own attacks"
        )
    adversarial = build(_TwoClasses(surrogate))((images + 1) / 2, labels[:, 0].long())
    return adversarial.detach() * 2 - 1


class _TwoClasses(nn.Module):
    """A one-logit classifier for cross-entropy over two classes: images in [0, 1] to the logits (-z/2, z/2).

    Of (0, z) the gradient in float32 is exactly 0 for a positive with z > 16.6, because 1 minus its probability rounds
    to 0. Here the class with the small probability has half of the gradient, and keeps it.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images * 2 - 1)
        return torch.cat([-logits / 2, logits / 2], dim=1)


def _require_limits(images: Tensor, adversarial: Tensor, attack: AttackSpec) -> None:
    def require(claim: bool, got: str) -> None:
        if not claim:
            raise SpecError(f"the plug-in attack {attack.base!r} {got}; fix the package that provides it")

    require(adversarial.shape == images.shape, f"gave images of shape {tuple(adversarial.shape)}")
    require(bool(torch.isfinite(adversarial).all()), "gave values that are not finite")
    require(bool((adversarial.abs() <= 1 + _TOLERANCE).all()), "left the range [-1, 1]")
    change = (adversarial - images).flatten(1)
    length = (change.norm(dim=1) if attack.norm == "l2" else change.abs().amax(dim=1)).max().item()
    require(length <= attack.epsilon + _TOLERANCE, f"left its budget: {length:.6g} instead of {attack.epsilon:g}")
