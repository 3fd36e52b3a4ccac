"""Attacks on classes, as torchattacks and TransferAttack have them, through networks with one logit per label."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks.inner_networks import inner_networks

# from images in [0, 1] and classes to images in [0, 1]
ClassAttack: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_SMALL = 1e-9  # below it, 1 - exp(-J) is better added up from its parts


def run_class_attack(
    build: Callable[[nn.Module], ClassAttack], surrogate: nn.Module, images: Tensor, labels: Tensor
) -> Tensor:
    """Return the adversarial images in [-1, 1] of an attack object of torchattacks and its like.

    With one label the classes are 0 (negative) and 1 (positive), with the logits (-z/2, z/2).

    With several labels, the images with equal labels y are attacked together. Class 1 means that every label is as in
    y, and class 0 that some label differs; every image has class 1. With p the product of the probabilities of the
    labels in y, the logits are (-L/2, L/2) with L = log(p / (1 - p)). Cross-entropy is then raygrid's own loss, binary
    cross-entropy summed over labels, and any other loss of these two logits has the direction of its gradient.

    Args:
        build: makes the attack object from a model of images in [0, 1] with two classes, for instance
            `lambda model: torchattacks.PGD(model, eps=attack.epsilon / 2, alpha=attack.alpha / 2, steps=attack.steps)`;
            budgets are halved, since [0, 1] is half as long as [-1, 1].
        images: (batch, channel, height, width) in [-1, 1].
        labels: (batch, labels), 0 or 1.
    """
    adversarial = torch.empty_like(images)
    for rows, given, classes in _batches(labels):
        model = TwoClasses(surrogate, given, device=images.device)
        found = build(model)(((images[rows] + 1) / 2).contiguous(), classes)
        adversarial[rows] = found.detach().to(images.dtype) * 2 - 1
    return adversarial


def transfer_attack(attack_class: Any, model: nn.Module, **options: Any) -> ClassAttack:
    """Return an attack of TransferAttack on a model, for `build` of `run_class_attack`.

    The attack would load a network by name; it gets `model` instead.

    Args:
        attack_class: a subclass of `transferattack.attack.Attack`.
        options: its arguments; `epsilon` and `alpha` in units of [0, 1]. `model_name` is for attacks that choose layers
            by it.
    """
    injected = type(attack_class.__name__, (attack_class,), {"load_model": lambda self, name: model})
    attack = injected(**{"model_name": "raygrid", **options})
    return lambda images, classes: images + cast(Tensor, attack(images, classes))


class TwoClasses(nn.Sequential):
    """A network as a classifier of two classes, from images in [0, 1]; see `run_class_attack`.

    Like the models of TransferAttack it has two parts that attacks may look into: `model[0]` prepares the images, and
    `model[1]` is the network with the layer names of its own library. `model[2]` turns its logits into classes. A call
    passes through all of raygrid's wrappers.
    """

    def __init__(self, surrogate: nn.Module, given: Tensor | None, *, device: torch.device) -> None:
        networks = inner_networks(surrogate)
        network = networks[0] if len(networks) == 1 else surrogate
        super().__init__(_Prepared(surrogate), network, _Classes(given, device))
        object.__setattr__(self, "surrogate", surrogate)  # no submodule: its layers would have two names
        for module in (self, self[0], self[2]):
            module.training = False

    def train(self, mode: bool = True) -> "TwoClasses":
        """Return the model unchanged: surrogates stay in evaluation mode, and exported programs refuse to switch."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of both classes, (batch, 2)."""
        if torch.is_grad_enabled() and not images.requires_grad:
            # attacks on layers differentiate with respect to these alone, through weights that usually take gradients
            images = images.detach().requires_grad_()
        logits: Tensor = self[2](cast(nn.Module, self.surrogate)(images * 2 - 1))
        return logits


class _Prepared(nn.Module):
    def __init__(self, surrogate: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "surrogate", surrogate)

    def forward(self, images: Tensor) -> Tensor:
        prepare: Callable[[Tensor], Tensor] = getattr(self.surrogate, "prepared", lambda same: same)
        return prepare(images * 2 - 1)


class _Classes(nn.Module):
    """Convert the logits of the labels to the logits of two classes.

    Args:
        given: (labels,), the labels that class 1 stands for; None for one label, whose positives are class 1.
    """

    def __init__(self, given: Tensor | None, device: torch.device) -> None:
        super().__init__()
        self.given = given
        # attacks look for the device of the first parameter, and folded networks can have none
        self.nothing = nn.Parameter(torch.empty(0, device=device), requires_grad=False)

    def forward(self, logits: Tensor) -> Tensor:
        # in float32, (0, z) has a gradient of exactly 0 from z = 16.6 on, because 1 minus the probability rounds to 0;
        # of (-z/2, z/2), the class with the small probability keeps its half
        half = (logits if self.given is None else _log_odds(logits, self.given)) / 2
        return torch.cat([-half, half], dim=1)


def _log_odds(logits: Tensor, given: Tensor) -> Tensor:
    """Return the logarithm of p / (1 - p), (batch, 1), where p is the probability of all given labels together."""
    towards = logits.double() * (given.double() * 2 - 1)
    loss = -F.logsigmoid(towards).sum(dim=1, keepdim=True)  # J = -log p
    # log(1 - p): from J, or for tiny J as the sum of the probabilities of the opposite labels
    summed = F.logsigmoid(-towards).logsumexp(dim=1, keepdim=True)
    exact = (-torch.expm1(-loss.clamp(min=_SMALL))).log()
    return (-loss - torch.where(loss > _SMALL, exact, summed)).to(logits.dtype)


def _batches(labels: Tensor) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    """Yield the rows, the labels that class 1 stands for, and the classes, of each batch to attack together."""
    if labels.shape[1] == 1:
        yield torch.arange(len(labels), device=labels.device), None, labels[:, 0].long().clone()  # may be changed
        return
    kinds, kind_of = torch.unique(labels, dim=0, return_inverse=True)
    for number, given in enumerate(kinds):
        rows = (kind_of == number).nonzero()[:, 0]
        yield rows, given, torch.ones(len(rows), dtype=torch.long, device=labels.device)
