"""Faults of attacks of other packages: each is undone, or named on one line."""

import pytest
import torch
from plug_ins import installed
from torch import Tensor, nn

from raygrid.attacks import Crafter, needs_trained_network, run_class_attack
from raygrid.errors import DataError, SpecError
from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.spec import AttackSpec

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
LABELS = torch.tensor([[0.0], [1.0]])


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return build_classifier("resnet10t", channels=3, num_outputs=1, seed=0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folded(trained: nn.Module) -> nn.Module:
    return fold(trained, IMAGES[:1])


def crafted(network: nn.Module, spec: AttackSpec, labels: Tensor = LABELS, trained: nn.Module | None = None) -> Tensor:
    return dict(Crafter(network, trained=trained).craft(IMAGES, labels, [spec], image_ids=("a", "b")))[spec]


def test_labels_changed_in_place_stay_the_labels_of_later_attacks(monkeypatch, folded) -> None:
    def craft(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        labels.fill_(1)
        return images.add_(0.01)

    (spec,) = installed(monkeypatch, others=craft)
    given = LABELS.clone()
    assert torch.equal(crafted(folded, spec, given), IMAGES + 0.01)
    assert torch.equal(given, LABELS)


def test_classes_changed_in_place_stay_the_labels(folded) -> None:
    def change(images: Tensor, classes: Tensor) -> Tensor:
        classes.zero_()
        return images

    whole = LABELS.long()
    run_class_attack(lambda model: change, folded, IMAGES, whole)
    assert torch.equal(whole, LABELS.long())


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("first\nsecond"), r"ValueError: first \("),
        (UnprintableError(), r"UnprintableError \("),
        (AssertionError(), r"AssertionError \("),
        (SpecError("epsilon is 3"), "epsilon is 3"),
        (DataError("target 'clinic' raised ValueError: no"), "target 'clinic' raised ValueError: no"),
    ],
)
def test_an_exception_is_named_on_one_line(monkeypatch, folded, error: Exception, words: str) -> None:
    def craft(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        raise error

    (spec,) = installed(monkeypatch, others=craft)
    kind = DataError if isinstance(error, DataError) else SpecError  # a target's error stays one
    with pytest.raises(kind, match=f"^the plug-in attack 'others'.* {words}") as caught:
        crafted(folded, spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: images > 0, "a tensor of bool"),
        (lambda images: images.long(), "a tensor of int64"),
        (lambda images: images + 0j, "a tensor of complex64"),
        (lambda images: images.to_sparse(), r"a tensor of float32 \(sparse_coo\); expected dense floats"),
        (lambda images: images.to("meta"), "images on meta; expected them on cpu"),
    ],
)
def test_tensors_that_are_no_images_are_named(monkeypatch, folded, change, words: str) -> None:
    (spec,) = installed(monkeypatch, others=lambda n, x, y, a: change(x))
    with pytest.raises(SpecError, match=f"'others' gave {words}"):
        crafted(folded, spec)


def test_a_changed_precision_or_layout_is_undone(monkeypatch, folded) -> None:
    (spec,) = installed(monkeypatch, others=lambda n, x, y, a: (n.double()(x.double()), x + 0.01)[1])
    logits = folded(IMAGES)
    layouts = [tensor.stride() for tensor in folded.state_dict().values()]
    with pytest.warns(UserWarning, match="raygrid restored the surrogate"):
        crafted(folded, spec)
    assert torch.equal(folded(IMAGES), logits)
    (spec,) = installed(
        monkeypatch, others=lambda n, x, y, a: (n.to(memory_format=torch.contiguous_format), x + 0.01)[1]
    )
    with pytest.warns(UserWarning, match="raygrid restored the surrogate"):
        crafted(folded, spec)
    assert [tensor.stride() for tensor in folded.state_dict().values()] == layouts


def by_transform(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    gradient = torch.func.grad(lambda shown: network(shown).sum())(images)
    return (images + spec.epsilon * gradient.sign()).detach()


def forwards(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    _, slope = torch.func.jvp(network, (images,), (torch.ones_like(images),))
    return images + spec.epsilon * slope.sign().view(-1, 1, 1, 1)


@pytest.mark.parametrize("craft", [by_transform, forwards])
def test_transforms_are_right_through_the_trained_network_and_refused_through_a_folded_one(
    monkeypatch, trained, folded, craft
) -> None:
    (spec,) = installed(monkeypatch, others=craft)
    with pytest.raises(SpecError, match=r"'others': torch\.func and derivatives in forward mode .*needs_trained"):
        crafted(folded, spec)
    leaf = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(trained(leaf).sum(), leaf)
    slope = gradient.sum(dim=(1, 2, 3)).view(-1, 1, 1, 1)  # of a step along ones
    expected = IMAGES + spec.epsilon * (gradient if craft is by_transform else slope).sign()

    def marked(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        return craft(network, images, labels, spec)

    (spec,) = installed(monkeypatch, others=needs_trained_network(marked))
    made = crafted(folded, spec, trained=trained)
    assert ((made - expected).abs() < 1e-6).double().mean() > 0.99  # a gradient near 0 can take either sign


def test_dual_numbers_are_refused_by_a_folded_network(folded) -> None:
    with torch.autograd.forward_ad.dual_level():
        shown = torch.autograd.forward_ad.make_dual(IMAGES, torch.ones_like(IMAGES))
        with pytest.raises(SpecError, match="cannot pass through a folded network"):
            folded(shown)
