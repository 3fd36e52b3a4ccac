"""Scoring targets, forward passes alone: raygrid against a plain loop, at equal batch.

The plain loop is the network as it was trained, in evaluation mode under `torch.no_grad`. raygrid folds it, freezes its
layers and scores in float32 (the default) or bfloat16. Random weights; two threads. `largest change of a logit`
compares with the plain loop, in units of the logits' standard deviation over the batch. The rate of matrix products in
both precisions bounds the gain of bfloat16 on the processor.
"""

import argparse
import time
from functools import partial
from typing import Any

import torch
from common import compare, write_result
from torch import Tensor, nn

from raygrid.attacks import Bfloat16, freeze
from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.models.numerics import set_numerics

SETTINGS = (
    ("densenet121", 96, 16),
    ("inception_v3", 96, 16),
    ("densenet121", 224, 8),
    ("inception_v3", 224, 8),
    ("tf_efficientnet_lite0", 96, 64),
)
THREADS, PASSES = 2, 5


def main() -> None:
    """Measure every network and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    set_numerics(threads=THREADS)
    rates = {str(dtype).removeprefix("torch."): _product_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    result: dict[str, Any] = {"matrix products, GFLOP per second": rates}
    print(result)
    for arch, side, batch in SETTINGS:
        name = f"{arch}, {side} px, batch {batch}"
        print(name)
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((batch, 3, side, side), generator=generator) * 2 - 1
        classifier = build_classifier(arch, channels=3, num_outputs=14, seed=0)
        trained = freeze(classifier).to(memory_format=torch.contiguous_format)
        folded = fold(trained, images[:1])
        ours = images.contiguous(memory_format=torch.channels_last)
        rounded = Bfloat16(folded).eval()
        result[name] = compare(
            {
                "plain loop": partial(_plain, trained, images),
                "raygrid": partial(_score, folded, ours),
                "raygrid, bfloat16": partial(_score, rounded, ours),
            },
            rounds=rounds,
            reference="plain loop",
            unit="images",
        )
        with torch.inference_mode():
            exact = trained(images)
            for which, network in (("raygrid", folded), ("raygrid, bfloat16", rounded)):
                change = float((network(ours) - exact).abs().max() / exact.std())
                result[name][which]["largest change of a logit"] = round(change, 6)
    write_result("scoring", __doc__ or "", result)


def _product_rate(dtype: torch.dtype) -> float:
    side, repeats = 2048, 10
    factor = torch.randn(side, side).to(dtype)
    factor @ factor
    begun = time.perf_counter()
    for _ in range(repeats):
        factor @ factor
    return round(2 * side**3 * repeats / (time.perf_counter() - begun) / 1e9, 1)


def _plain(network: nn.Module, images: Tensor) -> int:
    with torch.no_grad():
        for _ in range(PASSES):
            network(images)
    return PASSES * len(images)


def _score(network: nn.Module, images: Tensor) -> int:
    with torch.inference_mode():
        for _ in range(PASSES):
            network(images)
    return PASSES * len(images)


if __name__ == "__main__":
    main()
