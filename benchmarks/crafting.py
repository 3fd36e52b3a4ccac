"""What one gradient path shared between attacks, and folded batch normalisation, save when crafting.

The paper's six attacks (FGSM and PGD-20 at epsilon 0.02, 0.04, 0.06) through one surrogate: each alone through the
network as it was trained (63 gradients per image), each alone through the folded network, and all together as raygrid
makes them (52 gradients). One thread, random weights, which cost what trained ones do.
"""

from collections.abc import Sequence
from functools import partial

import torch
from common import compare, write_result
from torch import Tensor, nn

from raygrid.attacks import Crafter, freeze
from raygrid.folding import fold
from raygrid.models import build_classifier
from raygrid.spec import AttackSpec, attack_grid

ATTACKS = attack_grid((0.02, 0.04, 0.06))
NETWORKS = (("test_resnet", 40, 80), ("tf_efficientnet_lite0", 64, 16), ("densenet121", 96, 4))  # side, images


def main() -> None:
    """Measure every network and write the result."""
    torch.set_num_threads(1)
    result = {}
    for arch, side, num_images in NETWORKS:
        print(f"{arch}, {side} px, {num_images} images")
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((num_images, 3, side, side), generator=generator) * 2 - 1
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(num_images).remainder(2)[:, None]
        trained = freeze(build_classifier(arch, channels=3, num_outputs=1, seed=0))
        folded = fold(trained, images[:1])
        result[f"{arch}, {side} px"] = compare(
            {
                "each alone, as trained": partial(_alone, trained, images, labels),
                "each alone, folded": partial(_alone, folded, images, labels),
                "shared, folded (raygrid)": partial(_craft, folded, images, labels, ATTACKS),
            },
            rounds=5,
            reference="each alone, as trained",
            unit="images",
        )
    write_result("crafting", __doc__ or "", result)


def _alone(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    for attack in ATTACKS:
        _craft(network, images, labels, (attack,))
    return len(images)


def _craft(network: nn.Module, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec]) -> int:
    for _ in Crafter(network).craft(images, labels, attacks):
        pass
    return len(images)


if __name__ == "__main__":
    main()
