"""Layers of frozen networks on a CPU, which need fewer passes over memory than the layers they replace.

`raygrid.models.folding` puts them in. They compute the same function, with first gradients for the images only. Values
that are not finite pass through them as through the layers they replace.
"""

import math
from typing import Any, TypeGuard, cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.errors import WeightsError
from raygrid.models.onednn import (
    differentiable_once,
    has_onednn,
    measured,
    note_bound,
    noted_bound,
    refuse_other_derivatives,
    stays_finite,
    with_leading,
)

# activations that oneDNN computes together with a convolution, and whose gradient follows from their output:
# module -> (oneDNN's name, lower and upper bound)
_ACTIVATIONS: dict[type[nn.Module], tuple[str, tuple[float, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("hardtanh", (0.0, 6.0)),
}


def can_freeze(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether FrozenConv2d can replace a module."""
    if type(module) is Conv2dSame:
        return module.dilation == (1, 1)
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def can_fuse(activation: nn.Module) -> bool:
    """Whether FrozenConv2d can compute the activation after a convolution."""
    return type(activation) in _ACTIVATIONS


class FrozenConv2d(nn.Module):
    """A convolution whose weights never change, and the activation after it.

    On a CPU oneDNN computes both in one pass, from weights that are laid out for it once; PyTorch's own layer lays them
    out in every call. The gradient of the input is a convolution with the kernels flipped, laid out likewise.
    TensorFlow's one-sided padding becomes a kernel with a leading row of zeros and padding on both sides, without a
    padded copy of the maps.

    oneDNN's activations turn NaN into 0, so an activation is fused only if the largest value of the maps and the
    weights rule NaN out.

    Attributes:
        trusts_bounds: whether the maps are unchanged since another frozen convolution noted a bound of them. Otherwise
            they are read once to find their bound.

    Raises WeightsError if a weight is not finite.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        if not all(t.isfinite().all() for t in conv.parameters()):
            raise WeightsError("a convolution has non-finite weights; train the model again or load others")
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.padding = None if isinstance(conv, Conv2dSame) else [int(p) for p in conv.padding]
        self.activation, self.bounds = ("none", ()) if activation is None else _ACTIVATIONS[type(activation)]
        self._laid_out: dict[tuple[Any, ...], Tensor] = {}
        self.trusts_bounds = False
        self._reach: tuple[float, float] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """Return the activated outputs for maps (batch, channel, height, width)."""
        refuse_other_derivatives()
        if torch.is_autocast_enabled(maps.device.type):
            maps = maps.to(torch.get_autocast_dtype(maps.device.type))
        sums = self._largest_sum(maps)
        if maps.requires_grad and torch.is_grad_enabled():
            outputs = cast(Tensor, _Convolution.apply(maps, self, sums))
        else:
            outputs = self.run(maps, sums)
        if stays_finite(sums):
            note_bound(outputs, sums)
        return outputs

    def run(self, maps: Tensor, sums: float) -> Tensor:
        """Return the outputs, outside of autograd.

        Args:
            sums: a bound of every partial sum, see `largest_sum`; NaN if unknown.
        """
        rows, padding = self._geometry(maps.shape)
        bias = None if self.bias is None else self.bias.to(maps.dtype)
        spread = (padding, self.stride, self.dilation, self.groups)
        if has_onednn(maps):
            fused = self.activation != "none" and stays_finite(sums)
            activation = (self.activation, list(self.bounds), "") if fused else ("none", [], "")
            weight = self._layout(maps, "forward", rows, padding, self.stride)
            outputs: Tensor = torch.ops.mkldnn._convolution_pointwise(maps, weight, bias, *spread, *activation)
            if fused:
                return outputs
        else:
            weight = with_leading(self.weight, rows).to(maps.dtype)
            outputs = F.conv2d(maps, weight, bias, self.stride, padding, self.dilation, self.groups)
        return outputs.clamp_(0, self.bounds[1] if self.bounds else None) if self.activation != "none" else outputs

    def largest_sum(self, bound: float) -> float:
        """Return a bound of every partial sum over maps whose values do not exceed a bound."""
        if self._reach is None:
            slope = self.weight.double().abs().sum(dim=(1, 2, 3)).max().item()
            self._reach = slope, 0.0 if self.bias is None else self.bias.double().abs().max().item()
        return bound * self._reach[0] + self._reach[1]

    def _largest_sum(self, maps: Tensor) -> float:
        """Return a bound of every partial sum over these maps; NaN if nothing needs it."""
        if self.activation == "none" or not has_onednn(maps):
            return math.nan
        sums = self.largest_sum(noted_bound(maps)) if self.trusts_bounds else math.nan
        if not stays_finite(sums):
            bound = measured(maps)
            note_bound(maps, bound)
            sums = self.largest_sum(bound)
        return sums

    def pull_back(self, gradient: Tensor, outputs: Tensor | None, shape: torch.Size) -> Tensor:
        """Return the gradient of the maps, which have this shape, from the gradient of the outputs."""
        if self.activation == "relu":
            gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
        elif self.activation == "hardtanh":
            gradient = torch.ops.aten.hardtanh_backward(gradient, outputs, *self.bounds)
        rows, padding = self._geometry(shape)
        sizes = [n + r for n, r in zip(self.weight.shape[2:], rows, strict=True)]
        back = [d * (k - 1) - p for k, p, d in zip(sizes, padding, self.dilation, strict=True)]
        if has_onednn(gradient) and self.stride == [1, 1] and min(back) >= 0:
            weight = self._layout(gradient, "back", rows, back, [1, 1])
            spread = (back, [1, 1], self.dilation, self.groups)
            by_maps = torch.ops.mkldnn._convolution_pointwise(gradient, weight, None, *spread, "none", [], "")
            return cast(Tensor, by_maps)
        weight, maps = with_leading(self.weight, rows).to(gradient.dtype), gradient.new_empty(1).expand(shape)
        plain = (self.stride, padding, self.dilation, False, [0, 0], self.groups)
        by_maps, _, _ = torch.ops.aten.convolution_backward(gradient, maps, weight, None, *plain, [True, False, False])
        return cast(Tensor, by_maps)

    def _geometry(self, shape: torch.Size) -> tuple[tuple[int, int], list[int]]:
        """Return the numbers of leading rows and columns of zeros for the kernel, and the padding on both sides."""
        if self.padding is not None:
            return (0, 0), self.padding
        totals = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, s, k in zip(shape[2:], self.stride, self.weight.shape[2:], strict=True)
        ]
        return (totals[0] % 2, totals[1] % 2), [-(-t // 2) for t in totals]

    def _layout(self, maps: Tensor, way: str, rows: tuple[int, int], padding: list[int], stride: list[int]) -> Tensor:
        """Return the weights in oneDNN's layout."""
        key = (way, maps.dtype, rows)
        if key not in self._laid_out:
            with torch.inference_mode(False), torch.no_grad():
                weight = with_leading(self.weight.clone(), rows)
                if way == "back":  # in each group inputs and outputs are swapped, and the kernels flipped
                    by_group = weight.view(self.groups, -1, *weight.shape[1:])
                    weight = by_group.transpose(1, 2).flatten(0, 1).flip(2, 3)
                self._laid_out[key] = torch.ops.mkldnn._reorder_convolution_weight(
                    weight.to(maps.dtype).contiguous(), padding, stride, self.dilation, self.groups, list(maps.shape)
                )
        return self._laid_out[key]

    def _apply(self, fn: Any, recurse: bool = True) -> "FrozenConv2d":
        self._laid_out.clear()  # the weights have moved or changed their type
        self._reach = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class _Convolution(torch.autograd.Function):
    """A FrozenConv2d as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, layer: FrozenConv2d, sums: float) -> Tensor:
        outputs = layer.run(maps, sums)
        ctx.layer, ctx.shape = layer, maps.shape
        if layer.activation != "none":
            ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (outputs,) = ctx.saved_tensors or (None,)
        with torch.no_grad():
            by_maps = ctx.layer.pull_back(gradient, outputs, ctx.shape)
        return differentiable_once(by_maps, gradient), None, None


class FrozenDenseBlock(nn.Module):
    """A block of DenseNet whose layers write into one tensor; the original copies all maps again in every layer.

    Each layer's first normalisation and ReLU, relu(scale x + shift), become |scale| relu(sign x + shift / |scale|). The
    weights of the next convolution take |scale|, so one addition remains.

    Source: Huang et al. 2017; Pleiss et al. 2017 share the storage likewise, to save memory.
    """

    def __init__(self, layers: "list[FrozenDenseLayer]") -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps (batch, channel, height, width) followed by those of every layer."""
        refuse_other_derivatives()
        if torch.is_autocast_enabled(maps.device.type):
            maps = maps.to(torch.get_autocast_dtype(maps.device.type))
        if maps.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _DenseBlock.apply(maps, self))
        return self.run(maps, kept=None)

    def run(self, maps: Tensor, kept: list[Tensor] | None) -> Tensor:
        """Return the outputs, outside of autograd; append to `kept` two outputs per layer for `pull_back`."""
        grown = sum(layer.growth for layer in self.sequence())
        shape = (maps.shape[0], maps.shape[1] + grown, *maps.shape[2:])
        outputs = torch.empty(shape, dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last)
        number = maps.shape[1]
        outputs[:, :number] = maps
        bound = measured(maps)
        for layer in self.sequence():
            activated = layer.activate(outputs[:, :number])
            narrow = layer.narrowing.run(activated, layer.narrowing.largest_sum(bound + layer.largest_shift))
            new = layer.growing.run(narrow, math.nan)  # without an activation
            bound = max(bound, measured(new))  # of all maps so far, each read once for it
            outputs[:, number : number + layer.growth] = new
            number += layer.growth
            if kept is not None:
                kept += [activated, narrow]
        return outputs

    def pull_back(self, gradient: Tensor, kept: tuple[Tensor, ...], number: int) -> Tensor:
        """Return the gradient of the first `number` maps from the gradient of all outputs."""
        total = gradient.clone(memory_format=torch.channels_last)
        stop = total.shape[1]
        for layer, activated, narrow in zip(reversed(self.sequence()), kept[-2::-2], kept[::-2], strict=True):
            start = stop - layer.growth
            own = total[:, start:stop].contiguous(memory_format=torch.channels_last)
            by_narrow = layer.growing.pull_back(own, None, narrow.shape)
            by_activated = layer.narrowing.pull_back(by_narrow, narrow, activated.shape)
            total[:, :start] += layer.activation_back(by_activated, activated)
            stop = start
        return total[:, :number].contiguous(memory_format=torch.channels_last)

    def sequence(self) -> "list[FrozenDenseLayer]":
        """Return the layers in order."""
        return [cast(FrozenDenseLayer, layer) for layer in self.layers]


class FrozenDenseLayer(nn.Module):
    """A layer of FrozenDenseBlock: activation, 1x1 convolution with ReLU, 3x3 convolution.

    Args:
        norm: the layer's first normalisation in evaluation mode, followed by ReLU.
        narrowing: the 1x1 convolution with the second normalisation folded in, and its ReLU.
        growing: the 3x3 convolution.
    """

    shift: Tensor
    sign: Tensor

    def __init__(self, norm: nn.BatchNorm2d, narrowing: FrozenConv2d, growing: FrozenConv2d) -> None:
        super().__init__()
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight.detach() / (variance + norm.eps).sqrt()
        shift = norm.bias.detach() - mean * scale
        magnitude = torch.where(scale == 0, 1.0, scale.abs())
        self.register_buffer("shift", (shift / magnitude).view(1, -1, 1, 1))
        self.register_buffer("sign", scale.sign().view(1, -1, 1, 1))
        narrowing.weight = narrowing.weight * magnitude.view(1, -1, 1, 1)
        self.narrowing, self.growing = narrowing, growing
        self.growth = growing.weight.shape[0]
        self._all_positive = bool((scale > 0).all())
        self.largest_shift = self.shift.abs().max().item()

    def activate(self, maps: Tensor) -> Tensor:
        """Return relu(sign x + shift)."""
        signed = maps if self._all_positive else maps * self.sign.to(maps.dtype)
        return (signed + self.shift.to(maps.dtype)).relu_()

    def activation_back(self, gradient: Tensor, activated: Tensor) -> Tensor:
        """Return the gradient of the maps from the gradient of their activation."""
        by_maps = torch.ops.aten.threshold_backward(gradient, activated, 0)
        return cast(Tensor, by_maps if self._all_positive else by_maps.mul_(self.sign.to(by_maps.dtype)))


class _DenseBlock(torch.autograd.Function):
    """A FrozenDenseBlock as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, block: FrozenDenseBlock) -> Tensor:
        kept: list[Tensor] = []
        outputs = block.run(maps, kept)
        ctx.block, ctx.number = block, maps.shape[1]
        ctx.save_for_backward(*kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            by_maps = ctx.block.pull_back(gradient, ctx.saved_tensors, ctx.number)
        return differentiable_once(by_maps, gradient), None
