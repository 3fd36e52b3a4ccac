"""Folding keeps the function of a network, and leaves layers that it cannot fold as they are."""

import pytest
import timm
import torch
from timm.models.densenet import DenseBlock
from torch import Tensor, nn

from raygrid.models.architectures import Classifier
from raygrid.models.folding import fold
from raygrid.models.frozen_layers import FrozenConv2d, FrozenDenseBlock

IMAGES = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1


def num_norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def with_statistics(network: nn.Module) -> nn.Module:
    """Give every normalisation layer statistics and weights that are not the identity."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.3), (module.bias, -0.3), (module.running_var, 0.5)):
                tensor.data.uniform_(low, low + 1, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


@pytest.mark.parametrize(
    ("arch", "left"),
    # DenseNet normalises before its convolutions: three transitions and the last layer cannot be folded
    [("test_resnet", 0), ("test_efficientnet", 0), ("mobilenetv3_small_050", 0), ("densenet121", 4)],
)
def test_folded_network_gives_the_same_logits_with_fewer_layers(arch, left):
    classifier = with_statistics(Classifier(timm.create_model(arch, num_classes=3), channels=3))
    before = num_norms(classifier)
    folded = fold(classifier, IMAGES[:1])
    assert num_norms(folded) == left < before == num_norms(classifier)
    with torch.inference_mode():
        torch.testing.assert_close(folded(IMAGES), classifier(IMAGES), rtol=1e-3, atol=1e-3)
    assert not any(p.requires_grad for p in folded.parameters())
    images = IMAGES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(folded(images).sum(), images)
    (expected,) = torch.autograd.grad(classifier(images).sum(), images)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-3)


def test_frozen_layers_are_for_a_cpu_alone() -> None:
    classifier = with_statistics(Classifier(timm.create_model("densenet121", num_classes=3), channels=3))
    kinds = {
        device: {type(m) for m in fold(classifier, IMAGES[:1], device=device).modules()}
        for device in ("cpu", "cuda", "cuda:1")
    }
    assert {FrozenConv2d, FrozenDenseBlock} <= kinds["cpu"]
    for device in ("cuda", "cuda:1"):
        assert not {FrozenConv2d, FrozenDenseBlock} & kinds[device]
        assert {nn.Conv2d, DenseBlock} <= kinds[device]


@pytest.mark.parametrize("arch", ["test_resnet", "densenet121", "tf_efficientnet_lite0"])
def test_plain_folded_layers_compute_the_same_function(arch: str) -> None:
    classifier = with_statistics(Classifier(timm.create_model(arch, num_classes=3), channels=3))
    plain, frozen = (fold(classifier, IMAGES[:1], device=device).double() for device in ("cuda", "cpu"))
    assert num_norms(plain) >= num_norms(frozen)
    assert num_norms(plain) < num_norms(classifier)
    with torch.inference_mode():
        torch.testing.assert_close(plain(IMAGES.double()), classifier.double()(IMAGES.double()), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(plain(IMAGES.double()), frozen(IMAGES.double()), rtol=1e-4, atol=1e-5)


class _ReadTwice(nn.Module):
    """The convolution's output is normalised, and added as it is: folding it would change the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return (self.norm(maps) + maps).mean((2, 3))


class _Shared(nn.Module):
    """One convolution in two places, each with a normalisation layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.conv(self.first(self.conv(images)))).mean((2, 3))


@pytest.mark.parametrize("network", [_ReadTwice(), _Shared()])
def test_layers_that_cannot_be_folded_stay(network):
    network = with_statistics(network)
    folded = fold(network, IMAGES[:1])
    assert num_norms(folded) == num_norms(network)
    with torch.inference_mode():
        torch.testing.assert_close(folded(IMAGES), network(IMAGES), rtol=1e-5, atol=1e-5)


def test_the_original_is_not_changed():
    network = with_statistics(timm.create_model("test_resnet", num_classes=1))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fold(network, IMAGES[:1])
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
