"""Attacks of other packages: the images, networks and random numbers that they get, and what they may leave behind."""

import random
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from plug_ins import installed
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks import Crafter, Ensemble, PluginWarning, inner_networks, needs_trained_network
from raygrid.errors import SpecError
from raygrid.models.architectures import Classifier, build_classifier
from raygrid.models.folding import fold
from raygrid.spec import AttackSpec, attack

IDS = ("a", "b", "c", "d")
IMAGES = (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9).contiguous(
    memory_format=torch.channels_last
)
LABELS = torch.tensor([[0.0], [1.0], [1.0], [0.0]])


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    classifier = build_classifier("resnet10t", channels=3, num_outputs=1, seed=0)
    classifier.train()
    with torch.no_grad():
        for _ in range(20):
            classifier(IMAGES)
    return classifier.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folded(trained: nn.Module) -> nn.Module:
    return fold(trained, IMAGES[:1])


def one(crafter: Crafter, *attacks: AttackSpec, ids: tuple[str, ...] = IDS, seed: int = 3) -> Tensor:
    """Return the images of the last attack."""
    rows = [IDS.index(i) for i in ids]
    return list(crafter.craft(IMAGES[rows], LABELS[rows], attacks, seed=seed, image_ids=ids))[-1][1]


def sign_step(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    """Return FGSM's images, as a package would write it with views of contiguous tensors."""
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.softplus((1 - 2 * labels) * network(images)).sum(), images)
    flat = images.view(len(images), -1) + spec.epsilon * gradient.view(len(images), -1).sign()
    return flat.view_as(images).clamp(-1, 1).detach()


def test_images_and_gradients_are_contiguous_and_equal_raygrids_own(monkeypatch, trained, folded) -> None:
    for network in (folded, trained, Ensemble([folded, trained])):
        (spec,) = installed(monkeypatch, others=sign_step)
        with pytest.warns(PluginWarning):  # it is FGSM
            pixels = one(Crafter(network), attack("fgsm", 0.04), spec)
        assert torch.equal(pixels, one(Crafter(network), attack("fgsm", 0.04)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_plug_in_may_pass_images_in_any_layout(monkeypatch, folded, layout) -> None:
    def craft(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        given = images.contiguous(memory_format=layout).requires_grad_()
        (gradient,) = torch.autograd.grad(network(given).sum(), given)
        assert gradient.is_contiguous()
        return (images + spec.epsilon * gradient.sign()).clamp(-1, 1)

    (spec,) = installed(monkeypatch, others=craft)
    assert one(Crafter(folded), spec).isfinite().all()


def noise(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    """Return noise from all the global generators."""
    values = torch.rand_like(images) + torch.from_numpy(np.random.rand(*images.shape)) + random.random()
    return (images + spec.epsilon * (values / 1.5 - 1)).clamp(-1, 1)


def test_draws_are_keyed_by_study_attack_and_images(monkeypatch, folded) -> None:
    first, second = installed(monkeypatch, noise=noise, again=noise)
    crafter = Crafter(folded)
    expected = one(crafter, first)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    one(crafter, second)  # other draws in between
    assert torch.equal(one(Crafter(folded), first), expected)
    different = {
        "seed": one(crafter, first, seed=4),
        "attack": one(crafter, second),
        "budget": one(crafter, attack("noise", 0.03)),
    }
    assert not any(torch.equal(pixels, expected) for pixels in different.values())
    halves = one(crafter, first, ids=("a", "b")), one(crafter, first, ids=("c", "d"))
    assert not torch.equal(halves[0] - IMAGES[:2], halves[1] - IMAGES[2:])


def test_the_global_generators_continue_as_if_nothing_had_run(monkeypatch, folded) -> None:
    def state() -> list[Any]:
        return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]

    (spec,) = installed(monkeypatch, noise=noise)
    before = state()
    one(Crafter(folded), spec)
    assert state() == before

    def fails(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        torch.rand(3)
        np.random.rand(3)
        torch.set_grad_enabled(False)
        raise ValueError("no")

    (spec,) = installed(monkeypatch, others=fails)
    with pytest.raises(SpecError, match=r"'others' raised ValueError: no \(test_plugins.py, line \d+\); fix"):
        one(Crafter(folded), spec)
    assert state() == before
    assert torch.is_grad_enabled()


def test_seed_and_ids_are_given_to_functions_that_have_them(monkeypatch, folded) -> None:
    got: list[Any] = []

    def both(network, images, labels, spec, *, image_ids, seed):
        got.append((image_ids, seed))
        return images + 0.01

    def some(network, images, labels, spec, seed=None):
        got.append(seed)
        return images + 0.02

    first, second = installed(monkeypatch, both=both, some=some)
    one(Crafter(folded), first, second)
    assert got == [(IDS, 3), 3]


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_the_trained_network_is_given_to_those_that_ask(monkeypatch, trained, folded) -> None:
    seen: dict[str, tuple[int, bool]] = {}

    def folds(network, images, labels, spec):
        seen["folds"] = count_norms(network), network.training
        return images + 0.01

    @needs_trained_network
    def asks(network, images, labels, spec):
        (inner,) = inner_networks(network)
        seen["asks"] = count_norms(network), network.training
        assert type(inner) is timm.models.ResNet
        assert isinstance(inner.get_submodule("layer2.0.act1"), nn.ReLU)
        assert not any(p.requires_grad for p in network.parameters())
        return images + 0.02

    opened: list[nn.Module] = []

    def open_it() -> nn.Module:
        opened.append(trained)
        return trained

    plain, asking = installed(monkeypatch, folds=folds, asks=asks)
    crafter = Crafter(folded, trained=open_it)
    one(crafter, plain)
    assert not opened
    one(crafter, plain, asking)
    one(crafter, asking)
    assert len(opened) == 1
    assert seen == {"folds": (0, False), "asks": (count_norms(trained), False)}
    assert count_norms(trained) > 0
    one(Crafter(trained), asking)  # a network that was never folded needs no second one
    with pytest.raises(SpecError, match="plug-in attack 'asks' needs the network as it was trained"):
        one(Crafter(folded), asking)
    with pytest.raises(SpecError, match="needs the network as it was trained"):
        one(Crafter(Ensemble([folded, trained])), asking)


def test_a_second_derivative_of_the_trained_network_is_the_plain_one(monkeypatch, trained, folded) -> None:
    found: list[Tensor] = []

    @needs_trained_network
    def curved(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        images.requires_grad_()
        (gradient,) = torch.autograd.grad(F.softplus(network(images)).sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), images)
        found.append(second)
        return (images + spec.epsilon * second.sign()).clamp(-1, 1).detach()

    (spec,) = installed(monkeypatch, curved=curved)
    one(Crafter(folded, trained=trained), spec)
    given = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.softplus(trained(given)).sum(), given, create_graph=True)
    (expected,) = torch.autograd.grad(gradient.square().sum(), given)
    assert expected.norm() > 0
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_inner_networks_are_found_through_all_wrappers(trained, folded) -> None:
    inner = trained.network
    assert inner_networks(trained) == [inner]
    assert inner_networks(Ensemble([trained, folded])) == [inner, folded.network]
    assert inner_networks(inner) == [inner]
    (bfloat16,) = (Crafter(trained, bfloat16=True).surrogate,)
    assert inner_networks(bfloat16) == [inner]


def test_hooks_of_a_plug_in_see_its_layers_also_in_bfloat16(monkeypatch, trained, folded) -> None:
    types: list[torch.dtype] = []

    @needs_trained_network
    def hooks(network, images, labels, spec):
        handle = (
            inner_networks(network)[0]
            .get_submodule("layer3")
            .register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
        )
        network(images)
        handle.remove()
        return images + 0.01

    (spec,) = installed(monkeypatch, hooks=hooks)
    one(Crafter(folded, trained=trained), spec)
    one(Crafter(folded, trained=trained, bfloat16=True), spec)
    assert types == [torch.float32, torch.bfloat16]


def test_a_plug_in_that_did_nothing_is_told_once(monkeypatch, folded) -> None:
    still, plain = installed(monkeypatch, still=lambda n, x, y, a: x, plain=sign_step)
    crafter = Crafter(folded)
    others = attack("fgsm", 0.02), attack("fgsm", 0.04), attack("pgd", 0.04)
    with pytest.warns(PluginWarning) as told:
        one(crafter, *others, still, plain)
    one(crafter, *others, still, plain)
    assert [str(t.message) for t in told] == crafter.notes
    assert crafter.notes == [
        "the plug-in attack 'still' left every image unchanged; check its options",
        "the plug-in attack 'plain' resembles fgsm: 75% or more of the changed values are equal; check "
        "that its hooks find their layers",
    ]


@pytest.mark.parametrize("name", ["pgd", "mi_fgsm"])
def test_a_plug_in_that_did_nothing_to_the_trained_network_is_told(monkeypatch, trained, folded, name: str) -> None:
    plain = attack(name, 0.04, steps=10, alpha=0.004)

    @needs_trained_network
    def silent(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        ((_, made),) = Crafter(network).craft(images, labels, [plain])
        return made

    (spec,) = installed(monkeypatch, silent=silent)
    crafter = Crafter(folded, trained=trained)
    with pytest.warns(PluginWarning, match=f"'silent' resembles {name}"):
        one(crafter, plain, attack("fgsm", 0.04), spec)
    assert len(crafter.notes) == 1


def test_a_plug_in_of_its_own_is_not_told(monkeypatch, folded) -> None:
    (spec,) = installed(monkeypatch, noise=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        crafter = Crafter(folded)
        one(crafter, attack("fgsm", 0.04), attack("mi_fgsm", 0.04), spec)
        (other,) = installed(monkeypatch, plain=sign_step)
        one(crafter, attack("fgsm", 0.02), other)  # another budget
    assert crafter.notes == []


def changes_weights(network: nn.Module) -> None:
    next(network.parameters()).data.add_(1)


def changes_statistics(network: nn.Module) -> None:
    network.train()
    network(IMAGES)
    network.eval()


def leaves_hooks(network: nn.Module) -> None:
    inner_networks(network)[0].layer2.register_forward_hook(lambda m, i, o: o * 0)
    inner_networks(network)[0].layer3.register_backward_hook(lambda m, i, o: i)


def replaces_a_layer(network: nn.Module) -> None:
    inner_networks(network)[0].layer2 = nn.Identity()


def replaces_forward(network: nn.Module) -> None:
    inner_networks(network)[0].layer2.forward = lambda maps: maps * 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changes_weights, "changed the values of network.conv1.0.weight"),
        (changes_statistics, "changed the values of network.conv1.1.running_mean"),
        (nn.Module.train, "left the network in training mode"),
        (nn.Module.requires_grad_, "changed requires_grad of network.conv1.0.weight"),
        (leaves_hooks, "left hooks on network.layer2"),
        (replaces_a_layer, "replaced parts of network"),
        (replaces_forward, "replaced the forward of network.layer2"),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_changed_surrogate_is_restored_and_told(
    monkeypatch, trained: nn.Module, change: Callable[[nn.Module], Any], told: str, fails: bool
) -> None:
    def craft(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        change(network)
        if fails:
            raise ValueError("no")
        return images + 0.01

    (spec,) = installed(monkeypatch, others=craft)
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    logits, crafter = trained(IMAGES), Crafter(trained)
    if fails:
        with pytest.raises(SpecError, match=r"'others' raised ValueError: no \(test_plugins.py, line \d+\); fix"):
            one(crafter, spec)
    else:
        with pytest.warns(PluginWarning, match=f"plug-in attack 'others' .*{told}"):
            one(crafter, spec)
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert not any(m.training or m._forward_hooks or m._backward_hooks for m in trained.modules())
    assert not any(p.requires_grad for p in trained.parameters())
    assert torch.equal(trained(IMAGES), logits)
    assert trained.network.layer3._is_full_backward_hook is None  # hooks of the other kind are still possible


def test_what_is_no_tensor_is_named(monkeypatch, folded) -> None:
    (spec,) = installed(monkeypatch, others=lambda n, x, y, a: x.numpy())
    with pytest.raises(SpecError, match="'others' gave ndarray; expected a tensor"):
        one(Crafter(folded), spec)


def test_a_plug_in_that_exits_ends_in_an_error_with_its_name(monkeypatch, folded) -> None:
    (spec,) = installed(monkeypatch, others=lambda n, x, y, a: sys.exit("layer not found"))
    with pytest.raises(SpecError, match="plug-in attack 'others' raised SystemExit: layer not found"):
        one(Crafter(folded), spec)


def test_a_grey_classifier_prepares_images_as_before() -> None:
    classifier = Classifier(timm.create_model("resnet10t", num_classes=1), channels=1).eval()
    grey = IMAGES[:, :1]
    assert torch.equal(classifier.network(classifier.prepared(grey)), classifier(grey))
