"""oneDNN's kernels on a CPU: their types, padding, treatment of NaN, and missing second derivatives."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from raygrid.errors import SpecError

_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
# oneDNN's fused activations turn NaN into 0. NaN cannot arise from numbers while every partial sum of a convolution
# stays below this, well inside the range of float32.
_SUM_LIMIT = 1e38
_BOUND = "raygrid_bound"  # attribute of maps: no value exceeds it


def with_leading(weight: Tensor, rows: tuple[int, int]) -> Tensor:
    """Return kernels with rows and columns of zeros in front."""
    return F.pad(weight, (rows[1], 0, rows[0], 0)) if any(rows) else weight


def has_onednn(maps: Tensor) -> bool:
    """Whether oneDNN has kernels for the device and type of the maps."""
    if maps.device.type != "cpu" or not torch.backends.mkldnn.enabled:
        return False
    if maps.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return maps.dtype == torch.float32 and _ONEDNN


def stays_finite(largest_sum: float) -> bool:
    """Whether sums that do not exceed this bound are numbers; False for NaN."""
    return largest_sum < _SUM_LIMIT


def measured(maps: Tensor) -> float:
    """Return a bound of all values; infinite if a value is not finite or above 1.9e19."""
    if maps.is_contiguous():
        values = maps.view(-1)
    elif maps.is_contiguous(memory_format=torch.channels_last):
        values = maps.permute(0, 2, 3, 1).view(-1)
    else:
        values = maps.reshape(-1)
    squares = torch.dot(values, values).item()  # the fastest reduction in which no value can hide
    return math.sqrt(squares) if math.isfinite(squares) else math.inf


def note_bound(maps: Tensor, bound: float) -> None:
    """Attach a bound of all values to maps."""
    setattr(maps, _BOUND, bound)


def noted_bound(maps: Tensor) -> float:
    """Return the bound attached to maps; infinite if there is none."""
    return float(getattr(maps, _BOUND, math.inf))


class _Once(torch.autograd.Function):
    """A gradient whose own derivative raises an error: oneDNN's kernels would omit a part of it."""

    @staticmethod
    def forward(ctx: Any, by_maps: Tensor, gradient: Tensor) -> Tensor:
        return by_maps.view_as(by_maps)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, None]:
        raise SpecError(
            "a second derivative through a folded network would be wrong; use the network as it was "
            "trained: mark a plug-in attack with raygrid.attacks.needs_trained_network"
        )


def differentiable_once(by_maps: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the maps, tied to the gradient of the outputs, so that differentiating it raises."""
    # without a tie the derivative is truly 0, because the activations here are piecewise linear
    tied = torch.is_grad_enabled() and gradient.requires_grad
    return cast(Tensor, _Once.apply(by_maps, gradient)) if tied else by_maps


def refuse_other_derivatives() -> None:
    """Raise SpecError inside a transform of torch.func or a level of dual numbers, which these kernels would ignore."""
    dual: int = forward_ad._current_level
    if dual >= 0 or torch._C._are_functorch_transforms_active():
        raise SpecError(
            "torch.func and derivatives in forward mode cannot pass through a folded network; use the network as it "
            "was trained: mark a plug-in attack with raygrid.attacks.needs_trained_network"
        )
