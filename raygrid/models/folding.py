"""Batch normalisation folded into the convolution before it: the same function of frozen networks, with less work."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
from timm.models.densenet import DenseBlock
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from raygrid.attacks.inner_networks import mark_as_folded
from raygrid.errors import WeightsError
from raygrid.models.frozen_layers import FrozenConv2d, FrozenDenseBlock, FrozenDenseLayer, can_freeze, can_fuse

_TOLERANCE = 1e-6  # relative, in float64: a wrong pair changes outputs by far more, rounding by far less


def fold(network: nn.Module, images: Tensor, *, device: str = "cpu") -> nn.Module:
    """Return a copy of `network` in evaluation mode, each convolution fused with the normalisation it feeds.

    A forward pass over `images` finds the pairs. In float64 the folded copy is compared with the original; if they
    differ (something else reads a convolution's output as well), the copy is returned unfolded. Logits change only by
    rounding. Crafted pixels may change more, because PGD amplifies rounding, so the execution plan is part of the study
    (docs/explanation/design.md, invariant 4).

    Args:
        network: on the CPU; the copy stays there, too.
        images: (batch, channel, height, width) in [-1, 1], as the network will get them; one image is enough.
        device: where the copy will run. `raygrid.models.frozen_layers` are for a CPU: benchmarks/crafting.py measures
            their gain there, and nothing measures it elsewhere.

    Raises WeightsError if a weight or statistic is not finite.

    Source: Jacob et al. 2018, section 3.2.
    """
    _require_finite(network)
    original = deepcopy(network).eval().double()
    with torch.no_grad():  # inference mode would leave weights that no gradient may pass
        pairs = _pairs(original, images.double())
        expected = original(images.double())
        folded = _fuse(deepcopy(original), pairs, frozen_layers=torch.device(device).type == "cpu")
        with _noting_trust(folded):
            answers = folded(images.double())
        close = torch.allclose(answers, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    # folded in float64 and rounded once: nearer to the trained network than folding in float32
    dtype = next(network.parameters()).dtype
    plan = (folded if close else original).to(dtype).eval().requires_grad_(False)
    if close:
        mark_as_folded(plan)
    _require_finite(plan)  # a statistic near 0 can lift a folded weight out of the range
    return plan.to(memory_format=torch.channels_last)


def fold_shapes(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a network on PyTorch's `meta` device, changed in place, with the layers that `fold` leaves for a GPU.

    Args:
        images: one image on the `meta` device.
    """
    network.eval()
    with torch.no_grad():
        pairs = _pairs(network, images)
        return _fuse(network, pairs, frozen_layers=False).requires_grad_(False)


def _require_finite(network: nn.Module) -> None:
    for name, values in network.state_dict().items():
        if not values.isfinite().all():
            raise WeightsError(f"{name} has non-finite values; train the model again, or load other weights")


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Return the names of (convolution, normalisation) where the second reads the output of the first."""
    producer: dict[int, str] = {}
    kept: list[Tensor] = []  # alive until the end, so that no id is used twice
    pairs: list[tuple[str, str]] = []

    def after_conv(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            producer[id(output)] = name
            kept.append(output)

        return hook

    def before_norm(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if id(inputs[0]) in producer:
                pairs.append((producer[id(inputs[0])], name))

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_conv(name)))
        elif _is_norm(module):
            handles.append(module.register_forward_pre_hook(before_norm(name)))
    network(images)
    for handle in handles:
        handle.remove()
    return list(_used_once(pairs))


def _used_once(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the pairs whose convolution and normalisation appear in no other pair (shared layers stay unchanged)."""
    for conv, norm in pairs:
        if sum(conv == c for c, _ in pairs) == 1 and sum(norm == n for _, n in pairs) == 1:
            yield conv, norm


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


def _fuse(network: nn.Module, pairs: list[tuple[str, str]], *, frozen_layers: bool) -> nn.Module:
    """Return `network`, changed in place: pairs folded, then layers replaced by frozen layers where possible."""
    for conv_name, norm_name in pairs:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        fused: nn.Module = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var, arg-type]
        # timm's BatchNormAct2d also drops and activates, and that stays
        rest = [m for m in (getattr(norm, name, nn.Identity()) for name in ("drop", "act")) if not _does_nothing(m)]
        if frozen_layers and can_freeze(fused) and len(rest) == 1 and can_fuse(rest[0]):
            fused, rest = FrozenConv2d(fused, rest[0]), []
        network.set_submodule(conv_name, fused)
        network.set_submodule(norm_name, nn.Sequential(*rest))
    return _with_frozen_layers(network) if frozen_layers else network


def _with_frozen_layers(network: nn.Module) -> nn.Module:
    for name, module in list(network.named_modules()):
        if can_freeze(module):
            network.set_submodule(name, FrozenConv2d(module))
    for name, module in list(network.named_modules()):
        if isinstance(module, DenseBlock):
            network.set_submodule(name, _dense_block(module))
    return network


@contextmanager
def _noting_trust(network: nn.Module) -> Iterator[None]:
    """Watch one forward pass, outside of inference mode; let frozen convolutions reuse bounds that stay valid.

    A bound that one frozen convolution notes of its maps or its outputs is true for the next one that gets the same
    tensor, unless an operation in place has changed it in between.
    """
    noted: dict[int, int] = {}  # tensor -> its version
    kept: list[Tensor] = []  # alive until the end, so that no id is used twice
    trusted: dict[FrozenConv2d, bool] = {}

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, FrozenConv2d)  # no other layer has this hook
        trusted[module] = trusted.get(module, True) and noted.get(id(inputs[0])) == inputs[0]._version
        note(inputs[0])

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        note(output)

    def note(maps: Tensor) -> None:
        noted[id(maps)] = maps._version
        kept.append(maps)

    layers = [m for m in network.modules() if isinstance(m, FrozenConv2d) and m.activation != "none"]
    handles = [h for m in layers for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for layer, trust in trusted.items():
        layer.trusts_bounds = trust


def _does_nothing(module: nn.Module) -> bool:
    return type(module) in (nn.Identity, nn.Dropout)


def _dense_block(block: nn.ModuleDict) -> nn.Module:
    """Return the frozen form of a block of DenseNet, or the block itself if its layers are not the usual ones."""
    layers: list[FrozenDenseLayer] = []
    for layer in cast(Iterator[Any], block.values()):
        usual = (
            _is_norm(layer.norm1)
            and type(layer.norm1.act) is nn.ReLU
            and isinstance(layer.conv1, FrozenConv2d)
            and layer.conv1.activation == "relu"
            and isinstance(layer.norm2, nn.Sequential)
            and isinstance(layer.conv2, FrozenConv2d)
        )
        if not usual:
            return block
        layers.append(FrozenDenseLayer(layer.norm1, layer.conv1, layer.conv2))
    return FrozenDenseBlock(layers)
