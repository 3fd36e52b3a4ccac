"""One cell of a paper's table: which pairings it averages, and the average with its interval.

A cell averages the AUCs of its pairings, chosen by the protocol, and their influences; its interval thereby keeps the
correlation between pairings over the same patients. A cell that lacks a pairing has no number, only the counts of
present and expected pairings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from raygrid.analysis.auc import Floats, interval, mean_influence, ratio_influence, ratio_interval
from raygrid.analysis.frames import of_single_models
from raygrid.errors import DataError
from raygrid.hashing import digest
from raygrid.spec import ModelSpec, StudySpec

Instances = Literal["published", "all"]
Pair = tuple[ModelSpec | None, ModelSpec]  # (surrogate or None on clean images, target)
RowKey = tuple[Any, ...]  # condition, attack, surrogate, target, epsilon
Groups = list[list[Pair]]  # one list of instance pairs per architecture pair

LEARNED_BOUND = 0.6  # a model has learned if the lower bound of its clean AUC is above this
FACTORS = [
    "table",
    "modality",
    "condition",
    "attack",
    "epsilon",
    "target_init",
    "surrogate_init",
    "surrogate_split",
    "architecture",
]
CELL_COLUMNS = [
    *FACTORS,
    "auc",
    "auc_low",
    "auc_high",
    "relative_percent",
    "relative_low",
    "relative_high",
    "num_pairings",
    "num_expected",
    "num_architecture_pairs",
    "num_images",
    "num_patients",
    "signature",
    "unlearned",
]
INFLUENCES = ["influence", "relative_influence"]  # of every patient on auc and on relative_percent / 100; not printed


@dataclass(frozen=True)
class Estimate:
    value: float
    influence: Floats


@dataclass(frozen=True)
class Grid:
    """The AUC frame, indexed by model, with the expected models and attacks (name, epsilon)."""

    frame: pd.DataFrame
    targets: list[ModelSpec]
    row_of: dict[RowKey, int]
    models: dict[str, list[ModelSpec]]
    attacks: list[tuple[str, float]]
    unlearned: frozenset[ModelSpec]
    instances: Instances

    def attacks_at(self, epsilon: float) -> list[str]:
        return [name for name, budget in self.attacks if budget == rounded(epsilon)]

    def row(self, condition: str, attack: str, pair: Pair, epsilon: float) -> int | None:
        return self.row_of.get((condition, attack, *pair, rounded(epsilon)))

    def number(self, column: str, row: int) -> float:
        return float(self.frame[column].to_numpy()[row])

    def estimate(self, row: int) -> Estimate:
        influence = np.asarray(self.frame["influence"].to_numpy()[row], dtype=np.float64)
        return Estimate(self.number("auc", row), influence)

    def ratio(self, row: int) -> Estimate | None:
        """The relative AUC of a row; None if the target's clean AUC is missing."""
        clean_row = self.row("clean", "", (None, self.targets[row]), 0.0)
        if clean_row is None:
            return None
        attacked, clean = self.estimate(row), self.estimate(clean_row)
        influence = ratio_influence(attacked.value, attacked.influence, clean.value, clean.influence)
        return Estimate(attacked.value / clean.value, influence)

    def architectures(self, modality: str) -> list[str]:
        return list(dict.fromkeys(m.arch for m in self.models[modality]))

    def some(self, modality: str, arch: str, init: str, split: str) -> list[ModelSpec]:
        return [m for m in self.models[modality] if (m.arch, m.init, m.split) == (arch, init, split)]


def read_grid(auc: pd.DataFrame, study: StudySpec | None, instances: Instances) -> Grid:
    """Return the AUC frame, indexed by model; the study declares the expected models, else they are the frame's."""
    if instances not in ("published", "all"):
        raise DataError(f"instances is {instances!r}; expected 'published' or 'all'")
    frame = of_single_models(auc).reset_index(drop=True)  # the paper has neither ensembles nor external models
    targets, surrogates = _models_of(frame, "target"), _models_of(frame, "surrogate")
    if None in targets:
        raise DataError(f"row {targets.index(None)} of the AUC frame names no target")
    models, attacks = _expected(frame, study, [m for m in (*targets, *surrogates) if m is not None])
    bad = frame["condition"].eq("clean") & ~(frame["auc_low"] > LEARNED_BOUND)
    return Grid(
        frame=frame,
        targets=[t for t in targets if t is not None],
        row_of=_index_rows(frame, surrogates, targets),
        models=models,
        attacks=attacks,
        unlearned=frozenset(t for t, is_bad in zip(targets, bad, strict=True) if is_bad and t is not None),
        instances=instances,
    )


def _expected(
    frame: pd.DataFrame, study: StudySpec | None, seen: list[ModelSpec]
) -> tuple[dict[str, list[ModelSpec]], list[tuple[str, float]]]:
    """Return the expected models of every modality, and the expected attacks, each at its epsilons."""
    if study is not None:
        models = {m.name: list(study.models_of(m.name)) for m in study.studied if study.zoo_as_targets}
        attacks = [(a.name, a.epsilon) for a in study.transfer.attacks]
    else:
        models = {name: sorted({m for m in seen if m.modality == name}) for name in frame["modality"].unique()}
        attacked = frame[frame["condition"] != "clean"]
        attacks = list(zip(attacked["attack"], attacked["epsilon"], strict=True))
    return models, sorted({(name, rounded(epsilon)) for name, epsilon in attacks})


def _index_rows(
    frame: pd.DataFrame, surrogates: list[ModelSpec | None], targets: list[ModelSpec | None]
) -> dict[RowKey, int]:
    row_of: dict[RowKey, int] = {}
    finite = np.isfinite(frame["auc"].to_numpy(dtype=np.float64))
    columns = (frame["condition"], frame["attack"], surrogates, targets, frame["epsilon"])
    for row, (condition, attack, surrogate, target, epsilon) in enumerate(zip(*columns, strict=True)):
        key = (condition, attack, surrogate, target, rounded(epsilon))
        if key in row_of:
            raise DataError(f"the AUC frame holds {key} twice, in rows {row_of[key]} and {row}")
        if finite[row]:  # a row without a number counts as missing
            row_of[key] = row
    return row_of


def _models_of(frame: pd.DataFrame, side: str) -> list[ModelSpec | None]:
    """Return the model of every row; None on clean rows, which have no surrogate."""
    columns = [frame["modality"], *(frame[f"{side}_{c}"] for c in ("arch", "init", "split", "instance"))]
    known: dict[tuple[Any, ...], ModelSpec | None] = {}
    for key in (keys := list(zip(*columns, strict=True))):
        if key not in known:
            modality, arch, init, split, instance = key
            known[key] = (
                ModelSpec(modality=modality, arch=arch, init=init, split=split, instance=int(instance))
                if arch
                else None
            )
    return [known[key] for key in keys]


def rounded(epsilon: float) -> float:
    return round(float(epsilon), 8)  # undoes the rounding of a conversion to float32


def clean_targets(grid: Grid, modality: str, init: str) -> Groups:
    """Return the clean 'pairs' of every architecture: instance 0, or all instances."""
    groups: Groups = []
    for arch in grid.architectures(modality):
        models = grid.some(modality, arch, init, "d1")
        groups.append([(None, m) for m in models if grid.instances == "all" or m.instance == 0])
    return groups


def allowed_pairs(
    grid: Grid,
    modality: str,
    *,
    target_init: str,
    surrogate_init: str,
    surrogate_split: str,
    same: bool | None = None,
) -> Groups:
    """Return the allowed instance pairs of every architecture pair; targets are trained on d1.

    Source: docs/explanation/protocol.md, Pairings.
    """
    groups: Groups = []
    for target_arch in grid.architectures(modality):
        for surrogate_arch in grid.architectures(modality):
            if same is not None and same != (target_arch == surrogate_arch):
                continue
            targets = grid.some(modality, target_arch, target_init, "d1")
            surrogates = grid.some(modality, surrogate_arch, surrogate_init, surrogate_split)
            groups.append([(s, t) for t in targets for s in surrogates if _is_allowed(s, t, grid.instances)])
    return groups


def _is_allowed(surrogate: ModelSpec, target: ModelSpec, instances: Instances) -> bool:
    if instances == "all":
        return surrogate != target
    twin = 1 if surrogate.family == target.family else 0
    return target.instance == 0 and surrogate.instance == twin


def make_cell(grid: Grid, factors: dict[str, Any], groups: Groups, attacks: Sequence[str]) -> dict[str, Any]:
    """Return one cell: the mean over attacks and architecture pairs (`groups`) of the mean over instance pairs."""
    condition, epsilon = factors["condition"], factors.get("epsilon", 0.0)
    blank: dict[str, Any] = {"attack": "", "epsilon": 0.0}
    blank |= dict.fromkeys(("surrogate_init", "surrogate_split", "architecture"), "") | dict.fromkeys(INFLUENCES)
    pairs = [pair for group in groups for pair in group]
    models = sorted({m for pair in pairs for m in pair if m is not None})
    names = attacks or [""]
    rows = {p: [grid.row(condition, a, p, epsilon) for a in names] for p in pairs}
    num_expected = sum(max(1, len(group)) for group in groups)  # an architecture pair without models lacks one pairing
    num_pairings = sum(None not in found for found in rows.values())
    cell = blank | factors | dict.fromkeys(CELL_COLUMNS[len(FACTORS) : len(FACTORS) + 6], math.nan)
    cell |= {"num_pairings": num_pairings, "num_expected": num_expected, "num_architecture_pairs": len(groups)}
    cell |= _counts(grid, factors["modality"]) | {"signature": ""}
    cell["unlearned"] = "; ".join(f"{m.modality}/{m.name}" for m in models if m in grid.unlearned)
    if num_pairings < num_expected or not groups:
        return cell
    found = [[[rows[pair][k] for pair in group] for group in groups] for k in range(len(names))]
    by_group = [[row for row in group if row is not None] for per_attack in found for group in per_attack]
    return cell | _numbers(grid, by_group) | {"signature": _signature(grid, factors["modality"], by_group)}


def _numbers(grid: Grid, by_group: list[list[int]]) -> dict[str, Any]:
    """Return the numbers of a complete cell from the rows of its groups, one list per attack and architecture pair."""
    attacked = _nested_mean([[grid.estimate(row) for row in group] for group in by_group])
    first = by_group[0][0]
    num_positive = int(grid.number("num_positive", first))
    counts = (num_positive, int(grid.number("num_images", first)) - num_positive)
    low, high = interval(attacked.value, attacked.influence, degenerate_n=counts)
    numbers = {"auc": attacked.value, "auc_low": low, "auc_high": high, "influence": attacked.influence}
    if grid.frame["condition"].iat[first] == "clean":
        numbers["relative_influence"] = np.zeros_like(attacked.influence)
        return numbers | {"relative_percent": 100.0, "relative_low": 100.0, "relative_high": 100.0}
    ratios = [[grid.ratio(row) for row in group] for group in by_group]
    complete = [[ratio for ratio in group if ratio is not None] for group in ratios]
    if [len(group) for group in complete] != [len(group) for group in ratios]:
        return numbers  # a relative AUC needs the clean AUC of every target
    relative = _nested_mean(complete)
    low, high = ratio_interval(relative.value, relative.influence, degenerate_n=counts)
    return numbers | {
        "relative_percent": 100 * relative.value,
        "relative_low": 100 * low,
        "relative_high": 100 * high,
        "relative_influence": relative.influence,
    }


def _nested_mean(groups: list[list[Estimate]]) -> Estimate:
    means = [_mean(group) for group in groups]
    return _mean(means)


def _mean(estimates: list[Estimate]) -> Estimate:
    value = float(np.mean([e.value for e in estimates]))
    return Estimate(value, mean_influence(np.stack([e.influence for e in estimates])))


def _signature(grid: Grid, modality: str, by_group: list[list[int]]) -> str:
    rows = grid.frame.iloc[sorted({row for group in by_group for row in group})]
    models = sorted({*rows["surrogate_signature"], *rows["target_signature"]} - {""})
    return digest({"modality": modality, "models": models})


def _counts(grid: Grid, modality: str) -> dict[str, int]:
    here = grid.frame[grid.frame["modality"] == modality]
    return {name: int(here[name].max()) if len(here) else 0 for name in ("num_images", "num_patients")}
