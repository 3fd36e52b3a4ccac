"""Simulated studies with planted factor effects and random differences between surrogates and targets."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Model = tuple[str, str, str, int]  # architecture, initialisation, split, instance

NUM_PATIENTS = 50
CLEAN = 0.8
SPLITS = (("random", "d1"), ("random", "d2"), ("random", "d2_half"), ("pre", "d1"))


def simulated_frame(
    generator: np.random.Generator,
    *,
    instances: int = 3,
    planted: Mapping[str, float] | None = None,
    spread: float = 0.0,
    patients: float = 0.0,
) -> pd.DataFrame:
    """Return an AUC frame of one modality: relative AUC = 0.7 + planted effects + random surrogate and target effects.

    Args:
        instances: trainings of each of the eight families of models.
        planted: `epsilon` (0.02 to 0.04), `attack` (fgsm to pgd), `target`, `surrogate` (pre-trained), `both`,
            `architecture` (other), `data` (disjoint).
        spread: standard deviation of the surrogates' and of the targets' own effects.
        patients: standard error that the patients give the AUCs.
    """
    effect = {"epsilon": 0.0, "attack": 0.0, "target": 0.0, "surrogate": 0.0, "both": 0.0, "architecture": 0.0}
    effect |= {"data": 0.0, **(planted or {})}
    models = [(a, i, s, k) for a in "ab" for i, s in SPLITS for k in range(instances)]
    as_target, as_surrogate = (generator.normal(0, spread, len(models)) for _ in range(2))
    shared = generator.permutation(np.resize([1.0, -1.0], NUM_PATIENTS))  # all carry the same
    influence = shared / np.sqrt(np.sum(shared**2) * NUM_PATIENTS / (NUM_PATIENTS - 1)) * patients
    drift = generator.normal() * patients  # the patients that were drawn move all AUCs alike
    rows = [_row("clean", None, t, "", 0.0, CLEAN, np.zeros(NUM_PATIENTS)) for t in models]
    for (n, t), (m, s) in product(enumerate(models), enumerate(models)):
        if t == s:
            continue
        base = 0.7 + as_target[n] + as_surrogate[m] + drift / CLEAN
        base += effect["target"] * (t[1] == "pre") + effect["surrogate"] * (s[1] == "pre")
        base += effect["both"] * (t[1] == s[1] == "pre") + effect["architecture"] * (t[0] != s[0])
        base += effect["data"] * ({t[2], s[2]} == {"d1", "d2"} or (t[2], s[2]) == ("d2_half", "d1"))
        for attack, epsilon in product(("fgsm", "pgd"), (0.02, 0.04)):
            value = base + effect["attack"] * (attack == "pgd") + effect["epsilon"] * (epsilon == 0.04)
            rows.append(_row("adversarial", s, t, attack, epsilon, value * CLEAN, influence))
    return pd.DataFrame(rows)


def _row(
    condition: str,
    surrogate: Model | None,
    target: Model,
    attack: str,
    epsilon: float,
    auc: float,
    influence: NDArray[np.float64],
) -> dict[str, object]:
    row: dict[str, object] = {"modality": "eye", "condition": condition, "attack": attack, "epsilon": epsilon}
    for side, model in (("surrogate", surrogate), ("target", target)):
        arch, init, split, instance = model or ("", "", "", -1)
        row |= {side: "-".join(map(str, model)) if model else "", f"{side}_arch": arch, f"{side}_init": init}
        row |= {f"{side}_split": split, f"{side}_instance": instance, f"{side}_kind": "model" if model else ""}
    return row | {
        "white_box": False,
        "auc": auc,
        "influence": influence,
        "num_images": 200,
        "num_positive": 80,
    }
