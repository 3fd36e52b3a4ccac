"""Coverage of the intervals of factor effects, in simulated studies with random surrogates and targets.

There are eight kinds of model, each trained three times, 24 in all. Surrogates and targets have effects of their own
with a standard deviation of 0.05 of relative AUC; patients add an error of 0.01. Half of the studies are null, half
have planted effects. For each effect, the result states how often a 95 % interval misses the truth (nominal 5 %).
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process on each core does it

import numpy as np
import pandas as pd
from common import write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from simulated_studies import simulated_frame

from raygrid.analysis.effects import factor_effects
from raygrid.progress import Progress

NUM_STUDIES, SPREAD, PATIENTS = 2_000, 0.05, 0.01
PLANTED = {"epsilon": -0.1, "attack": 0.02, "target": -0.05, "surrogate": 0.03, "both": -0.2, "architecture": 0.08}


def main() -> None:
    """Simulate the studies and write the rates."""
    truth = {
        name: _effects(np.random.default_rng(0), planted) for name, planted in (("null", {}), ("planted", PLANTED))
    }
    found: dict[str, list[pd.Series]] = {"null": [], "planted": []}
    progress = Progress("studies", NUM_STUDIES)
    with ProcessPoolExecutor() as pool:
        for study, effects in enumerate(pool.map(_study, range(NUM_STUDIES))):
            name = ("null", "planted")[study % 2]
            expected = truth[name]["effect"].to_numpy()
            found[name].append((effects["low"] > expected) | (effects["high"] < expected))
            progress.advance(name)
    result: dict[str, Any] = {"studies": NUM_STUDIES}
    for name, misses in found.items():
        rates = pd.concat(misses, axis=1).mean(axis=1)
        labels = truth[name]["factor"] + ": " + truth[name]["to"]
        result[f"{name} studies, share of intervals that miss"] = dict(zip(labels, rates.round(4), strict=True))
    print(pd.DataFrame({k: v for k, v in result.items() if isinstance(v, dict)}).to_string())
    write_result("effects_coverage", __doc__ or "", result)


def _study(number: int) -> pd.DataFrame:
    planted = PLANTED if number % 2 else {}
    return _effects(np.random.default_rng(number + 1), planted, spread=SPREAD, patients=PATIENTS, seed=number)


def _effects(
    generator: np.random.Generator,
    planted: dict[str, float],
    *,
    seed: int = 0,
    spread: float = 0.0,
    patients: float = 0.0,
) -> pd.DataFrame:
    frame = simulated_frame(generator, planted=planted, spread=spread, patients=patients)
    return factor_effects(frame, seed=seed)


if __name__ == "__main__":
    main()
