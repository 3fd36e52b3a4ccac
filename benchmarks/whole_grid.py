"""The transfer stage of one surrogate against twelve targets: raygrid, the published way, and crafting once plainly.

Twelve EfficientNet-Lite at 64 pixels, alternately -Lite0 and -Lite1, the paper's six attacks and their controls, 16
images, float32, one thread. A grid of twelve surrogates is twelve times this work for each contender, so the ratios are
those of the whole grid.

published:   torchattacks crafts the six attacks anew for every pairing, and the target scores them and their shuffled
             copies (the perturbation is reused for the control), as in the paper's code;
craft once:  torchattacks crafts the same six attacks once; every target scores them while they are in memory;
raygrid:     the engine of the transfer stage: folded networks, shared gradients, every target in one pass; it also
             hashes the adversarial images and measures their visibility.
"""

from functools import partial

import numpy as np
import torch
from common import compare, write_result
from peer_attacks import with_torchattacks
from torch import Tensor, nn

from raygrid.attacks import control, freeze, shuffles
from raygrid.data.images.scale import to_unit_range
from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.models.numerics import set_numerics
from raygrid.scoring.engine import score_attacked
from raygrid.spec import TransferSpec, attack_grid
from raygrid.store.samples import SampleBatch

ARCHITECTURES, SIDE, NUM_IMAGES, NUM_TARGETS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1"), 64, 16, 12
TRANSFER = TransferSpec(attacks=attack_grid((0.02, 0.04, 0.06)))


def main() -> None:
    """Measure the three ways and write the result."""
    set_numerics(threads=1)
    trained = [
        freeze(build_classifier(ARCHITECTURES[k % 2], channels=3, num_outputs=1, seed=k)).to(
            memory_format=torch.contiguous_format
        )
        for k in range(NUM_TARGETS)
    ]
    folded = [fold(network, torch.zeros(1, 3, SIDE, SIDE)) for network in trained]
    block = _block()
    result = compare(
        {
            "published": partial(_published, trained, block),
            "craft once": partial(_craft_once, trained, block),
            "raygrid": partial(_raygrid, folded, block),
        },
        rounds=3,
        reference="published",
        unit="images",
    )
    write_result("whole_grid", __doc__ or "", result)


def _published(networks: list[nn.Module], block: SampleBatch) -> int:
    for target in networks:
        _craft_once([networks[0], target], block, targets=[target])
    return len(block)


def _craft_once(networks: list[nn.Module], block: SampleBatch, targets: list[nn.Module] | None = None) -> int:
    images, labels = _tensors(block)
    permutations = shuffles(0, block.image_ids, images[0].numel())
    for attack in TRANSFER.attacks:
        adversarial = with_torchattacks(networks[0], images, labels, attack)
        for changed in (adversarial, control(images, adversarial, permutations)):
            with torch.no_grad():
                for target in targets or networks:
                    target(changed)
    return len(block)


def _raygrid(networks: list[nn.Module], block: SampleBatch) -> int:
    score_attacked(networks[0], networks, block, TRANSFER, seed=0, device="cpu")
    return len(block)


def _tensors(block: SampleBatch) -> tuple[Tensor, Tensor]:
    return to_unit_range(block.images).contiguous(), torch.from_numpy(block.labels)


def _block() -> SampleBatch:
    generator = np.random.default_rng(0)
    ids = tuple(f"i{k}" for k in range(NUM_IMAGES))
    images = generator.integers(0, 256, (NUM_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    return SampleBatch(ids, ids, (np.arange(NUM_IMAGES) % 2).astype(np.uint8)[:, None], images)


if __name__ == "__main__":
    main()
