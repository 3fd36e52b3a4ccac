"""Folded networks answer NaN where the trained network does, to the value; weights that are not finite are refused."""

import math

import pytest
import timm
import torch
from torch import Tensor, nn

from raygrid.attacks import Bfloat16
from raygrid.errors import WeightsError
from raygrid.models.architectures import Classifier
from raygrid.models.folding import fold
from raygrid.models.frozen_layers import FrozenConv2d

NAN, INF = math.nan, math.inf


def maps_of(channels: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(3, channels, side, side, generator=generator)
    return maps.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38, -3e38, 1e25])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6()])
def test_a_fused_activation_keeps_every_value(activation: nn.Module, gradients: bool, value: float) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, padding=1).requires_grad_(False).to(memory_format=torch.channels_last)
    plain, frozen = nn.Sequential(conv, activation), FrozenConv2d(conv, activation)
    healthy = maps_of(4, 8)
    damaged = healthy.clone()
    damaged[1, 2, 3, 3] = value
    before = plain(healthy)
    with torch.set_grad_enabled(gradients):
        given = damaged.clone(memory_format=torch.preserve_format).requires_grad_(gradients)
        outputs = frozen(given).detach()
    torch.testing.assert_close(outputs, plain(damaged), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(outputs[[0, 2]], before[[0, 2]])
    assert bool(outputs.isnan().any()) == math.isnan(value)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6()])
def test_nan_of_infinities_that_cancel_is_kept(activation: nn.Module) -> None:
    conv = nn.Conv2d(2, 1, 1, bias=False).requires_grad_(False)
    conv.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    maps = torch.full((1, 2, 4, 4), INF)
    assert activation(conv(maps)).isnan().all()
    assert FrozenConv2d(conv, activation)(maps).isnan().all()


def test_an_activation_in_bfloat16_keeps_nan() -> None:
    frozen, maps = FrozenConv2d(nn.Conv2d(3, 4, 3), nn.ReLU()), maps_of(3, 6)
    assert Bfloat16(frozen)(maps).isfinite().all()
    assert Bfloat16(frozen)(maps * NAN).isnan().all()


@pytest.mark.parametrize("arch", ["densenet121", "inception_v3", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_one_damaged_pixel_reaches_the_logits_of_its_image_alone(arch: str, value: float) -> None:
    torch.manual_seed(0)
    classifier = Classifier(timm.create_model(arch, num_classes=2), channels=3).eval()
    folded = fold(classifier, maps_of(3, 80)[:1])
    assert any(m.activation != "none" for m in folded.modules() if isinstance(m, FrozenConv2d))
    healthy = maps_of(3, 80)
    damaged = healthy.clone()
    damaged[1, 0, 40, 40] = value
    with torch.inference_mode():
        expected, logits, before = classifier(damaged), folded(damaged), folded(healthy)
    assert torch.equal(logits.isnan(), expected.isnan())
    assert logits[1].isnan().all() or math.isinf(value)  # ReLU6 stops infinity
    assert torch.equal(logits[[0, 2]], before[[0, 2]])


class Inside(nn.Module):
    """NaN arises between two layers, in an operation in place on the first one's output."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 4, 3), timm.layers.BatchNormAct2d(4)
        self.second, self.norm2 = nn.Conv2d(4, 4, 3), timm.layers.BatchNormAct2d(4)
        self.in_place = in_place

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm1(self.first(images))
        if self.in_place:
            maps += images.mean().log()  # NaN for a dark image
        return self.norm2(self.second(maps)).mean((2, 3))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_bound_is_trusted_only_while_nothing_changes_the_maps(in_place: bool) -> None:
    network = Inside(in_place=in_place).eval()
    bright = maps_of(3, 9).abs()
    folded = fold(network, bright)
    assert isinstance(folded.second, FrozenConv2d)
    assert folded.second.trusts_bounds is not in_place
    with torch.inference_mode():
        assert folded(bright).isfinite().all()
        assert bool(folded(-bright).isnan().all()) is in_place
        assert bool(network(-bright).isnan().all()) is in_place


def test_nan_by_overflow_between_trusted_layers_is_kept() -> None:
    torch.manual_seed(0)
    layers = [(nn.Conv2d(n, 4, 1, bias=False), timm.layers.BatchNormAct2d(4)) for n in (3, 4, 4)]
    network = nn.Sequential(*(m for pair in layers for m in pair)).eval()
    for conv, _ in layers:
        nn.init.uniform_(conv.weight, 1e14, 2e14)
    with torch.no_grad():
        layers[2][0].weight[:, ::2] *= -1
    folded = fold(network, maps_of(3, 5).abs()[:1])
    assert [m.trusts_bounds for m in folded.modules() if isinstance(m, FrozenConv2d)] == [False, True, True]
    maps = maps_of(3, 5).abs() + 1
    assert network(maps).isfinite().all()
    assert folded(maps).isfinite().all()
    assert network(maps * 1e20).isnan().any()
    torch.testing.assert_close(folded(maps * 1e20).isnan(), network(maps * 1e20).isnan(), rtol=0, atol=0)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_var", "bn1.bias", "fc.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float) -> None:
    network = timm.create_model("resnet10t", num_classes=1)
    name = name.replace("conv1", "conv1.0").replace("bn1", "conv1.1")
    network.state_dict()[name].view(-1)[0] = value
    with pytest.raises(WeightsError, match=f"^{name} has non-finite values; train the model again"):
        fold(network, maps_of(3, 32)[:1])


def test_a_convolution_alone_refuses_them_too() -> None:
    conv = nn.Conv2d(3, 4, 3).requires_grad_(False)
    conv.weight[0, 0, 0, 0] = NAN
    with pytest.raises(WeightsError, match="a convolution has non-finite weights"):
        FrozenConv2d(conv)


def test_a_weight_that_folding_lifts_out_of_the_range_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval().requires_grad_(False)
    network[0].weight.fill_(2e37)
    network[1].running_var.zero_()  # divides by the square root of 1e-5
    with pytest.raises(WeightsError, match=r"0\.weight has non-finite values"):
        fold(network, maps_of(3, 4)[:1])
