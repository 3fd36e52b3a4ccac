"""Attacks against known answers: linear models, confident models, and each attack run alone."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from raygrid.attacks import Crafter, control, logit_seed, loss_gradient, shuffles
from raygrid.data.images.scale import to_unit_range
from raygrid.models.architectures import build_classifier
from raygrid.spec import AttackSpec, attack_grid

PAPER = attack_grid((0.02, 0.04, 0.06))


def linear(weights: torch.Tensor, bias: float = 0.0) -> nn.Module:
    layer = nn.Linear(weights.numel(), 1)
    with torch.no_grad():
        layer.weight.copy_(weights.view(1, -1))
        layer.bias.fill_(bias)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build_classifier("test_resnet", channels=3, num_outputs=2, seed=1).eval()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    images = to_unit_range(generator.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    return images, torch.from_numpy(generator.integers(0, 2, (5, 2)))


def test_grey_levels_span_the_unit_range() -> None:
    images = to_unit_range(np.array([0, 255], dtype=np.uint8).reshape(1, 1, 2, 1))
    assert images.flatten().tolist() == [-1.0, 1.0]


def test_paper_set_needs_52_gradients_and_stays_in_bounds(network: nn.Module, batch) -> None:
    images, labels = batch
    crafter = Crafter(network)
    crafted = dict(crafter.craft(images, labels, PAPER))
    assert crafter.num_gradients == 52
    assert set(crafted) == set(PAPER)
    for attack, adversarial in crafted.items():
        assert adversarial.min() >= -1
        assert adversarial.max() <= 1
        change = (adversarial - images).abs().max().item()
        assert attack.epsilon * 0.99 < change <= attack.epsilon + 5e-7


def test_six_epsilons_need_100_gradients(network: nn.Module, batch) -> None:
    crafter = Crafter(network)
    list(crafter.craft(*batch, attack_grid((0.01, 0.02, 0.03, 0.04, 0.05, 0.06))))
    assert crafter.num_gradients == 100


@pytest.mark.parametrize("attack", PAPER, ids=lambda a: f"{a.name}-{a.epsilon}")
def test_sharing_changes_no_bit(network: nn.Module, batch, attack: AttackSpec) -> None:
    shared = dict(Crafter(network).craft(*batch, PAPER))[attack]
    ((_, alone),) = Crafter(network).craft(*batch, [attack])
    assert torch.equal(shared, alone)


def test_fgsm_is_one_step_of_pgd(network: nn.Module, batch) -> None:
    fgsm = AttackSpec(name="fgsm", epsilon=0.03, alpha=0.03, steps=1)
    pgd = AttackSpec(name="pgd", epsilon=0.03, alpha=0.03, steps=1)
    crafted = dict(Crafter(network).craft(*batch, [fgsm, pgd]))
    assert torch.equal(crafted[fgsm], crafted[pgd])


def test_known_answer_on_a_linear_model() -> None:
    weights = torch.tensor([1.0, -2.0, 0.0, 3.0])
    images = torch.tensor([[0.0, 0.5, 0.2, -0.995], [0.0, 0.5, 0.2, -0.3]]).view(2, 1, 2, 2)
    labels = torch.tensor([[1], [0]])
    fgsm = AttackSpec(name="fgsm", epsilon=0.02, alpha=0.02, steps=1)
    ((_, adversarial),) = Crafter(linear(weights)).craft(images, labels, [fgsm])
    expected = torch.tensor([[-0.02, 0.52, 0.2, -1.0], [0.02, 0.48, 0.2, -0.28]])
    assert torch.allclose(adversarial.flatten(1), expected, atol=1e-7)


@pytest.mark.parametrize("logit", [20.0, 90.0, 1e4, -20.0, -90.0, -1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_no_confidence_hides_the_gradient(logit: float, label: int) -> None:
    surrogate = linear(torch.ones(4), bias=logit)
    gradient = loss_gradient(surrogate, torch.zeros(1, 1, 2, 2), torch.tensor([[label]])).values
    assert torch.isfinite(gradient).all()
    assert (gradient.sign() == (1 - 2 * label)).all()


class Confident(nn.Module):
    """A network with its logits moved to 5 to 10 on the right side of zero, times `factor`."""

    def __init__(self, network: nn.Module, labels: torch.Tensor, factor: float) -> None:
        super().__init__()
        self.network, self.sign, self.factor = network, labels * 2 - 1, factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        spread: torch.Tensor = self.network(images)
        return self.sign * self.factor * (7.5 + 2.5 * spread.tanh())


@pytest.mark.parametrize(("factor", "lost"), [(1, 0.0), (4, 0.5)])
def test_of_a_confident_model_plain_bce_loses_the_positives_and_raygrid_none(
    network: nn.Module, factor: float, lost: float
) -> None:
    generator = np.random.default_rng(4)
    images = to_unit_range(generator.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8))
    labels = torch.arange(64)[:, None].remainder(2).repeat(1, 2)
    confident = Confident(network, labels, factor)
    asked = images.clone().requires_grad_(True)
    loss = nn.functional.binary_cross_entropy_with_logits(confident(asked), labels.float())
    (plain,) = torch.autograd.grad(loss, asked)
    assert plain.flatten(1).eq(0).all(dim=1).float().mean() == lost
    crafter = Crafter(confident)
    list(crafter.craft(images, labels, PAPER[:1]))
    assert not crafter.zero_gradients.any()


@pytest.mark.parametrize("attack", PAPER, ids=lambda a: f"{a.name}-{a.epsilon}")
def test_shared_paths_are_the_plain_loop_in_float64(network: nn.Module, batch, attack: AttackSpec) -> None:
    images, labels = (values.double() for values in batch)
    exact = deepcopy(network).double().eval()
    point = images
    for _ in range(attack.steps):
        point = point.detach().requires_grad_(True)
        loss = nn.functional.binary_cross_entropy_with_logits(exact(point), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, point)
        point = point + attack.alpha * gradient.sign()
        point = torch.clamp(torch.clamp(point, images - attack.epsilon, images + attack.epsilon), -1, 1)
    crafted = dict(Crafter(exact).craft(images, labels, PAPER))[attack]
    assert torch.allclose(crafted, point, atol=1e-12)


def test_seed_is_the_loss_derivative_up_to_scale() -> None:
    logits = torch.randn(6, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 5
    labels = (torch.rand(6, 14, generator=torch.Generator().manual_seed(4)) < 0.3).long()
    exact = torch.sigmoid(logits) - labels
    ratio = logit_seed(logits, labels)[0] / exact
    assert (ratio > 0).all()
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio))


def test_images_without_gradient_are_counted() -> None:
    crafter = Crafter(linear(torch.zeros(4)))
    list(crafter.craft(torch.zeros(3, 1, 2, 2), torch.ones(3, 1), PAPER[:1]))
    assert crafter.zero_gradients.tolist() == [True, True, True]


def test_perturbation_of_a_grey_image_is_grey() -> None:
    surrogate = build_classifier("test_resnet", channels=1, num_outputs=1, seed=2)
    images = torch.zeros(2, 1, 32, 32)
    for _, adversarial in Crafter(surrogate).craft(images, torch.ones(2, 1), PAPER[:1]):
        assert adversarial.shape == images.shape


def test_control_is_the_same_values_in_other_places(network: nn.Module, batch) -> None:
    images, labels = (batch[0] * 0.5, batch[1])  # away from the range's ends, where clipping would act
    ids = [f"image{i}" for i in range(5)]
    ((_, adversarial),) = Crafter(network).craft(images, labels, PAPER[:1])
    shuffled = control(images, adversarial, shuffles(7, ids, images[0].numel()))
    before, after = (adversarial - images).flatten(1), (shuffled - images).flatten(1)
    assert torch.allclose(before.sort(dim=1).values, after.sort(dim=1).values, atol=1e-6)
    assert not torch.allclose(before, after, atol=1e-3)


def test_shuffle_depends_on_seed_and_image_alone() -> None:
    both = shuffles(7, ["a", "b"], 100)
    assert torch.equal(both[1], shuffles(7, ["b"], 100)[0])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[0], shuffles(8, ["a"], 100)[0])


def test_crafting_leaves_no_gradient_on_weights(network: nn.Module, batch) -> None:
    list(Crafter(network).craft(*batch, PAPER))
    assert all(p.grad is None for p in network.parameters())
