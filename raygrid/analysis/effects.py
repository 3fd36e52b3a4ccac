"""The effect of each factor of a study on the damage: marginal effects with intervals, from the AUC frame.

A linear model is fitted to all black-box rows of a modality (surrogate and target are different models, adversarial
images). Its terms: perturbation degree, attack, initialisation of target, of surrogate and both together, parity of
data, of architecture and both together. An effect is the mean change of the fitted outcome if one factor changes from
one level to another and the others stay as they are in each row: a weighted sum of the rows, with known weights.

Two sources of uncertainty:
    patients   the weighted sum of the rows' influences (raygrid.analysis.auc); rows share their patients
    trainings  surrogates and targets are crossed random effects. If every family of models (architecture,
               initialisation, split) has at least three trainings, a pigeonhole bootstrap draws instances of each
               family, separately for surrogates and targets, with the same draw for all rows of a model, and refits
               (Owen 2007, Annals of Applied Statistics 1:386). With fewer trainings this variance is not identified,
               and effects are conditional on the models.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from raygrid.analysis.auc import Floats, effective_patients, half_width, ratio_influence, standard_error
from raygrid.analysis.frames import of_single_models
from raygrid.analysis.random_effects import fewest_instances, freedom, half_width_of_sum, spread_of_draws
from raygrid.errors import DataError
from raygrid.hashing import keyed_generator

Outcome = Literal["relative", "logit"]
OUTCOMES: tuple[Outcome, ...] = ("relative", "logit")

COLUMNS = ["modality", "factor", "from", "to", "outcome", "effect", "low", "high", "error_patients", "error_trainings"]
COLUMNS += ["num_rows", "conditional"]
FEWEST_INSTANCES = 3  # trainings of a family needed to estimate the variation between them
_SAME, _OTHER, _NESTED = "same", "disjoint", "overlapping"
_HALF, _FEW = "half as many, disjoint", "far fewer, disjoint"
_SIZES = {"d1": 1.0, "d2": 1.0, "d2_half": 0.5, "d1_tenth": 0.1}  # share of d1's images
_BINARY = {
    "target_pretrained": "target pre-trained",
    "surrogate_pretrained": "surrogate pre-trained",
    "other_architecture": "other architecture",
}


@dataclass(frozen=True)
class Effect:
    """A contrast: a signed sum of means of the fitted outcome, each mean over all rows with some factors set."""

    factor: str
    before: str
    after: str
    settings: tuple[tuple[int, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class _Rows:
    """The rows of one modality: factors, outcome (n,) and influences (n, patients)."""

    table: pd.DataFrame
    outcome: Floats
    influence: Floats


def factor_effects(auc: pd.DataFrame, outcome: Outcome = "relative", *, seed: int = 0) -> pd.DataFrame:
    """Return the effect of every factor in every modality (`COLUMNS`), with 95 % intervals.

    Args:
        auc: the AUC frame of `results/auc.parquet`.
        outcome: `relative` AUC, or `logit` of the AUC. An AUC of 0 or 1 has no logit: every AUC is first shrunk
            towards 1/2 by half an image, (k A + 1/2) / (k + 1) with k the smaller class.
        seed: of the bootstrap over trainings.

    `conditional` is True if the interval leaves out the variation between trainings.

    Raises DataError for an unknown outcome.
    """
    if outcome not in OUTCOMES:
        raise DataError(f"outcome is {outcome!r}; expected 'relative' or 'logit'")
    found: list[dict[str, Any]] = []
    for modality in auc["modality"].unique():
        rows = _rows_of(auc[auc["modality"] == modality], outcome)
        if len(rows.table):
            found += [{"modality": modality, "outcome": outcome, **e} for e in _effects_of(rows, str(modality), seed)]
    return pd.DataFrame(found, columns=COLUMNS)


def all_effects(auc: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return `factor_effects` on both outcomes, concatenated."""
    return pd.concat([factor_effects(auc, outcome, seed=seed) for outcome in OUTCOMES], ignore_index=True)


def _rows_of(auc: pd.DataFrame, outcome: Outcome) -> _Rows:
    clean = {r["target"]: r for r in auc[auc["condition"] == "clean"].to_dict("records")}
    models = of_single_models(auc)
    chosen = (models["condition"] == "adversarial") & ~models["white_box"] & models["target"].isin(list(clean))
    rows = models[chosen].reset_index(drop=True)
    made = [_outcome_of(row, clean[row["target"]], outcome) for row in rows.to_dict("records")]
    table = pd.DataFrame(
        {
            "epsilon": rows["epsilon"].round(8),
            "attack": rows["attack"],
            "target_pretrained": rows["target_init"] != "random",
            "surrogate_pretrained": rows["surrogate_init"] != "random",
            "data": [data_parity(*pair) for pair in zip(rows["target_split"], rows["surrogate_split"], strict=True)],
            "other_architecture": rows["target_arch"] != rows["surrogate_arch"],
            "target": rows["target"],
            "surrogate": rows["surrogate"],
            "target_family": _families(rows, "target"),
            "surrogate_family": _families(rows, "surrogate"),
        }
    )
    return _Rows(
        table, np.array([value for value, _ in made]), np.stack([i for _, i in made]) if made else np.empty((0, 0))
    )


def _outcome_of(row: Mapping[Any, Any], clean: Mapping[Any, Any], outcome: Outcome) -> tuple[float, Floats]:
    """Return the outcome of one row, and the influence of every patient on it."""
    own, influence = float(row["auc"]), np.asarray(row["influence"], dtype=np.float64)
    if outcome == "relative":
        base = float(clean["auc"])
        return own / base, ratio_influence(own, influence, base, np.asarray(clean["influence"], dtype=np.float64))
    fewer = min(int(row["num_positive"]), int(row["num_images"]) - int(row["num_positive"]))
    shrunk = (fewer * own + 0.5) / (fewer + 1)
    return math.log(shrunk / (1 - shrunk)), influence * fewer / (fewer + 1) / (shrunk * (1 - shrunk))


def data_parity(target: str, surrogate: str) -> str:
    """Return the parity of the training patients of a target and a surrogate, by the names of their splits."""
    if target == surrogate:
        return _SAME
    both = {target, surrogate}
    if "development" in both or both in ({"d2", "d2_half"}, {"d1", "d1_tenth"}):
        return _NESTED
    share = _SIZES[surrogate] / _SIZES[target]
    return _OTHER if share >= 1 else _HALF if share == 0.5 else _FEW


def _families(rows: pd.DataFrame, side: str) -> list[str]:
    columns = [rows[f"{side}_{name}"].astype(str) for name in ("arch", "init", "split")]
    return ["/".join(parts) for parts in zip(*columns, strict=True)]


def _effects_of(rows: _Rows, modality: str, seed: int) -> Iterator[dict[str, Any]]:
    design = _design(rows.table, rows.table)
    inverse = np.linalg.pinv(design)
    effects = [(effect, _contrast(rows.table, effect)) for effect in _wanted(rows.table)]
    effects = [(e, c) for e, c in effects if np.allclose(c @ inverse @ design, c, atol=1e-8)]  # else not estimable
    contrasts = np.stack([c for _, c in effects]) if effects else np.empty((0, design.shape[1]))
    fewest = fewest_instances(rows.table)
    identified = fewest >= FEWEST_INSTANCES
    between = np.zeros(len(effects))
    if identified:
        spread = spread_of_draws(
            rows.table, rows.outcome, design, contrasts, keyed_generator(seed, "effects", modality)
        )
        between = spread * math.sqrt(fewest / (fewest - 1))  # a draw of n from n varies too little by (n - 1) / n
        identified = bool(np.isfinite(between).all())
    for (effect, contrast), trainings in zip(effects, between, strict=True):
        weight = contrast @ inverse
        influence, value = weight @ rows.influence, float(weight @ rows.outcome)
        patients, reach = standard_error(influence), half_width(influence)
        if identified:
            parts = [(patients, effective_patients(influence) - 1), (trainings, freedom(rows.table, weight))]
            reach = max(reach, half_width_of_sum(parts))
        yield {
            "factor": effect.factor,
            "from": effect.before,
            "to": effect.after,
            "effect": value,
            "low": value - reach,
            "high": value + reach,
            "error_patients": patients,
            "error_trainings": float(trainings) if identified else math.nan,
            "num_rows": len(rows.table),
            "conditional": not identified,
        }


def _wanted(table: pd.DataFrame) -> Iterator[Effect]:
    """Yield the contrasts whose levels occur in the table, interactions last."""

    def simple(factor: str, column: str, before: Any, after: Any) -> Effect:
        return Effect(factor, _word(before), _word(after), ((1, {column: after}), (-1, {column: before})))

    epsilons, attacks = sorted(table["epsilon"].unique()), sorted(table["attack"].unique())
    for after in epsilons[1:]:
        yield simple("perturbation degree, ε", "epsilon", epsilons[0], after)
    for after in attacks[1:]:
        yield simple("attack", "attack", attacks[0], after)
    two = [c for c in _BINARY if table[c].nunique() == 2]
    for column in two:
        yield simple(_BINARY[column], column, False, True)
    others = [level for level in (_OTHER, _HALF, _FEW, _NESTED) if {_SAME, level} <= set(table["data"])]
    for after in others:
        yield simple("data of surrogate and target", "data", _SAME, after)
    if {"target_pretrained", "surrogate_pretrained"} <= set(two):
        names, levels = ("target_pretrained", "surrogate_pretrained"), ((False, True), (False, True))
        yield _interaction("both pre-trained, beyond each alone", names, levels)
    if "other_architecture" in two:
        for after in others:
            yield _interaction(
                f"other architecture and {after} data, beyond each alone",
                ("data", "other_architecture"),
                ((_SAME, after), (False, True)),
            )


def _interaction(factor: str, names: tuple[str, str], levels: tuple[tuple[Any, Any], tuple[Any, Any]]) -> Effect:
    """Return the difference of differences of two factors."""
    settings = [
        ((1 if i == j else -1), {names[0]: levels[0][i], names[1]: levels[1][j]}) for i in (0, 1) for j in (0, 1)
    ]
    return Effect(factor, "sum", "together", tuple(settings))


def _word(level: Any) -> str:
    if isinstance(level, bool):
        return "yes" if level else "no"
    return f"{level:g}" if isinstance(level, float) else str(level)


def _design(table: pd.DataFrame, levels_of: pd.DataFrame) -> Floats:
    """Return the design matrix, (n, columns): a constant, every factor, the named interactions.

    Args:
        table: the n rows.
        levels_of: the rows whose levels make the columns; the first level of each factor is the reference.
    """
    factors = ["epsilon", "attack", *_BINARY, "data"]
    dummies = {
        name: [np.asarray(table[name] == level, dtype=float) for level in sorted(levels_of[name].unique())[1:]]
        for name in factors
    }
    columns = [np.ones(len(table)), *(column for name in factors for column in dummies[name])]
    for one, two in (("target_pretrained", "surrogate_pretrained"), ("data", "other_architecture")):
        columns += [a * b for a in dummies[one] for b in dummies[two]]
    return np.stack(columns, axis=1)


def _contrast(table: pd.DataFrame, effect: Effect) -> Floats:
    parts = [sign * _design(table.assign(**values), table).mean(axis=0) for sign, values in effect.settings]
    return np.asarray(np.sum(parts, axis=0))
