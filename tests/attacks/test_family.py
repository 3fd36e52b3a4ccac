"""The attacks beyond FGSM and PGD: against plain float64 loops written from their papers, and each alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks import (
    Crafter,
    Ensemble,
    PluginWarning,
    control,
    logit_seed,
    loss_gradient,
    run_class_attack,
    shuffles,
)
from raygrid.attacks.input_transforms import ImageDraws, diversify, smooth
from raygrid.data.images.scale import round_to_levels
from raygrid.errors import SpecError
from raygrid.spec import ATTACKS, AttackSpec, attack, attack_grid

IDS = ("a", "b", "c")
PAPER = attack_grid((0.02, 0.04, 0.06))
STEPS = {"fgsm": {}, "pgd": {"steps": 4, "alpha": 0.03}}
FAMILY = tuple(attack(name, 0.1, **STEPS.get(name, {"steps": 4})) for name in ATTACKS)
VARIANTS = (
    attack("pgd", 0.05, suffix="start", random_start=True, steps=3, alpha=0.02),
    attack("pgd", 1.0, suffix="l2", norm="l2", alpha=0.3, steps=5),
    attack("pgd", 1.0, suffix="l2start", norm="l2", alpha=0.3, steps=5, random_start=True),
    attack("pgd", 0.05, suffix="wished", targeted=True, steps=3, alpha=0.02),
    attack("pgd", 0.05, suffix="second", label_weights=(0.0, 1.0), steps=3, alpha=0.02),
    attack("si_ni_fgsm", 0.1, suffix="all", diversity=0.7, smoothing=3, neighbours=2, steps=3),
)
EVERY = (*FAMILY, *VARIANTS)


class Smooth(nn.Module):
    """A small float64 network without kinks, on which two correct computations agree up to rounding."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
        self.last = torch.randn(2, 4, generator=generator, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = F.conv2d(images, self.first.to(images.dtype)).tanh().mean(dim=(2, 3))
        return features @ self.last.to(images.dtype).T * 6


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng(3)
    images = torch.from_numpy(generator.integers(20, 236, (3, 3, 12, 12)) / 127.5 - 1)
    return images, torch.tensor([[1, 0], [0, 1], [1, 1]])


def crafted(attacks: list[AttackSpec], batch: tuple[Tensor, Tensor]) -> dict[AttackSpec, Tensor]:
    return dict(Crafter(Smooth()).craft(*batch, attacks, seed=7, image_ids=IDS))


def bce_gradient(images: Tensor, labels: Tensor) -> Tensor:
    images = images.clone().requires_grad_(True)
    loss = F.binary_cross_entropy_with_logits(Smooth()(images), labels.double(), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def textbook(
    batch: tuple[Tensor, Tensor],
    epsilon: float,
    steps: int,
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    momentum: float = 1.0,
) -> Tensor:
    """MI-FGSM as in its paper, around a gradient of (point, labels, accumulated)."""
    images, labels = batch
    alpha, point, accumulated = epsilon / steps, images, torch.zeros_like(images)
    for _ in range(steps):
        one = gradient(point, labels, accumulated)
        accumulated = momentum * accumulated + one / one.abs().mean(dim=(1, 2, 3), keepdim=True)
        point = point + alpha * accumulated.sign()
        point = torch.clamp(torch.clamp(point, images - epsilon, images + epsilon), -1, 1)
    return point


@pytest.mark.parametrize("spec", EVERY, ids=lambda a: a.name)
def test_sharing_changes_no_bit(spec: AttackSpec, batch) -> None:
    together, alone = crafted([*PAPER, *EVERY], batch)[spec], crafted([spec], batch)[spec]
    assert torch.equal(together, alone)


@pytest.mark.parametrize("spec", EVERY, ids=lambda a: a.name)
def test_budget_and_range_hold_and_the_loss_rises(spec: AttackSpec, batch) -> None:
    images, labels = batch
    adversarial = crafted([spec], batch)[spec]
    assert adversarial.abs().max() <= 1
    change = (adversarial - images).flatten(1)
    length = change.norm(dim=1) if spec.norm == "l2" else change.abs().amax(dim=1)
    assert (length <= spec.epsilon + 5e-7).all()
    assert (length > 0.3 * spec.epsilon).all()
    weight = torch.tensor(spec.label_weights or (1.0, 1.0), dtype=torch.float64)
    before, after = (
        F.binary_cross_entropy_with_logits(Smooth()(x), labels.double(), weight=weight) for x in (images, adversarial)
    )
    assert after > before


@pytest.mark.parametrize("spec", EVERY, ids=lambda a: a.name)
def test_neighbours_in_the_batch_do_not_matter(spec: AttackSpec, batch) -> None:
    images, labels = batch
    whole = crafted([spec], batch)[spec]
    ((_, one),) = Crafter(Smooth()).craft(images[1:2], labels[1:2], [spec], seed=7, image_ids=IDS[1:2])
    assert torch.allclose(whole[1:2], one, atol=1e-12)


def test_mi_fgsm_is_the_papers(batch) -> None:
    spec = attack("mi_fgsm", 0.1, steps=5)
    expected = textbook(batch, 0.1, 5, lambda x, y, _: bce_gradient(x, y))
    assert torch.allclose(crafted([spec], batch)[spec], expected, atol=1e-12)


def test_ni_fgsm_looks_ahead(batch) -> None:
    spec = attack("ni_fgsm", 0.1, steps=5)
    expected = textbook(batch, 0.1, 5, lambda x, y, g: bce_gradient(x + 0.02 * g, y))
    assert torch.allclose(crafted([spec], batch)[spec], expected, atol=1e-12)
    plain = attack("mi_fgsm", 0.1, steps=5)
    assert not torch.equal(crafted([plain], batch)[plain], expected)


def test_si_sums_the_gradients_of_paler_copies(batch) -> None:
    spec = attack("si_ni_fgsm", 0.1, steps=4, scales=3)

    def gradient(point: Tensor, labels: Tensor, accumulated: Tensor) -> Tensor:
        ahead = point + 0.025 * accumulated
        return sum((bce_gradient(ahead / 2**i, labels) / 2**i for i in range(3)), torch.zeros_like(ahead))

    assert torch.allclose(crafted([spec], batch)[spec], textbook(batch, 0.1, 4, gradient), atol=1e-12)


def test_ti_smooths_the_gradient(batch) -> None:
    spec = attack("ti_fgsm", 0.1, steps=4, smoothing=5)
    place = torch.linspace(-3, 3, 5, dtype=torch.float64)
    line = torch.exp(-place.square() / 2)
    kernel = (torch.outer(line, line) / line.sum() ** 2).expand(3, 1, 5, 5)
    expected = textbook(batch, 0.1, 4, lambda x, y, _: F.conv2d(bce_gradient(x, y), kernel, padding=2, groups=3))
    assert torch.allclose(crafted([spec], batch)[spec], expected, atol=1e-12)


def test_vmi_tunes_the_next_gradient_by_its_neighbourhood(batch) -> None:
    spec = attack("vmi_fgsm", 0.1, steps=3, neighbours=4)
    draws, variance = ImageDraws(7, IDS, "neighbours"), [torch.zeros_like(batch[0])]

    def gradient(point: Tensor, labels: Tensor, accumulated: Tensor) -> Tensor:
        here = bce_gradient(point, labels)
        used = here + variance[0]
        near = [bce_gradient(point + draws.uniform(point) * 0.15, labels) for _ in range(4)]
        variance[0] = torch.stack(near).mean(dim=0) - here
        return used

    assert torch.allclose(crafted([spec], batch)[spec], textbook(batch, 0.1, 3, gradient), atol=1e-12)


def test_di_is_the_plain_attack_on_moved_images(batch) -> None:
    spec = attack("di_fgsm", 0.1, steps=3)
    draws, moved = ImageDraws(7, IDS, "diversity"), []

    def gradient(point: Tensor, labels: Tensor, accumulated: Tensor) -> Tensor:
        point = point.clone().requires_grad_(True)
        shown = diversify(point, draws.numbers(4), 0.5)
        moved.append((shown != point).flatten(1).any(dim=1))
        loss = F.binary_cross_entropy_with_logits(Smooth()(shown), labels.double(), reduction="sum")
        return torch.autograd.grad(loss, point)[0]

    assert torch.allclose(crafted([spec], batch)[spec], textbook(batch, 0.1, 3, gradient), atol=1e-12)
    assert 0 < torch.stack(moved).double().mean() < 1


def test_diversify_shrinks_onto_grey_and_moves_one_to_one() -> None:
    images = torch.ones(2, 1, 22, 22)
    shown = diversify(images, torch.tensor([[0.9, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 1.0]]), 0.5)
    assert torch.equal(shown[0], images[0])
    assert torch.allclose(shown[1, 0, 2:, :20], torch.ones(20, 20))  # 22 / 1.1, moved left and down
    assert not shown[1, 0, :2].any()
    assert not shown[1, 0, :, 20:].any()


def test_l2_steps_along_the_gradient(batch) -> None:
    images, labels = batch
    spec = attack("pgd", 0.5, suffix="l2", norm="l2", alpha=0.5, steps=1)
    gradient = bce_gradient(images, labels)
    expected = images + 0.5 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(crafted([spec], batch)[spec], expected.clamp(-1, 1), atol=1e-12)


def test_first_gradient_of_the_momentum_family_is_shared(batch) -> None:
    crafter = Crafter(Smooth())
    attacks = [attack("fgsm", 0.02), attack("pgd", 0.02), attack("mi_fgsm", 0.02), attack("ni_fgsm", 0.02)]
    list(crafter.craft(*batch, attacks))
    assert crafter.num_gradients == 20 + 9 + 9


def test_confident_models_attack_through_sums_of_tiny_gradients(batch) -> None:
    class Confident(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            weights = torch.linspace(-1, 1, images[0].numel(), dtype=images.dtype).view(1, -1)
            return 300 + (images.flatten(1) * weights).sum(dim=1, keepdim=True) * 0.01

    images, labels = batch[0].float(), torch.ones(3, 1)
    for name in ("si_ni_fgsm", "vmi_fgsm"):
        spec = attack(name, 0.1, steps=3)
        ((_, adversarial),) = Crafter(Confident()).craft(images, labels, [spec], image_ids=IDS)
        wanted = -torch.linspace(-1, 1, images[0].numel()).sign().view(images[0].shape)
        assert torch.equal((adversarial - images).sign(), wanted.expand_as(images))


def test_sums_keep_their_proportions_in_float64(batch) -> None:
    images, labels = batch
    exact = bce_gradient(images, labels) + 0.5 * bce_gradient(images / 2, labels)
    total = loss_gradient(Smooth(), images, labels).plus(loss_gradient(Smooth(), images, labels, contrast=0.5))
    assert torch.allclose(total.values * total.log_scale.exp().view(-1, 1, 1, 1), exact, rtol=1e-10)


def test_targeted_seed_lowers_the_loss_of_the_opposite_labels() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.3, 4.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0], [0, 1]])
    loss = F.binary_cross_entropy_with_logits(logits, 1 - labels.double(), reduction="sum")
    (derivative,) = torch.autograd.grad(loss, logits)
    seed, log_scale = logit_seed(logits.detach(), labels, targeted=True)
    assert torch.allclose(seed * log_scale.exp()[:, None], -derivative)


def test_label_weights_leave_the_other_label_alone() -> None:
    seed, _ = logit_seed(torch.tensor([[3.0, -2.0]]), torch.tensor([[1, 1]]), label_weights=(0.0, 2.0))
    assert seed.tolist() == [[0.0, -1.0]]
    with pytest.raises(SpecError, match="3 numbers, the model 2 outputs"):
        logit_seed(torch.zeros(1, 2), torch.ones(1, 2), label_weights=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("epsilon", [0.02, 0.04, 0.06])
def test_rounding_to_levels_stays_inside_the_budget(epsilon: float) -> None:
    levels = torch.arange(256, dtype=torch.float32).view(1, 1, 16, 16)
    images = levels / 127.5 - 1
    for sign in (-1, 1):
        rounded = round_to_levels((images + sign * epsilon).clamp(-1, 1), images, epsilon)
        assert torch.allclose((rounded + 1) * 127.5, ((rounded + 1) * 127.5).round(), atol=1e-4)
        assert (rounded - images).abs().max() <= epsilon + 5e-7
        assert rounded.abs().max() <= 1
        assert (rounded - images).abs().max() > epsilon - 1 / 127.5


def test_an_eight_bit_attack_is_the_rounded_plain_one(batch) -> None:
    plain = attack("pgd", 0.04, steps=5)
    rounded = replace(plain, name="pgd-8bit", eight_bit=True)
    images = batch[0]
    both = crafted([plain, rounded], batch)
    assert torch.equal(both[rounded], round_to_levels(both[plain], images, 0.04))


def test_ensemble_is_the_mean_of_logits(batch) -> None:
    class Other(Smooth):
        def forward(self, images: Tensor) -> Tensor:
            return -0.5 * super().forward(images)

    images, _ = batch
    assert torch.allclose(Ensemble([Smooth(), Other()])(images), 0.25 * Smooth()(images))


def test_spatial_control_moves_whole_pixels(batch) -> None:
    images = batch[0] * 0.5
    adversarial = images + torch.linspace(-0.1, 0.1, images[0].numel(), dtype=torch.float64).view(images[0].shape)
    shuffled = control(images, adversarial, shuffles(7, IDS, 144)) - images
    before = (adversarial - images)[0].flatten(1).T.tolist()
    after = shuffled[0].flatten(1).T.tolist()
    assert np.allclose(sorted(before), sorted(after))
    assert not np.allclose(before, after)


def test_random_start_depends_on_seed_and_image_alone(batch) -> None:
    images, labels = batch
    spec = VARIANTS[0]
    other = dict(Crafter(Smooth()).craft(images, labels, [spec], seed=8, image_ids=IDS))[spec]
    assert not torch.equal(crafted([spec], batch)[spec], other)
    with pytest.raises(SpecError, match="0 image ids for 3 images"):
        list(Crafter(Smooth()).craft(images, labels, [spec]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "mi_fgms"}, "mi_fgsm"),
        ({"name": "pgd", "momentun": 1.0}, "momentum"),
        ({"name": "pgd", "nesterov": True}, "set momentum"),
        ({"name": "pgd", "smoothing": 4}, "odd number of pixels"),
        ({"name": "pgd", "norm": "l1"}, "norm"),
        ({"name": "pgd", "norm": "l2", "eight_bit": True}, "L-infinity"),
        ({"name": "pgd", "label_weights": (0.0, 0.0)}, "at least one above 0"),
        ({"name": "fgsm", "steps": 2}, "one step"),
    ],
)
def test_impossible_attacks_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        attack(epsilon=0.1, **fields)  # type: ignore[arg-type]


def test_smoothing_keeps_a_constant_gradient_inside() -> None:
    assert torch.allclose(smooth(torch.ones(1, 2, 9, 9), 3)[..., 1:-1, 1:-1], torch.ones(1, 2, 7, 7))


class Sign:
    """An attack object as torchattacks builds them: cross-entropy over classes, images in [0, 1]."""

    def __init__(self, model: nn.Module, eps: float) -> None:
        self.model, self.eps = model, eps

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        images = images.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(self.model(images), labels), images)
        return (images + self.eps * gradient.sign()).clamp(0, 1).detach()


class EntryPoint:
    """A stand-in for the entry point of an installed plug-in."""

    def __init__(self, craft: Callable[..., Tensor]) -> None:
        self.load = lambda: craft


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], AttackSpec]:
    def add(craft: Callable[..., Tensor]) -> AttackSpec:
        for place in ("raygrid.spec.attacks.plugins", "raygrid.attacks.plugins.plugins"):
            monkeypatch.setattr(place, lambda: {"others": EntryPoint(craft)})
        return attack("others", 0.04)

    return add


def one_label(network: nn.Module) -> nn.Module:
    class First(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return network(images)[:, :1]

    return First()


def test_attack_objects_of_other_libraries_run_unchanged(batch, plug_in) -> None:
    spec = plug_in(lambda net, x, y, a: run_class_attack(lambda m: Sign(m, a.epsilon / 2), net, x, y))
    images, labels = batch[0], batch[1][:, :1]
    crafter = Crafter(one_label(Smooth()))
    with pytest.warns(PluginWarning, match="resembles fgsm"):
        both = dict(crafter.craft(images, labels, [attack("fgsm", 0.04), spec]))
    assert torch.allclose(both[spec], both[attack("fgsm", 0.04)], atol=1e-12)
    assert crafter.num_gradients == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x + 0.05, "left its budget: 0.05"),
        (lambda x: x * float("nan"), "non-finite"),
        (lambda x: x[:1], "shape"),
        (lambda x: x + 2, "range"),
    ],
)
def test_limits_that_a_plug_in_breaks_are_named(change, message: str, batch, plug_in) -> None:
    spec = plug_in(lambda net, x, y, a: change(x))
    with pytest.raises(SpecError, match=f"'others'.*{message}"):
        list(Crafter(Smooth()).craft(*batch, [spec]))
