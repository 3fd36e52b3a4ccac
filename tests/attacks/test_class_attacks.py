"""Attacks on classes through networks with one logit per label: the loss, its gradient, and the adapters."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks import Crafter, loss_gradient, run_class_attack, transfer_attack
from raygrid.attacks.class_attacks import TwoClasses
from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.spec import AttackSpec, attack

CPU = torch.device("cpu")


class Logits(nn.Module):
    """A network whose logits are values of the image: place k of the first row, times 100."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, : self.number] * 100


def images_of(logits: Tensor) -> Tensor:
    return logits.view(len(logits), 1, 1, -1) / 100


def class_gradient(logit: float, label: int) -> float:
    """Return the derivative of cross-entropy with respect to one logit, as an attack on classes computes it."""
    found: list[float] = []

    def build(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        def craft(images: Tensor, labels: Tensor) -> Tensor:
            seen = images.clone().requires_grad_()
            loss = F.cross_entropy(model(seen), labels)
            found.append(torch.autograd.grad(loss, seen)[0].item() / 200)  # images in [0, 1] are half as long
            return images

        return craft

    given = images_of(torch.tensor([[logit]], dtype=torch.float32))
    run_class_attack(build, Logits(1), given, torch.tensor([[float(label)]]))
    return found[0]


@pytest.mark.parametrize("logit", [-60.0, -17.0, -1.0, 0.0, 1.0, 5.0, 16.0, 17.0, 30.0, 60.0, 80.0])
@pytest.mark.parametrize("label", [0, 1])
def test_a_confident_logit_keeps_its_gradient(logit: float, label: int) -> None:
    sign = 2 * label - 1
    exact = -sign / (1 + math.exp(sign * logit))  # of softplus(-sign z)
    got = class_gradient(logit, label)
    # float32 rounds 1 - p to 0 from 16.6 on, and then half of the derivative remains
    assert got == pytest.approx(exact, rel=0.05) or got == pytest.approx(exact / 2, rel=1e-3)
    assert got == pytest.approx(exact, rel=1e-3) or sign * logit > 10


SEVERAL = torch.tensor(
    [[0.0, 0.0, 0.0], [2.0, -1.0, 0.5], [-4.0, 3.0, 9.0], [25.0, -30.0, 28.0], [60.0, -70.0, 65.0], [-50.0, 40.0, 1.0]]
)
GIVEN = torch.tensor([1.0, 0.0, 1.0])


def test_cross_entropy_of_several_labels_is_the_summed_binary_one() -> None:
    model = TwoClasses(Logits(3), GIVEN.double(), device=CPU)
    classes = model((images_of(SEVERAL.double()) + 1) / 2)
    ones = torch.ones(len(SEVERAL), dtype=torch.long)
    each = F.binary_cross_entropy_with_logits(SEVERAL.double(), GIVEN.double().expand(6, 3), reduction="none")
    torch.testing.assert_close(F.cross_entropy(classes, ones, reduction="none"), each.sum(1), rtol=1e-6, atol=1e-12)
    # by hand: three labels of probability 1/2 are all right with probability 1/8, so log odds of -log 7
    assert (classes[0, 1] - classes[0, 0]).item() == pytest.approx(-math.log(7))
    # one label: its own logit, whatever the form
    alone = TwoClasses(Logits(1), torch.ones(1), device=CPU)((images_of(torch.tensor([[3.0], [-80.0]])) + 1) / 2)
    torch.testing.assert_close(alone[:, 1] - alone[:, 0], torch.tensor([3.0, -80.0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [1e3, 1e4])
def test_extreme_logits_of_several_labels_stay_finite(value: float) -> None:
    for signs in ([1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, 1.0]):
        logits = (torch.tensor([signs]) * value).requires_grad_()
        scaled = TwoClasses(nn.Identity(), GIVEN, device=CPU)[2](logits)
        (gradient,) = torch.autograd.grad(scaled[:, 1].sum(), logits)
        assert scaled.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.any()


LOSSES = {
    "cross-entropy": F.cross_entropy,
    "margin of Carlini and Wagner": lambda two, one: (two[:, 0] - two[:, 1]).sum(),
    "logit": lambda two, one: -two[:, 1].sum(),
    "probability": lambda two, one: -two.softmax(1)[:, 1].sum(),
}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 49, 3))
    return plain.double().eval().requires_grad_(False)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_the_direction_of_raygrids_gradient(loss: str, network: nn.Module) -> None:
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    labels = torch.tensor([[k & 1, k >> 1 & 1, k >> 2] for k in range(8)])
    own = loss_gradient(network, images, labels).values
    seen: list[int] = []

    def build(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        def craft(some: Tensor, classes: Tensor) -> Tensor:
            seen.append(len(some))
            assert classes.tolist() == [1] * len(some)
            points = some.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(LOSSES[loss](model(points), classes), points)
            return some + gradient * 1e-3

        return craft

    change = run_class_attack(build, network, images, labels) - images
    assert seen == [1] * 8  # eight sets of labels
    cosine = F.cosine_similarity(change.flatten(1), own.flatten(1))
    assert cosine.min() > 1 - 1e-6


class Steps:
    """PGD as torchattacks writes it: images in [0, 1], classes, cross-entropy."""

    def __init__(self, model: nn.Module, spec: AttackSpec, *, copies: int = 1) -> None:
        self.model, self.spec, self.copies = model, spec, copies

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        point = images.clone()
        for _ in range(self.spec.steps):
            point.requires_grad_()
            loss = F.cross_entropy(self.model(point.repeat(self.copies, 1, 1, 1)), labels.repeat(self.copies))
            (gradient,) = torch.autograd.grad(loss, point)
            point = point.detach() + self.spec.alpha / 2 * gradient.sign()
            point = (images + (point - images).clamp(-self.spec.epsilon / 2, self.spec.epsilon / 2)).clamp(0, 1)
        return point


@pytest.mark.parametrize("copies", [1, 3])
def test_pgd_through_several_labels_equals_raygrids(network: nn.Module, copies: int) -> None:
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 1.8 - 0.9
    labels = torch.tensor([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(12)])
    spec = attack("pgd", 0.04, steps=6)
    ((_, own),) = Crafter(network).craft(images, labels, [spec])
    theirs = run_class_attack(lambda model: Steps(model, spec, copies=copies), network, images, labels)
    torch.testing.assert_close(theirs, own, rtol=0, atol=1e-12)


class Attack:
    """The base class of TransferAttack, as far as an adapter meets it."""

    def __init__(self, model_name: str, epsilon: float, device: torch.device | None = None) -> None:
        self.model_name, self.epsilon = model_name, epsilon
        self.model = self.load_model(model_name)
        self.device = next(self.model.parameters()).device if device is None else device

    def load_model(self, model_name: str) -> nn.Module:
        raise AssertionError(f"would download {model_name}")

    def __call__(self, data: Tensor, label: Tensor) -> Tensor:
        self.model.eval()
        delta = torch.zeros_like(data).to(self.device).requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(self.model(data + delta), label), delta)
        return (data + self.epsilon * gradient.sign()).clamp(0, 1) - data


class Feature(Attack):
    """An attack on a named layer of `model[1]`, where TransferAttack has the network."""

    def __call__(self, data: Tensor, label: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.model[1]._modules["layer2"].register_forward_hook(lambda m, i, o: kept.append(o))
        delta = super().__call__(data, label)
        handle.remove()
        assert kept[0].shape[0] == len(data)
        assert self.model_name == "resnet18"
        return delta


@pytest.mark.parametrize("folds", [False, True])
def test_classes_of_transferattack_get_the_surrogate(folds: bool) -> None:
    trained = build_classifier("resnet10t", channels=1, num_outputs=1, seed=0).eval().requires_grad_(False)
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(5)) * 1.8 - 0.9
    labels = torch.tensor([[0.0], [1.0], [1.0]])
    surrogate = fold(trained, images[:1]) if folds else trained
    spec = attack("fgsm", 0.04)
    ((_, own),) = Crafter(surrogate).craft(images, labels, [spec])
    for kind, options in ((Attack, {}), (Feature, {"model_name": "resnet18"})):
        theirs = run_class_attack(
            lambda model, k=kind, o=options: transfer_attack(k, model, epsilon=0.02, **o), surrogate, images, labels
        )
        assert ((theirs - own).abs() < 1e-6).double().mean() > 0.999


def test_the_parts_of_the_model_make_the_whole() -> None:
    surrogate = build_classifier("resnet10t", channels=1, num_outputs=1, seed=0).eval()
    model = TwoClasses(surrogate, None, device=CPU)
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(model[2](model[1](model[0](images))), model(images))
    assert model[1] is surrogate.network
    assert "1.layer2.0.conv1.weight" in dict(model.named_parameters())
    model.train()  # some attacks do
    assert not any(m.training for m in model.modules())


def test_a_hook_gets_the_gradient_of_its_layer_for_images_without_one() -> None:
    trained = build_classifier("resnet10t", channels=3, num_outputs=1, seed=0).eval().requires_grad_(False)
    model, got = TwoClasses(fold(trained, torch.zeros(1, 3, 32, 32)), None, device=CPU), []
    layer = model[1].get_submodule("layer2")
    handle = layer.register_full_backward_hook(lambda module, inputs, outputs: got.append(outputs[0]))
    images = torch.rand(2, 3, 32, 32)
    model(images).softmax(1)[:, 1].sum().backward()
    handle.remove()
    assert got[0].shape == (2, 128, 4, 4)
    assert got[0].any()
    assert images.grad is None
    with torch.no_grad():
        assert not model(images).requires_grad


def test_a_network_without_parameters_still_shows_its_device() -> None:
    assert next(TwoClasses(nn.Flatten(), None, device=CPU).parameters()).device == CPU
