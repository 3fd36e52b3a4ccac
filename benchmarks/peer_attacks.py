"""The paper's six attacks as the usual libraries make them, for the benchmarks beside this file.

They are no dependency of raygrid, and two of them pin old versions of what it uses: `make peers` installs them without
their own dependencies. All of them work on two classes with cross-entropy; on the logits (0, z), or (-z/2, z/2) as
`run_class_attack` gives them, that is the binary cross-entropy of z.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks.plugins import ClassAttack, run_class_attack
from raygrid.spec import AttackSpec

Craft = Callable[[nn.Module, Tensor, Tensor, AttackSpec], Tensor]


class TwoClasses(nn.Module):
    """A one-logit network as one of two classes, in its own range of images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, 2)."""
        logits: Tensor = self.network(images)
        return torch.cat([torch.zeros_like(logits), logits], dim=1)


def textbook(network: nn.Module, images: Tensor, labels: Tensor, attack: AttackSpec) -> Tensor:
    """Return what a plain loop over `autograd.grad` makes: the fastest of the usual ways."""
    point = images
    for _ in range(attack.steps):
        point = point.detach().requires_grad_(True)
        loss = F.binary_cross_entropy_with_logits(network(point), labels.to(point.dtype))
        (gradient,) = torch.autograd.grad(loss, point)
        point = point + attack.alpha * gradient.sign()
        point = torch.clamp(
            torch.minimum(torch.maximum(point, images - attack.epsilon), images + attack.epsilon), -1, 1
        )
    return point.detach()


def with_torchattacks(network: nn.Module, images: Tensor, labels: Tensor, attack: AttackSpec) -> Tensor:
    """Return what torchattacks makes, which wants images in [0, 1]."""
    import torchattacks

    def build(model: nn.Module) -> ClassAttack:
        half = {"eps": attack.epsilon / 2}
        if attack.name == "fgsm":
            made = torchattacks.FGSM(model, **half)
        else:
            made = torchattacks.PGD(model, **half, alpha=attack.alpha / 2, steps=attack.steps, random_start=False)
        return cast(ClassAttack, made)

    return run_class_attack(build, network, images, labels)


def with_foolbox(network: nn.Module, images: Tensor, labels: Tensor, attack: AttackSpec) -> Tensor:
    """Return what foolbox makes."""
    import foolbox

    model = foolbox.PyTorchModel(TwoClasses(network).eval(), bounds=(-1, 1), device="cpu")
    if attack.name == "fgsm":
        made = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    else:
        made = foolbox.attacks.LinfPGD(abs_stepsize=attack.alpha, steps=attack.steps, random_start=False)
    _, clipped, _ = made(model, images, labels[:, 0].long(), epsilons=attack.epsilon)
    adversarial: Tensor = clipped
    return adversarial


def with_art(network: nn.Module, images: Tensor, labels: Tensor, attack: AttackSpec) -> Tensor:
    """Return what the Adversarial Robustness Toolbox makes, from NumPy arrays to NumPy arrays."""
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(
        model=TwoClasses(network).eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=2,
        clip_values=(-1.0, 1.0),
        device_type="cpu",
    )
    if attack.name == "fgsm":
        made = FastGradientMethod(model, eps=attack.epsilon, batch_size=len(images))
    else:
        made = ProjectedGradientDescent(
            model,
            eps=attack.epsilon,
            eps_step=attack.alpha,
            max_iter=attack.steps,
            num_random_init=0,
            batch_size=len(images),
            verbose=False,
        )
    values = np.ascontiguousarray(images.numpy())
    return torch.from_numpy(made.generate(x=values, y=labels[:, 0].numpy().astype(np.int64)))


PEERS: dict[str, Craft] = {
    "textbook loop": textbook,
    "torchattacks": with_torchattacks,
    "foolbox": with_foolbox,
    "ART": with_art,
}


def craft_all(craft: Craft, network: nn.Module, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec]) -> int:
    """Craft every attack, one after the other, as these libraries do; return the number of images."""
    for attack in attacks:
        craft(network, images, labels, attack)
    return len(images)


def contenders(
    network: nn.Module, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec]
) -> dict[str, Callable[[], int]]:
    """Return every peer's whole work, to be timed."""
    return {name: partial(craft_all, craft, network, images, labels, attacks) for name, craft in PEERS.items()}
