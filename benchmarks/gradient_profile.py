"""The time of an input gradient, by kind and direction of convolution, and everything between the convolutions.

The networks are those of benchmarks/crafting.py, folded and frozen as raygrid attacks through them; float32, two
threads. The benchmark times every call of a convolution (median over rounds of the sum over its kind). It counts its
operations, 2 per multiplication and addition, and the bytes of its maps and weights, each once. Limits of this machine
stand beside the measured time:

matrix product:  the rate of a float32 matrix product of 2048 x 2048, the most that oneDNN reaches here;
memory:          bytes per second of a sum of two tensors that fit into no cache;
roofline:        for each call the larger of operations / rate of the matrix product and bytes / memory, summed.

`the rest` is all other work: pooling, joining of branches, additions of gradients, normalisations that could not be
folded, autograd.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from common import write_result
from crafting import SETTINGS, THREADS
from torch import Tensor, nn

from raygrid.attacks import freeze
from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.models.frozen_layers import FrozenConv2d
from raygrid.models.numerics import set_numerics

ROUNDS, WARM_UP = 9, 2
SIDE = 2048
FLOATS = 2**26  # 256 MiB


@dataclass
class Spent:
    """What the calls of one kind took in one round, and what they had to do."""

    seconds: float = 0.0
    operations: float = 0.0
    roofline_s: float = 0.0


@dataclass
class Meter:
    """Times every call of a frozen convolution while it is attached."""

    operations_per_s: float
    bytes_per_s: float
    spent: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Measure the calls of a block."""
        run, pull_back = FrozenConv2d.run, FrozenConv2d.pull_back

        def timed_run(layer: FrozenConv2d, maps: Tensor, sums: float) -> Tensor:
            outputs, seconds = _timed(lambda: run(layer, maps, sums))
            self._add(layer, "forward", seconds, maps.shape, outputs.shape)
            return outputs

        def timed_back(layer: FrozenConv2d, gradient: Tensor, outputs: Tensor | None, shape: torch.Size) -> Tensor:
            by_maps, seconds = _timed(lambda: pull_back(layer, gradient, outputs, shape))
            self._add(layer, "back", seconds, shape, gradient.shape)
            return by_maps

        FrozenConv2d.run, FrozenConv2d.pull_back = timed_run, timed_back  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            FrozenConv2d.run, FrozenConv2d.pull_back = run, pull_back  # type: ignore[method-assign]

    def _add(self, layer: FrozenConv2d, way: str, seconds: float, maps: torch.Size, outputs: torch.Size) -> None:
        operations = 2 * outputs.numel() * layer.weight[0].numel()
        floats = maps.numel() + outputs.numel() + layer.weight.numel()
        spent = self.spent[f"{_kind(layer)}, {way}"]
        spent.seconds += seconds
        spent.operations += operations
        spent.roofline_s += max(operations / self.operations_per_s, 4 * floats / self.bytes_per_s)


def main() -> None:
    """Profile every network and write the result."""
    set_numerics(threads=THREADS)
    rate, memory = _matrix_rate(), _memory_rate()
    result: dict[str, Any] = {
        "matrix product, GFLOP/s": round(rate / 1e9, 1),
        "memory, GB/s": round(memory / 1e9, 1),
    }
    print(result)
    for arch, side, batch in SETTINGS:
        name = f"{arch}, {side} px, batch {batch}"
        result[name] = _profile(arch, side, batch, rate, memory)
        print(name)
        for kind, values in result[name].items():
            print(f"  {kind}: {values}", flush=True)
    write_result("gradient_profile", __doc__ or "", result)


def _profile(arch: str, side: int, batch: int, rate: float, memory: float) -> dict[str, Any]:
    images = torch.rand((batch, 3, side, side), generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last)
    network = fold(freeze(build_classifier(arch, channels=3, num_outputs=1, seed=0)), images[:1])
    totals, rounds = [], []
    for number in range(WARM_UP + ROUNDS):
        meter = Meter(rate, memory)
        with meter.attached():
            _, seconds = _timed(lambda: _gradient(network, images))
        if number >= WARM_UP:
            totals.append(seconds)
            rounds.append(meter.spent)
    total = statistics.median(totals)
    kinds = {kind: statistics.median(r[kind].seconds for r in rounds) for kind in rounds[0]}
    done = rounds[0]
    operations = sum(spent.operations for spent in done.values())
    return {
        "whole gradient": {
            "ms": round(1e3 * total, 1),
            "lowest to highest, ms": [round(1e3 * min(totals), 1), round(1e3 * max(totals), 1)],
            "GFLOP/s": round(operations / total / 1e9, 1),
            "share of the matrix product's rate": round(operations / total / rate, 3),
            "share of the time that the roofline needs": round(sum(s.roofline_s for s in done.values()) / total, 3),
        },
        **{
            kind: {
                "ms": round(1e3 * seconds, 1),
                "share of the time": round(seconds / total, 3),
                "share of the operations": round(done[kind].operations / operations, 3),
                "GFLOP/s": round(done[kind].operations / seconds / 1e9, 1),
                "share of its time that the roofline needs": round(done[kind].roofline_s / seconds, 3),
            }
            for kind, seconds in sorted(kinds.items(), key=lambda item: -item[1])
        },
        "the rest": {
            "ms": round(1e3 * (total - sum(kinds.values())), 1),
            "share of the time": round(1 - sum(kinds.values()) / total, 3),
        },
    }


def _gradient(network: nn.Module, images: Tensor) -> Tensor:
    point = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(point).sum(), point)
    return gradient


def _kind(layer: FrozenConv2d) -> str:
    height, width = layer.weight.shape[2:]
    stride = f" stride {layer.stride[0]}" if layer.stride != [1, 1] else ""
    return f"{height}x{width}{stride}"


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    begun = time.perf_counter()
    made = work()
    return made, time.perf_counter() - begun


def _matrix_rate() -> float:
    one, two = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    seconds = [_timed(lambda: one @ two)[1] for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    return 2 * SIDE**3 / statistics.median(seconds)


def _memory_rate() -> float:
    one, two, both = torch.rand(FLOATS), torch.rand(FLOATS), torch.empty(FLOATS)
    seconds = [_timed(lambda: torch.add(one, two, out=both))[1] for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    return 3 * 4 * FLOATS / statistics.median(seconds)


if __name__ == "__main__":
    main()
