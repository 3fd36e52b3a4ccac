"""Frozen layers compute the same function as their originals, and the same bits where nothing is rearranged."""

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models.densenet import DenseBlock
from torch import Tensor, nn

from raygrid.attacks import Bfloat16
from raygrid.models.folding import fold
from raygrid.models.frozen_layers import FrozenConv2d, FrozenDenseBlock, can_freeze

ACTIVATIONS = (None, nn.ReLU(), nn.ReLU6())


def maps_of(channels: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(3, channels, side, side, generator=generator, dtype=dtype) * 3
    return maps.contiguous(memory_format=torch.channels_last)


def gradient(network: nn.Module, maps: Tensor) -> Tensor:
    maps = maps.clone().requires_grad_(True)
    outputs = network(maps)
    weights = torch.arange(outputs.numel(), dtype=maps.dtype).sin().view(outputs.shape)
    (result,) = torch.autograd.grad(outputs, maps, weights)
    return result


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 5, "padding": 2, "groups": 8},
        {"kernel_size": (1, 7), "padding": (0, 3), "bias": False},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
        {"kernel_size": 3},
    ],
)
def test_a_frozen_convolution_is_the_plain_one_to_the_bit(geometry, activation) -> None:
    conv = nn.Conv2d(8, 16, **geometry).requires_grad_(False).to(memory_format=torch.channels_last)
    plain, frozen, maps = (
        nn.Sequential(conv, activation or nn.Identity()),
        FrozenConv2d(conv, activation),
        maps_of(8, 12),
    )
    assert torch.equal(frozen(maps), plain(maps))
    torch.testing.assert_close(gradient(frozen, maps), gradient(plain, maps), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():  # laid out in inference mode, the weights still serve gradients
        fresh = FrozenConv2d(conv, activation)
        assert torch.equal(fresh(maps), plain(maps))
    assert torch.equal(gradient(fresh, maps), gradient(frozen, maps))


@pytest.mark.parametrize("side", [9, 10, 11, 12])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (2, 1), (4, 3), (1, 2)])
def test_tensorflows_padding_needs_no_padded_copy(side: int, kernel: int, stride: int) -> None:
    for groups in (1, 8):
        conv = Conv2dSame(8, 8, kernel, stride=stride, groups=groups).double().requires_grad_(False)
        frozen, maps = FrozenConv2d(conv), maps_of(8, side, torch.float64)
        torch.testing.assert_close(frozen(maps), conv(maps), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(frozen, maps), gradient(conv, maps), rtol=1e-12, atol=1e-12)
        single = frozen.float()
        torch.testing.assert_close(single(maps.float()).double(), conv(maps), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient(single, maps.float()).double(), gradient(conv, maps), rtol=1e-4, atol=1e-4)


def test_a_converted_layer_forgets_its_layout() -> None:
    frozen, maps = FrozenConv2d(nn.Conv2d(8, 8, 3)), maps_of(8, 6)
    before = frozen(maps)
    assert frozen.double()(maps.double()).dtype == torch.float64
    assert torch.equal(frozen.float()(maps), before)


def test_convolutions_of_other_kinds_stay() -> None:
    assert not can_freeze(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"))
    assert not can_freeze(nn.Conv2d(3, 3, 3, padding="same"))
    assert not can_freeze(Conv2dSame(3, 3, 3, dilation=2))
    assert not can_freeze(nn.ConvTranspose2d(3, 3, 3))


def densenet() -> nn.Module:
    """Return a DenseNet whose normalisations scale by positive and negative numbers, and by zero."""
    torch.manual_seed(0)
    network = timm.create_model("densenet121", num_classes=2)
    for number, module in enumerate(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(module.running_mean, -0.3, 0.3)
        nn.init.uniform_(module.bias, -0.3, 0.3)
        nn.init.uniform_(module.weight, 0.5, 1.5)
        if number % 2:
            module.weight.data[::5] *= -1
            module.weight.data[3] = 0.0
    return network.eval().requires_grad_(False)


def test_a_frozen_dense_block_equals_the_original_in_float64() -> None:
    network, maps = densenet().double(), maps_of(3, 40, torch.float64)
    folded = fold(network, maps[:1]).double()
    assert sum(isinstance(m, FrozenDenseBlock) for m in folded.modules()) == 4
    assert not any(isinstance(m, DenseBlock) for m in folded.modules())
    torch.testing.assert_close(folded(maps), network(maps), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient(folded, maps), gradient(network, maps), rtol=1e-8, atol=1e-9)


def test_a_dense_block_with_another_activation_stays() -> None:
    network = timm.create_model("densenet121", num_classes=2, act_layer="silu").eval()
    folded = fold(network, maps_of(3, 40)[:1])
    assert not any(isinstance(m, FrozenDenseBlock) for m in folded.modules())
    torch.testing.assert_close(folded(maps_of(3, 40)), network(maps_of(3, 40)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch", ["densenet121", "tf_efficientnet_lite0", "test_resnet"])
def test_frozen_layers_compute_in_bfloat16(arch: str) -> None:
    torch.manual_seed(0)
    network, maps = timm.create_model(arch, num_classes=2).eval(), maps_of(3, 48) / 9
    folded = fold(network, maps[:1])
    exact, rounded = folded(maps), Bfloat16(folded)(maps)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()
    assert torch.isfinite(gradient(Bfloat16(folded), maps)).all()
    assert torch.equal(folded(maps), exact)
