"""One block of test images through one surrogate to every target, without Ray.

Each attack is crafted once, and every target scores it while it is in device memory. Adversarial images never leave
`score_attacked`; their hashes do (docs/explanation/design.md, invariant 1).
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.attacks import Bfloat16, Crafter, Obstacles, control, shuffles
from raygrid.attacks.perceptibility import perceptibility
from raygrid.data.images.scale import round_towards, to_unit_range
from raygrid.errors import DataError, RaygridError
from raygrid.spec import AttackSpec, Case, TransferSpec
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
        unmoved: number of images that an attack left as they were, by the attack's key: `images`, those among them with
            a `zero_gradient` or a `not_finite_gradient`, and, if a target receives whole grey levels, the images that
            reach it unchanged (`in_levels`).
        not_finite_gradients: number of images, moved or not, with non-finite values in a gradient, by
            the attack's key.
        notes: sentences about attacks of other packages that seem not to have worked.
        failed: the error of each target that could not answer, by its position; its logits are NaN.
    """

    cases: list[Case]
    logits: NDArray[np.float32]
    perceptibility: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    adversarial_sha256: dict[str, str] = field(default_factory=dict)
    num_gradients: int = 0
    num_zero_gradients: int = 0
    unmoved: dict[str, dict[str, int]] = field(default_factory=dict)
    not_finite_gradients: dict[str, int] = field(default_factory=dict)
    bfloat16_change: float = 0.0
    notes: list[str] = field(default_factory=list)
    failed: dict[int, RaygridError] = field(default_factory=dict)


def score_clean(
    targets: Iterable[nn.Module],
    block: SampleBatch,
    transfer: TransferSpec,
    *,
    device: str,
    target_names: Sequence[str] = (),
) -> BlockScores:
    """Return every target's logits of the clean images.

    Args:
        target_names: names of the targets, for errors.

    Raises DataError, with the target and the image, if a logit is not finite.
    """
    images, failed = to_unit_range(block.images, device), dict[int, RaygridError]()
    batches = _Batches([images], ["clean"], block, target_names)
    logits = _score(_in_precision(targets, transfer), batches, failed)
    scores = BlockScores([Case("clean", None)], logits, failed=failed)
    if transfer.scoring == "bfloat16":
        change = np.abs(logits - _score(targets, batches, failed))
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
    surrogate_name: str = "",
    target_names: Sequence[str] = (),
    trained: Callable[[], nn.Module] | None = None,
) -> BlockScores:
    """Return every target's logits of the adversarial images and of their controls.

    Args:
        targets: iterated over once per attack, or once in all if `at_once`.
        at_once: keep the images of all attacks on the device until the last is crafted, for targets that take turns on
            it. The scores are the same.
        in_levels: positions of the targets that receive whole grey levels: their images are rounded towards the clean
            ones, inside the budget.
        surrogate_name, target_names: for errors.
        trained: opens the surrogate as it was trained, on the device, for plug-ins that need it.

    Raises DataError, with the network, the attack and the image, if an adversarial image or a logit is not finite.
    """
    images = to_unit_range(block.images, device)
    labels = torch.from_numpy(block.labels).to(device)
    permutations = _permutations(block.image_ids, images[0], transfer, seed)
    crafter = Crafter(surrogate, bfloat16=transfer.crafting == "bfloat16", name=surrogate_name, trained=trained)
    scores = BlockScores(cases=[], logits=np.empty(0, np.float32))
    unscored: list[Tensor] = []
    logits: list[NDArray[np.float32]] = []
    perceptibilities: list[NDArray[np.float32]] = []
    for attack, adversarial in crafter.craft(images, labels, transfer.attacks, seed=seed, image_ids=block.image_ids):
        scores.cases += [Case("adversarial", attack), Case("control", attack)]
        unscored += [adversarial, control(images, adversarial, permutations)]
        perceptibilities += [perceptibility(images, changed).float().cpu().numpy() for changed in unscored[-2:]]
        _count(scores, attack, crafter.obstacles[attack])
        if in_levels:
            reached = round_towards(images, adversarial).eq(images).all(dim=(1, 2, 3))
            scores.unmoved[attack.key]["in_levels"] = int(reached.sum())
        if not at_once or len(scores.cases) == 2 * len(transfer.attacks):
            rounded = [round_towards(images, changed) for changed in unscored] if in_levels else []
            names = [_words_of(case) for case in scores.cases[-len(unscored) :]]
            batches = _Batches(unscored, names, block, target_names, rounded, in_levels)
            logits.append(_score(_in_precision(targets, transfer), batches, scores.failed))
            unscored.clear()
        scores.adversarial_sha256[attack.key] = hashlib.sha256(
            adversarial.cpu().contiguous().numpy().tobytes()
        ).hexdigest()
    scores.logits = np.concatenate(logits, axis=1)
    scores.perceptibility = np.stack(perceptibilities)
    scores.notes = crafter.notes
    scores.num_gradients, scores.num_zero_gradients = crafter.num_gradients, int(crafter.zero_gradients.sum())
    return scores


def _permutations(image_ids: Sequence[str], image: Tensor, transfer: TransferSpec, seed: int) -> Tensor:
    """Return the permutation of each image's places, (images, places), on the image's device."""
    num_places = image.numel() if transfer.shuffle == "flat" else image[0].numel()
    return shuffles(seed, image_ids, num_places).to(image.device)


def _count(scores: BlockScores, attack: AttackSpec, obstacles: Obstacles) -> None:
    """Add the images that an attack left as they were, and the reasons."""
    unmoved = obstacles.unmoved
    scores.unmoved[attack.key] = {
        "images": int(unmoved.sum()),
        "zero_gradient": int((unmoved & obstacles.zero_gradient).sum()),
        "not_finite_gradient": int((unmoved & obstacles.not_finite_gradient).sum()),
    }
    scores.not_finite_gradients[attack.key] = int(obstacles.not_finite_gradient.sum())


def _words_of(case: Case) -> str:
    return "clean" if case.attack is None else f"{case.condition}, {case.attack.key}"


@dataclass(frozen=True)
class _Batches:
    """Batches of images, exact and in whole grey levels, and who answers what.

    Attributes:
        cases: condition and attack of each batch, in words.
        block: the clean images.
        target_names: names of the targets; positions name them if there are none.
        in_levels: positions of the targets that receive whole grey levels.
    """

    exact: Sequence[Tensor]
    cases: Sequence[str]
    block: SampleBatch
    target_names: Sequence[str] = ()
    rounded: Sequence[Tensor] = ()
    in_levels: Collection[int] = ()

    @property
    def num_outputs(self) -> int:
        """Number of labels."""
        return int(self.block.labels.shape[1])

    def for_target(self, position: int) -> Sequence[Tensor]:
        """Return the batches for the target at a position."""
        return self.rounded if position in self.in_levels else self.exact

    def require_finite(self, row: Tensor, position: int) -> None:
        """Raise DataError, with target, image and case, if one of a target's logits (batches, images, outputs) is not
        finite.
        """
        damaged = (~torch.isfinite(row)).any(dim=2).nonzero()
        if len(damaged):
            case, image = (int(k) for k in damaged[0])
            target = repr(self.target_names[position]) if self.target_names else f"number {position}"
            raise DataError(
                f"target {target} gave a non-finite logit for image {self.block.image_ids[image]!r} "
                f"({self.cases[case]}), in all for {len(damaged)} of {row.shape[0] * row.shape[1]} images; check its "
                "weights"
            )


def _score(targets: Iterable[nn.Module], images: _Batches, failed: dict[int, RaygridError]) -> NDArray[np.float32]:
    """Return logits (targets, batches, images, outputs); a target scores all batches before the next is fetched.

    Targets in `failed` are skipped. A target that raises a RaygridError is added to `failed`; the others continue.
    """
    rows = []
    for position, target in enumerate(targets):
        batches = images.for_target(position)
        row = torch.full((len(batches), len(batches[0]), images.num_outputs), torch.nan)
        if position not in failed:
            try:
                with torch.inference_mode():
                    row = torch.stack([target(batch).float().cpu() for batch in batches])
            except RaygridError as error:
                failed[position] = error
            else:
                images.require_finite(row, position)
        rows.append(row)
    return torch.stack(rows).numpy()
