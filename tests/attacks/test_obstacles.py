"""Images that an attack cannot move are counted with the reason, and a gradient that is not finite spreads nowhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from raygrid.attacks import Crafter, Obstacles, Scaled, loss_gradient
from raygrid.data.images.scale import round_to_levels
from raygrid.errors import DataError, SpecError
from raygrid.spec import ATTACKS, AttackSpec, attack

IDS = ("a", "b", "c")
FAMILY = (
    *(attack(name, 0.04) for name in ATTACKS if name != "vmi_fgsm"),
    attack("vmi_fgsm", 0.04, neighbours=2),
    attack("pgd", 1.0, suffix="l2", norm="l2", alpha=0.1),
    attack("mi_fgsm", 1.0, suffix="l2", norm="l2"),
)
SMALL = 12  # pixels of a side


class Linear(nn.Module):
    """The logit w.x with alternating weights 1, -1, in any order of memory."""

    def forward(self, images: Tensor) -> Tensor:
        signs = torch.ones(images[0].numel()).view(1, -1)
        signs[:, 1::2] = -1
        return (images.flatten(1) * signs).sum(dim=1, keepdim=True)


class BrokenPixel(Linear):
    """The same with a derivative that is NaN at the first value of every image: sqrt at 0, times 0."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * torch.sqrt(0 * images[:, 0, 0, 0]).view(-1, 1)


class Standardised(Linear):
    """The same on standardised images, as many pipelines do it; a constant image has no standard deviation."""

    def forward(self, images: Tensor) -> Tensor:
        change = images - images.mean(dim=(1, 2, 3), keepdim=True)
        return super().forward(change / (change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-6))


class TooBright(Linear):
    """The same, but NaN for an image with a value of about 1."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.flatten(1).amax(dim=1, keepdim=True) > 0.9
        return torch.where(bright, torch.nan, super().forward(images))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(20, 236, (3, 3, SMALL, SMALL), generator=generator).float() / 127.5 - 1
    return images, torch.tensor([[1], [0], [1]])


def crafted(network: nn.Module, batch: tuple[Tensor, Tensor], spec: AttackSpec) -> tuple[Tensor, Obstacles]:
    crafter = Crafter(network)
    ((_, adversarial),) = crafter.craft(*batch, [spec], seed=7, image_ids=IDS)
    assert list(crafter.obstacles) == [spec]
    return adversarial, crafter.obstacles[spec]


def flags(obstacles: Obstacles) -> tuple[list[bool], list[bool], list[bool]]:
    return obstacles.unmoved.tolist(), obstacles.zero_gradient.tolist(), obstacles.not_finite_gradient.tolist()


NONE, ALL = [False] * 3, [True] * 3


@pytest.mark.parametrize("spec", FAMILY, ids=lambda a: a.name)
def test_healthy_images_have_no_obstacle(spec: AttackSpec, batch) -> None:
    assert flags(crafted(Linear(), batch, spec)[1]) == (NONE, NONE, NONE)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi_fgsm", "ni_fgsm", "si_ni_fgsm", "vmi_fgsm"])
def test_one_value_that_is_not_finite_stops_that_value_alone(name: str, batch) -> None:
    images, labels = batch
    assert loss_gradient(BrokenPixel(), images, labels).values.isnan().sum() == 3
    spec = attack(name, 0.04, **({"neighbours": 2} if name == "vmi_fgsm" else {}))
    adversarial, obstacles = crafted(BrokenPixel(), batch, spec)
    change = (adversarial - images).flatten(1)
    wanted = torch.tensor([[-0.04], [0.04], [-0.04]]).repeat(1, 3 * SMALL * SMALL)  # a positive goes down with w = 1
    wanted[:, 1::2] *= -1
    wanted[:, 0] = 0
    assert torch.allclose(change, wanted, atol=1e-6)
    assert flags(obstacles) == (NONE, NONE, ALL)


def test_smoothing_spreads_no_value_that_is_not_finite(batch) -> None:
    images, _ = batch
    spec = attack("ti_fgsm", 0.04, smoothing=5)
    broken, obstacles = crafted(BrokenPixel(), batch, spec)
    sound, _ = crafted(Linear(), batch, spec)
    assert broken.isfinite().all()
    assert torch.equal(broken[:, 1:], sound[:, 1:])  # other channels
    assert torch.equal(broken[:, 0, 3:], sound[:, 0, 3:])  # out of the reach of the kernel, two pixels
    assert (broken - images).abs().amax() <= 0.04 + 5e-7
    assert obstacles.not_finite_gradient.all()


@pytest.mark.parametrize("spec", FAMILY, ids=lambda a: a.name)
def test_an_image_whose_whole_gradient_is_not_finite_costs_only_itself(spec: AttackSpec, batch) -> None:
    images, labels = batch
    images[1] = -1.0
    assert Standardised()(images).isfinite().all()  # only the gradient tells
    assert loss_gradient(Standardised(), images, labels).values[1].isnan().all()
    adversarial, obstacles = crafted(Standardised(), (images, labels), spec)
    moves = spec.base in ("vmi_fgsm", "di_fgsm")  # gradients are finite beside the image, and where it is shrunk
    assert flags(obstacles)[:2] == ([False, not moves, False], NONE)
    assert flags(obstacles)[2] == [False, spec.base != "di_fgsm", False]  # whose first draw shrinks it
    assert torch.equal(adversarial[1], images[1]) == (not moves)
    assert adversarial.isfinite().all()
    assert (adversarial[[0, 2]] != images[[0, 2]]).flatten(1).any(dim=1).all()


def test_a_random_start_moves_an_image_without_a_finite_gradient_and_it_is_counted(batch) -> None:
    images, labels = batch
    images[0] = 0.0
    network = TooBright()
    images[0, 0, 0, 0] = 1.0
    adversarial, obstacles = crafted(network, (images, labels), attack("pgd", 0.04, random_start=True))
    assert flags(obstacles) == (NONE, NONE, [True, False, False])
    assert (adversarial[0] != images[0]).any()


def test_copies_with_a_finite_gradient_replace_the_one_without(batch) -> None:
    images, labels = batch[0].clamp(-0.5, 0.5), batch[1]
    images[0, 0, 0, 0] = 1.0  # its copy of half the contrast is at 0.5
    adversarial, obstacles = crafted(TooBright(), (images, labels), attack("si_ni_fgsm", 0.04))
    change = (adversarial - images)[0].flatten()
    assert change[0] == pytest.approx(-0.04, rel=1e-5)
    assert change[1] == pytest.approx(0.04, rel=1e-5)
    assert flags(obstacles) == (NONE, NONE, [True, False, False])
    _, plain = crafted(TooBright(), (images, labels), attack("pgd", 0.04))
    assert flags(plain) == ([True, False, False], NONE, [True, False, False])


def test_a_gradient_that_is_not_finite_later_on_is_counted_too(batch) -> None:
    images, labels = batch[0].clamp(-0.5, 0.5), torch.zeros(3, 1)  # of negatives: values with weight 1 rise
    images[2, 0, 0, 0] = 0.9 - 0.025  # beyond 0.9 after three steps of 0.01
    adversarial, obstacles = crafted(TooBright(), (images, labels), attack("pgd", 0.04))
    assert flags(obstacles) == (NONE, NONE, [False, False, True])
    # it stays where it was when the gradient became NaN
    assert torch.allclose((adversarial - images).flatten(1)[:, 0], torch.tensor([0.04, 0.04, 0.03]), atol=1e-6)


def test_paths_that_part_are_counted_apart(batch) -> None:
    images, labels = batch[0].clamp(-0.5, 0.5), torch.zeros(3, 1)
    images[2, 0, 0, 0] = 0.9 - 0.025
    crafter = Crafter(TooBright())
    small, large = attack("pgd", 0.02), attack("pgd", 0.04)
    list(crafter.craft(images, labels, [small, large]))
    assert not crafter.obstacles[small].not_finite_gradient.any()
    assert crafter.obstacles[large].not_finite_gradient.tolist() == [False, False, True]


def test_zero_gradients_are_a_reason_of_their_own(batch) -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).sum(dim=1, keepdim=True) * torch.tensor([[0.0], [1.0], [0.0]])

    for spec in FAMILY:
        _, obstacles = crafted(Flat(), batch, spec)
        assert flags(obstacles) == ([True, False, True], [True, False, True], NONE)
    crafter = Crafter(Flat())
    list(crafter.craft(*batch, [FAMILY[0]]))
    assert crafter.zero_gradients.tolist() == [True, False, True]


def test_a_white_image_pushed_outwards_is_unmoved_without_a_gradient_to_blame() -> None:
    class Sum(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).sum(dim=1, keepdim=True)

    images = torch.ones(3, 1, 4, 4)
    images[1, 0, 0, 0] = 0.0  # one value can move
    adversarial, obstacles = crafted(Sum(), (images, torch.tensor([[0], [0], [1]])), attack("pgd", 0.02))
    assert flags(obstacles) == ([True, False, False], NONE, NONE)
    assert adversarial[1, 0, 0, 0] == pytest.approx(0.02, rel=1e-5)


def test_images_that_are_not_finite_name_surrogate_attack_and_image(batch) -> None:
    images, labels = batch
    images[1, 0, 3, 3] = torch.nan
    for spec in FAMILY:
        words = f"^surrogate 'net': {spec.key}: the adversarial image of 'b' is not finite"
        with pytest.raises(DataError, match=words):
            list(Crafter(Linear(), name="net").craft(images, labels, [spec], image_ids=IDS))
    with pytest.raises(DataError, match=r"^fgsm@0.04: the adversarial image of number 1 is not finite; check "):
        list(Crafter(Linear()).craft(images, labels, FAMILY[:1]))


def test_the_finite_part_of_a_finite_gradient_is_the_same_bit_for_bit() -> None:
    values = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1.5, -2.5]).view(2, 1, 2, 2)
    gradient = Scaled(values.to(memory_format=torch.channels_last), torch.tensor([-300.0, 0.0]))
    part, finite = gradient.finite_part()
    assert finite.all()
    assert part.values.view(torch.int32).equal(values.view(torch.int32))  # -0.0 is not 0.0 here
    assert part.values.stride() == gradient.values.stride()
    assert part.log_scale.equal(gradient.log_scale)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_the_finite_part_gives_way_to_any_finite_gradient(bad: float) -> None:
    broken, sound = (Scaled(torch.full((1, 1, 2, 2), v), torch.tensor([s])) for v, s in ((bad, bad), (2.0, -250.0)))
    part, finite = broken.finite_part()
    assert not finite.any()
    for total in (part.plus(sound), sound.plus(part)):
        assert total.values.eq(2).all()
        assert total.log_scale.item() == -250
    assert part.plus(part).values.eq(0).all()


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], None]:
    class EntryPoint:
        def __init__(self, craft: Callable[..., Tensor]) -> None:
            self.load = lambda: craft

    def add(craft: Callable[..., Tensor]) -> None:
        for place in ("raygrid.spec.attacks.plugins", "raygrid.attacks.plugins.plugins"):
            monkeypatch.setattr(place, lambda: {"others": EntryPoint(craft)})

    return add


def test_images_that_a_plug_in_leaves_unmoved_are_counted(batch, plug_in) -> None:
    plug_in(lambda network, images, labels, spec: images + 0.01 * torch.tensor([0.0, 1.0, 0.0]).view(-1, 1, 1, 1))
    _, obstacles = crafted(Linear(), batch, attack("others", 0.04))
    assert flags(obstacles) == ([True, False, True], NONE, NONE)


def test_images_of_a_plug_in_that_are_not_finite_name_surrogate_attack_and_image(batch, plug_in) -> None:
    second = torch.tensor([0.0, torch.nan, 0.0]).view(-1, 1, 1, 1)
    plug_in(lambda network, images, labels, spec: images + second)
    words = "^surrogate 'net': the plug-in attack 'others' gave non-finite values for image 'b'; fix the pack"
    with pytest.raises(SpecError, match=words):
        list(Crafter(Linear(), name="net").craft(*batch, [attack("others", 0.04)], image_ids=IDS))


def test_the_images_of_a_plug_in_are_rounded_if_its_attack_says_so(batch, plug_in) -> None:
    plug_in(lambda network, images, labels, spec: images + 0.013)
    spec = attack("others", 0.04, suffix="8bit", eight_bit=True)
    adversarial, _ = crafted(Linear(), batch, spec)
    assert torch.equal(adversarial, round_to_levels(batch[0] + 0.013, batch[0], 0.04))
    assert torch.allclose((adversarial - batch[0]) * 127.5, torch.full_like(batch[0], 2.0), atol=1e-4)  # of 1.66
