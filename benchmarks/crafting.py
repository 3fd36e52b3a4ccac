"""Crafting the paper's six attacks: raygrid against the usual libraries and a textbook loop, at equal batch.

DenseNet-121 and Inception-v3 with one logit and random weights, which cost what trained ones do; float32, two threads.
The peers craft attack by attack through the network as it was trained (63 gradients per image); raygrid folds the
network, freezes its layers and shares the gradients that the attacks have in common (52). FGSM alone warms each of
them up. `frozen layers` measures these layers alone: one gradient of the folded network with and without them.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from common import add_to_result, compare, write_result
from torch import Tensor, nn

from raygrid.attacks import Crafter, freeze, loss_gradient
from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.models.numerics import set_numerics
from raygrid.spec import AttackSpec, attack_grid

ATTACKS = attack_grid((0.02, 0.04, 0.06))
SETTINGS = (("inception_v3", 96, 16), ("densenet121", 96, 16), ("inception_v3", 224, 8), ("densenet121", 224, 8))
THREADS = 2


def main() -> None:
    """Measure every network and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ablation-rounds", type=int, default=20)
    parser.add_argument("--ablation", action="store_true", help="measure the frozen layers alone; needs no peers")
    args = parser.parse_args()
    set_numerics(threads=THREADS)
    if not args.ablation:
        write_result("crafting", __doc__ or "", _against_peers(args.rounds))
    add_to_result("crafting", "frozen layers", _ablation(args.ablation_rounds))


def _against_peers(rounds: int) -> dict[str, Any]:
    """Return images per second of all six attacks, for each network and contender."""
    from peer_attacks import contenders  # `make peers` installs them

    result = {}
    for arch, side, batch in SETTINGS:
        print(f"{arch}, {side} px, batch {batch}")
        trained, images, labels = _network_and_batch(arch, side, batch)
        folded = fold(trained, images[:1])
        ours = images.contiguous(memory_format=torch.channels_last)
        short, whole = (
            contenders(trained, images, labels, attacks) | {"raygrid": partial(_craft, folded, ours, labels, attacks)}
            for attacks in (ATTACKS[:1], ATTACKS)
        )
        result[f"{arch}, {side} px, batch {batch}"] = compare(
            whole, rounds=rounds, reference="textbook loop", unit="images", warm_up=short
        )
    return result


def _ablation(rounds: int) -> dict[str, Any]:
    """Return gradients per second of the folded network with PyTorch's own layers and with frozen ones."""
    result = {}
    for arch, side, batch in SETTINGS[:2]:
        print(f"frozen layers: {arch}, {side} px, batch {batch}")
        trained, images, labels = _network_and_batch(arch, side, batch)
        images = images.contiguous(memory_format=torch.channels_last)
        plain = fold(trained, images[:1], device="cuda")  # folded as for a GPU, it keeps PyTorch's layers
        networks = {"folded": plain, "folded, frozen layers": fold(trained, images[:1])}
        result[f"{arch}, {side} px, batch {batch}"] = compare(
            {name: partial(_gradient, network, images, labels) for name, network in networks.items()},
            rounds=rounds,
            reference="folded",
            unit="gradients",
        )
    return result


def _network_and_batch(arch: str, side: int, batch: int) -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch, 3, side, side), generator=generator) * 2 - 1
    trained = freeze(build_classifier(arch, channels=3, num_outputs=1, seed=0))
    return trained.to(memory_format=torch.contiguous_format), images, torch.arange(batch).remainder(2)[:, None]


def _craft(network: nn.Module, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec]) -> int:
    for _ in Crafter(network).craft(images, labels, attacks):
        pass
    return len(images)


def _gradient(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    loss_gradient(network, images, labels)
    return len(images)


if __name__ == "__main__":
    main()
