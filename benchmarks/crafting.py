"""Crafting the paper's six attacks: raygrid against the usual libraries and a textbook loop, at equal batch.

DenseNet-121 and Inception-v3 with one logit and random weights, which cost what trained ones do; float32, two threads.
The peers craft attack by attack through the network as it was trained (63 gradients per image); raygrid folds and packs
the network and shares what the attacks have in common (52). FGSM alone warms each of them up.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from common import compare, write_result
from peer_attacks import contenders
from torch import Tensor, nn

from raygrid.attacks import Crafter, freeze
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
    rounds = parser.parse_args().rounds
    set_numerics(threads=THREADS)
    result = {}
    for arch, side, batch in SETTINGS:
        print(f"{arch}, {side} px, batch {batch}")
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((batch, 3, side, side), generator=generator) * 2 - 1
        labels = torch.arange(batch).remainder(2)[:, None]
        trained = freeze(build_classifier(arch, channels=3, num_outputs=1, seed=0)).to(
            memory_format=torch.contiguous_format
        )
        folded = fold(trained, images[:1])
        ours = images.contiguous(memory_format=torch.channels_last)
        short, whole = (
            contenders(trained, images, labels, attacks) | {"raygrid": partial(_craft, folded, ours, labels, attacks)}
            for attacks in (ATTACKS[:1], ATTACKS)
        )
        result[f"{arch}, {side} px, batch {batch}"] = compare(
            whole, rounds=rounds, reference="textbook loop", unit="images", warm_up=short
        )
    write_result("crafting", __doc__ or "", result)


def _craft(network: nn.Module, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec]) -> int:
    for _ in Crafter(network).craft(images, labels, attacks):
        pass
    return len(images)


if __name__ == "__main__":
    main()
