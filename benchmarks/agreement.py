"""Agreement of raygrid's attacks with the usual libraries: pixels after FGSM, AUC under attack after PGD-20.

Two small networks learn phantom tissue patches. 240 other patches are attacked through one network and scored by both.
FGSM's pixels must agree, except for signs of gradients near zero. PGD amplifies rounding, so its pixels differ. The
white-box AUC must agree, and the transferred AUC must agree within the interval of the difference between both sets of
scores.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import write_result
from numpy.typing import NDArray
from peer_attacks import PEERS
from torch import Tensor, nn

from raygrid.analysis.auc import auc_with_influence, standard_error
from raygrid.attacks import Crafter, freeze
from raygrid.data.datasets import open_dataset
from raygrid.data.images.scale import to_unit_range
from raygrid.models.architectures import build_classifier
from raygrid.models.epoch import start, step
from raygrid.models.folding import fold
from raygrid.models.numerics import set_numerics
from raygrid.spec import AttackSpec, DatasetSpec, Recipe, attack_grid

NUM_TRAINING, NUM_TEST, STEPS, BATCH, SIDE = 600, 240, 240, 32, 48
FGSM, PGD = attack_grid((0.02,))
_SAME = 1e-5  # of [-1, 1]: libraries that work in [0, 1] round


def main() -> None:
    """Train, attack, compare, and write the result."""
    set_numerics(threads=2)
    images, labels, patients = _phantoms()
    surrogate, target = (
        _trained(images[:NUM_TRAINING], labels[:NUM_TRAINING], seed, arch)
        for seed, arch in ((0, "test_resnet"), (1, "test_efficientnet"))
    )
    shown, truth = to_unit_range(images[NUM_TRAINING:]), torch.tensor(labels[NUM_TRAINING:])
    folded = fold(surrogate, shown[:1])
    ours = dict(Crafter(folded).craft(shown, truth, (FGSM, PGD)))
    clean = _logits(surrogate, target, shown)
    result = {"clean AUC": dict(zip(("surrogate", "target"), _aucs(truth, clean, patients), strict=True))}
    for name, craft in PEERS.items():
        theirs = {attack: craft(surrogate, shown.contiguous(), truth, attack).detach() for attack in (FGSM, PGD)}
        result[name] = _compared(ours, theirs, surrogate, target, truth, patients)
        print(name, result[name], flush=True)
    write_result("agreement", __doc__ or "", result)


def _compared(
    ours: dict[AttackSpec, Tensor],
    theirs: dict[AttackSpec, Tensor],
    surrogate: nn.Module,
    target: nn.Module,
    truth: Tensor,
    patients: NDArray[np.intp],
) -> dict[str, float]:
    scores = np.concatenate([_logits(surrogate, target, ours[PGD]), _logits(surrogate, target, theirs[PGD])])
    estimate = auc_with_influence(truth.numpy(), scores, patients)
    white, transferred = (float(estimate.auc[k] - estimate.auc[k + 2]) for k in (0, 1))
    error = standard_error(estimate.influence[1] - estimate.influence[3])
    return {
        "FGSM, equal values, %": round(100 * float(((ours[FGSM] - theirs[FGSM]).abs() < _SAME).double().mean()), 3),
        "PGD-20, equal values, %": round(100 * float(((ours[PGD] - theirs[PGD]).abs() < _SAME).double().mean()), 3),
        "PGD-20, white-box AUC, ours": round(float(estimate.auc[0]), 4),
        "PGD-20, white-box AUC, difference": round(white, 5),
        "PGD-20, transferred AUC, ours": round(float(estimate.auc[1]), 4),
        "PGD-20, transferred AUC, difference": round(transferred, 5),
        "PGD-20, transferred AUC, half width of the difference's 95 % interval": round(1.96 * error, 5),
    }


def _phantoms() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.intp]]:
    """Return images and labels, and the test images' patients."""
    spec = DatasetSpec(loader="phantom_tissue", image_size=SIDE, channels=3, options={"patients": 400})
    dataset = open_dataset(spec, Path())
    index = dataset.index()
    rows = index.table.iloc[: NUM_TRAINING + NUM_TEST]
    images = np.stack([dataset.read(str(locator)) for locator in rows["locator"]])
    labels: NDArray[np.uint8] = rows[list(index.labels)].to_numpy(dtype=np.uint8)
    codes, _ = pd.factorize(rows["patient_id"].iloc[NUM_TRAINING:])
    return images, labels, codes


def _trained(images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int, arch: str) -> nn.Module:
    recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=2e-3)
    state = start(build_classifier(arch, channels=3, num_outputs=1, seed=seed), recipe)
    state.classifier.train()
    generator = np.random.default_rng(seed)
    for _ in range(STEPS):
        some = generator.choice(len(images), BATCH, replace=False)
        step(state, to_unit_range(images[some]), torch.from_numpy(labels[some]).float(), recipe)
    return freeze(state.classifier)


def _logits(surrogate: nn.Module, target: nn.Module, images: Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = torch.stack([surrogate(images), target(images)]).numpy()
    return logits


def _aucs(truth: Tensor, logits: NDArray[np.float32], patients: NDArray[np.intp]) -> list[float]:
    return [round(float(auc), 4) for auc in auc_with_influence(truth.numpy(), logits, patients).auc]


if __name__ == "__main__":
    main()
