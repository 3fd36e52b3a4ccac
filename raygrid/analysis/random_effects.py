"""The variation of effects between trainings, with surrogates and targets as crossed random effects.

Each table has a row per pairing and case, with the columns target, surrogate, target_family and surrogate_family. A
family is all trainings of one cell of the zoo (architecture, initialisation, split).

Source: Owen 2007, Annals of Applied Statistics 1:386 (the pigeonhole bootstrap).
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from raygrid.analysis.auc import Floats

SIDES = ("target", "surrogate")
_DRAWS = 500


def fewest_instances(table: pd.DataFrame) -> int:
    """Return the number of trainings in the smallest family of targets or surrogates."""
    return min(
        int(table[[side, f"{side}_family"]].drop_duplicates().groupby(f"{side}_family").size().min()) for side in SIDES
    )


def freedom(table: pd.DataFrame, weight: Floats) -> float:
    """Return the degrees of freedom of the variation between trainings in an effect.

    A contrast of a few families rests on the trainings of those families, not on all.

    Args:
        weight: (n,) of each row in the effect.

    Source: Welch 1947, Biometrika 34:28, with the variance of each training's own effect taken as the same.
    """
    variances, squares = 0.0, 0.0
    for side in SIDES:
        models = table.assign(weight=weight).groupby([f"{side}_family", side])["weight"].sum().pow(2)
        of_family = models.groupby(level=0).agg(["sum", "size"])
        variances += float(of_family["sum"].sum())
        squares += float((of_family["sum"] ** 2 / (of_family["size"] - 1)).sum())
    return variances**2 / squares if squares else math.inf


def spread_of_draws(
    table: pd.DataFrame, outcome: Floats, design: Floats, contrasts: Floats, generator: np.random.Generator
) -> Floats:
    """Return the standard deviation of each contrast over draws of trainings; NaN if too few draws identify it."""
    drawn = np.stack([_drawn(table, side, generator) for side in SIDES])
    rank, found = np.linalg.matrix_rank(design), []
    for weight in drawn.prod(axis=0):
        root = np.sqrt(weight)[:, None]
        solution, _, own_rank, _ = np.linalg.lstsq(root * design, root[:, 0] * outcome, rcond=None)
        if own_rank == rank:  # else a factor has lost a level, and its effect is not in this draw
            found.append(contrasts @ solution)
    if len(found) < _DRAWS / 2:
        return np.full(len(contrasts), math.nan)
    return np.asarray(np.std(found, axis=0, ddof=1))


def _drawn(table: pd.DataFrame, side: str, generator: np.random.Generator) -> Floats:
    """Return how often each row's model was drawn, (draws, n), from the instances of its family, with replacement."""
    counts = np.zeros((_DRAWS, len(table)))
    for _, family in table.groupby(f"{side}_family")[side]:
        models = sorted(family.unique())
        draws = generator.multinomial(len(models), [1 / len(models)] * len(models), size=_DRAWS)
        for place, model in enumerate(models):
            counts[:, table[side] == model] = draws[:, [place]]
    return counts


def half_width_of_sum(parts: Sequence[tuple[float, float]]) -> float:
    """Return half the width of a 95 % interval whose error has independent parts: (standard error, freedom) of each.

    Source: Satterthwaite 1946, Biometrics Bulletin 2:110.
    """
    variance = sum(error**2 for error, _ in parts)
    squares = sum(error**4 / degrees for error, degrees in parts)
    return float(student.ppf(0.975, variance**2 / squares)) * math.sqrt(variance) if squares else 0.0
