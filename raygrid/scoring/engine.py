"""One block of test images through one surrogate to every target, without Ray.

Each attack is crafted once, and every target scores it while it is in device memory. Adversarial images never leave
`score_attacked`; their hashes do (docs/explanation/design.md, invariant 1).
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.attacks import Bfloat16, Crafter, control, shuffles
from raygrid.attacks.perceptibility import perceptibility
from raygrid.data.images.scale import round_towards, to_unit_range
from raygrid.errors import DataError, RaygridError
from raygrid.spec import Case, TransferSpec
from raygrid.store.samples import SampleBatch


@dataclass
class BlockScores:
    """The scores of one block, and the facts about its attacks.

    Attributes:
        cases: condition and attack of each batch, in the order of the logits' second axis.
        logits: (targets, cases, images, outputs) float32.
        adversarial_sha256: hash of each adversarial batch, by the attack's key; equal whenever the same study runs on
            the same kind of device.
        num_gradients: gradient evaluations per image.
        perceptibility: (cases, images, measures) float32: how visible each change is; empty for clean images.
        bfloat16_change: largest change of a clean logit by scoring in bfloat16; 0 where float32 scores.
        num_zero_gradients: images that no attack can move, because their first gradient is zero everywhere.
        failed: the error of each target that could not answer, by its position; its logits are NaN.
    """

    cases: list[Case]
    logits: NDArray[np.float32]
    perceptibility: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    adversarial_sha256: dict[str, str] = field(default_factory=dict)
    num_gradients: int = 0
    num_zero_gradients: int = 0
    bfloat16_change: float = 0.0
    failed: dict[int, RaygridError] = field(default_factory=dict)


def score_clean(
    targets: Iterable[nn.Module], block: SampleBatch, transfer: TransferSpec, *, device: str
) -> BlockScores:
    """Return every target's logits of the clean images. Raises DataError if a logit is not finite."""
    images, failed = to_unit_range(block.images, device), dict[int, RaygridError]()
    logits = _score(_in_precision(targets, transfer), _Batches([images]), block.labels.shape[1], failed)
    scores = BlockScores([Case("clean", None)], logits, failed=failed)
    if transfer.scoring == "bfloat16":
        change = np.abs(logits - _score(targets, _Batches([images]), block.labels.shape[1], failed))
        scores.bfloat16_change = float(np.nan_to_num(change).max())  # NaN of targets that could not answer
    return scores


def _in_precision(targets: Iterable[nn.Module], transfer: TransferSpec) -> Iterator[nn.Module]:
    """Yield the targets in the precision that the study scores in."""
    for target in targets:
        yield Bfloat16(target).eval() if transfer.scoring == "bfloat16" else target


def score_attacked(
    surrogate: nn.Module,
    targets: Iterable[nn.Module],
    block: SampleBatch,
    transfer: TransferSpec,
    *,
    seed: int,
    device: str,
    at_once: bool = False,
    in_levels: Collection[int] = (),
) -> BlockScores:
    """Return every target's logits of the adversarial images and of their controls.

    Args:
        targets: iterated over once per attack, or once in all if `at_once`.
        at_once: keep the images of all attacks on the device until the last is crafted, for targets that take turns on
            it. The scores are the same.
        in_levels: positions of the targets that receive whole grey levels: their images are rounded towards the clean
            ones, inside the budget.

    Raises DataError if a logit is not finite.
    """
    images = to_unit_range(block.images, device)
    labels = torch.from_numpy(block.labels).to(device)
    permutations = _permutations(block.image_ids, images[0], transfer, seed)
    crafter = Crafter(surrogate, bfloat16=transfer.crafting == "bfloat16")
    scores = BlockScores(cases=[], logits=np.empty(0, np.float32))
    unscored: list[Tensor] = []
    logits: list[NDArray[np.float32]] = []
    perceptibilities: list[NDArray[np.float32]] = []
    for attack, adversarial in crafter.craft(images, labels, transfer.attacks, seed=seed, image_ids=block.image_ids):
        scores.cases += [Case("adversarial", attack), Case("control", attack)]
        unscored += [adversarial, control(images, adversarial, permutations)]
        perceptibilities += [perceptibility(images, changed).float().cpu().numpy() for changed in unscored[-2:]]
        if not at_once or len(scores.cases) == 2 * len(transfer.attacks):
            rounded = [round_towards(images, changed) for changed in unscored] if in_levels else []
            batches = _Batches(unscored, rounded, in_levels)
            logits.append(_score(_in_precision(targets, transfer), batches, block.labels.shape[1], scores.failed))
            unscored.clear()
        scores.adversarial_sha256[attack.key] = hashlib.sha256(
            adversarial.cpu().contiguous().numpy().tobytes()
        ).hexdigest()
    scores.logits = np.concatenate(logits, axis=1)
    scores.perceptibility = np.stack(perceptibilities)
    scores.num_gradients, scores.num_zero_gradients = crafter.num_gradients, int(crafter.zero_gradients.sum())
    return scores


def _permutations(image_ids: Sequence[str], image: Tensor, transfer: TransferSpec, seed: int) -> Tensor:
    """Return the permutation of each image's places, (images, places), on the image's device."""
    num_places = image.numel() if transfer.shuffle == "flat" else image[0].numel()
    return shuffles(seed, image_ids, num_places).to(image.device)


@dataclass(frozen=True)
class _Batches:
    """Batches of images, exact and in whole grey levels, and the positions of the targets that receive the latter."""

    exact: Sequence[Tensor]
    rounded: Sequence[Tensor] = ()
    in_levels: Collection[int] = ()

    def for_target(self, position: int) -> Sequence[Tensor]:
        """Return the batches for the target at a position."""
        return self.rounded if position in self.in_levels else self.exact


def _score(
    targets: Iterable[nn.Module], images: _Batches, num_outputs: int, failed: dict[int, RaygridError]
) -> NDArray[np.float32]:
    """Return logits (targets, batches, images, outputs); a target scores all batches before the next is fetched.

    Targets in `failed` are skipped. A target that raises a RaygridError is added to `failed`; the others continue.
    """
    rows = []
    for position, target in enumerate(targets):
        batches = images.for_target(position)
        row = torch.full((len(batches), len(batches[0]), num_outputs), torch.nan)
        if position not in failed:
            try:
                with torch.inference_mode():
                    row = torch.stack([target(batch).float().cpu() for batch in batches])
            except RaygridError as error:
                failed[position] = error
            else:
                if not torch.isfinite(row).all():
                    raise DataError(f"target number {position} gave a logit that is not finite; check its weights")
        rows.append(row)
    return torch.stack(rows).numpy()
