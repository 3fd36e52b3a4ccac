"""One block of test images through one surrogate to every target, without Ray.

Each attack is crafted once and every target scores it while it is in device memory: adversarial images never leave
this function (docs/design.md, invariant 1). Only their hashes do.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.attacks import Bfloat16, Crafter, control, shuffles, to_unit_range
from raygrid.errors import DataError
from raygrid.perceptibility import perceptibility
from raygrid.samples import SampleBatch
from raygrid.spec import Case, TransferSpec


@dataclass
class BlockScores:
    """What one block gave.

    Attributes:
        cases: what was done to the images, in the order of the logits' second axis.
        logits: (targets, cases, images, outputs) float32.
        adversarial_sha256: hash of each adversarial batch, by `<attack>@<epsilon>`; the same study on the same kind of
            device must give the same.
        num_gradients: gradient evaluations per image.
        perceptibility: (cases, images, measures) float32: how visible each change is; empty for clean images.
        bfloat16_change: largest change of a clean logit by scoring in bfloat16; 0 where float32 scores.
        num_zero_gradients: images that the attack could not move, as their first gradient was zero everywhere.
    """

    cases: list[Case]
    logits: NDArray[np.float32]
    perceptibility: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    adversarial_sha256: dict[str, str] = field(default_factory=dict)
    num_gradients: int = 0
    num_zero_gradients: int = 0
    bfloat16_change: float = 0.0


def score_clean(
    targets: Sequence[nn.Module], block: SampleBatch, transfer: TransferSpec, *, device: str
) -> BlockScores:
    """Return every target's logits of the images as they are. Raises DataError if a logit is not finite."""
    images = to_unit_range(block.images, device)
    logits = _score(scored_as(targets, transfer), images)
    scores = BlockScores([Case("clean", None)], logits[:, None])
    if transfer.scoring == "bfloat16":
        scores.bfloat16_change = float(np.abs(logits - _score(targets, images)).max())
    return scores


def scored_as(targets: Sequence[nn.Module], transfer: TransferSpec) -> Sequence[nn.Module]:
    """Return the targets in the precision that the study scores in."""
    return [Bfloat16(target).eval() for target in targets] if transfer.scoring == "bfloat16" else targets


def score_attacked(
    surrogate: nn.Module,
    targets: Sequence[nn.Module],
    block: SampleBatch,
    transfer: TransferSpec,
    *,
    seed: int,
    device: str,
) -> BlockScores:
    """Return every target's logits of the adversarial images and of their controls.

    Raises DataError if a logit is not finite.
    """
    images = to_unit_range(block.images, device)
    labels = torch.from_numpy(block.labels).to(device)
    num_places = images[0].numel() if transfer.shuffle == "flat" else images[0, 0].numel()
    permutations = shuffles(seed, block.image_ids, num_places).to(device)
    crafter = Crafter(surrogate, bfloat16=transfer.crafting == "bfloat16")
    targets = scored_as(targets, transfer)
    cases: list[Case] = []
    logits: list[NDArray[np.float32]] = []
    visible: list[NDArray[np.float32]] = []
    hashes: dict[str, str] = {}
    for attack, adversarial in crafter.craft(images, labels, transfer.attacks, seed=seed, image_ids=block.image_ids):
        cases += [Case("adversarial", attack), Case("control", attack)]
        for changed in (adversarial, control(images, adversarial, permutations)):
            logits.append(_score(targets, changed))
            visible.append(perceptibility(images, changed).float().cpu().numpy())
        hashes[attack.key] = hashlib.sha256(adversarial.cpu().contiguous().numpy().tobytes()).hexdigest()
    return BlockScores(
        cases=cases,
        logits=np.stack(logits, axis=1),
        perceptibility=np.stack(visible),
        adversarial_sha256=hashes,
        num_gradients=crafter.num_gradients,
        num_zero_gradients=int(crafter.zero_gradients.sum()),
    )


def _score(targets: Sequence[nn.Module], images: Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        rows = [target(images).float().cpu() for target in targets]
    logits: NDArray[np.float32] = torch.stack(rows).numpy()
    if not np.isfinite(logits).all():
        raise DataError(f"target number {int(np.argwhere(~np.isfinite(logits))[0][0])} gave a logit that is not finite")
    return logits
