"""The paper's Tables 1 to 3 from the AUC frame (`results/auc.parquet`), as long frames of cells.

Their columns are the printed `CELL_COLUMNS`, then `INFLUENCES`, which give contrasts of cells their intervals.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from raygrid.analysis.frames import of_zoo
from raygrid.analysis.tables.cells import (
    CELL_COLUMNS,
    INFLUENCES,
    LEARNED_BOUND,
    Grid,
    Groups,
    Instances,
    allowed_pairs,
    clean_targets,
    make_cell,
    read_grid,
    rounded,
)
from raygrid.errors import DataError
from raygrid.spec import SPLITS, StudySpec
from raygrid.store.query_budget import NotAsked

PAPER_EPSILON = 0.02  # of Tables 2 and 3; docs/explanation/protocol.md, Experiments


def paper_tables(
    auc: pd.DataFrame,
    *,
    study: StudySpec | None = None,
    instances: Instances = "published",
    reference_epsilon: float | None = None,
) -> dict[int, pd.DataFrame]:
    """Return the cells of Tables 1 to 3, by number.

    Args:
        auc: the AUC frame, one row per (modality, condition, surrogate, target, attack, epsilon).
        study: declares the expected models and attacks; without it, they are those that occur in the frame.
        instances: "published" pairs instances as in the paper, "all" averages over all allowed instance pairs.
        reference_epsilon: of Tables 2 and 3; by default 0.02, or the smallest of a study without it.

    Source: paper, sections 4.1 to 4.3; docs/explanation/protocol.md, Experiments and Pairings.
    """
    grid = read_grid(auc, study, instances)
    return {1: _table1(grid), 2: _table2(grid, reference_epsilon), 3: _table3(grid, reference_epsilon)}


def table1(auc: pd.DataFrame, *, study: StudySpec | None = None, instances: Instances = "published") -> pd.DataFrame:
    """Return the cells of Table 1, perturbation degree; arguments as for `paper_tables`."""
    return _table1(read_grid(auc, study, instances))


def table2(
    auc: pd.DataFrame,
    *,
    study: StudySpec | None = None,
    instances: Instances = "published",
    reference_epsilon: float | None = None,
) -> pd.DataFrame:
    """Return the cells of Table 2, pre-training; arguments as for `paper_tables`.

    Rows with surrogate_init "mean" average over the initialisations of the surrogate.
    """
    return _table2(read_grid(auc, study, instances), reference_epsilon)


def table3(
    auc: pd.DataFrame,
    *,
    study: StudySpec | None = None,
    instances: Instances = "published",
    reference_epsilon: float | None = None,
) -> pd.DataFrame:
    """Return the cells of Table 3, disparity of data and architecture; arguments as for `paper_tables`."""
    return _table3(read_grid(auc, study, instances), reference_epsilon)


def _table1(grid: Grid) -> pd.DataFrame:
    """Random initialisation on d1: every attack, epsilon and condition."""
    cells = []
    for modality in _with_random_models(grid):
        fixed = {"table": 1, "modality": modality, "target_init": "random"}
        cells.append(make_cell(grid, fixed | {"condition": "clean"}, clean_targets(grid, modality, "random"), []))
        groups = allowed_pairs(grid, modality, target_init="random", surrogate_init="random", surrogate_split="d1")
        for condition in ("adversarial", "control"):
            for attack, epsilon in grid.attacks:
                factors = {"condition": condition, "attack": attack, "epsilon": epsilon}
                surrogate = {"surrogate_init": "random", "surrogate_split": "d1"}
                cells.append(make_cell(grid, fixed | factors | surrogate, groups, [attack]))
    return pd.DataFrame(cells, columns=[*CELL_COLUMNS, *INFLUENCES])


def _table2(grid: Grid, reference_epsilon: float | None) -> pd.DataFrame:
    """Models trained on d1: target initialisation × surrogate initialisation, mean over the attacks."""
    at = _attacked(grid, reference_epsilon)
    attacks, cells = grid.attacks_at(at["epsilon"]), []
    for modality, models in grid.models.items():
        inits = _order_inits(m.init for m in models if m.split == "d1")
        for target in inits:
            fixed = {"table": 2, "modality": modality, "target_init": target}
            cells.append(make_cell(grid, fixed | {"condition": "clean"}, clean_targets(grid, modality, target), []))
            attacked = fixed | at | {"surrogate_split": "d1"}
            everything: Groups = []
            for surrogate in inits:
                groups = allowed_pairs(
                    grid, modality, target_init=target, surrogate_init=surrogate, surrogate_split="d1"
                )
                everything += groups
                cells.append(make_cell(grid, attacked | {"surrogate_init": surrogate}, groups, attacks))
            if len(inits) > 1:
                cells.append(make_cell(grid, attacked | {"surrogate_init": "mean"}, everything, attacks))
    return pd.DataFrame(cells, columns=[*CELL_COLUMNS, *INFLUENCES])


def _table3(grid: Grid, reference_epsilon: float | None) -> pd.DataFrame:
    """Random initialisation, targets on d1: surrogate split × same or other architecture, mean over the attacks."""
    at = _attacked(grid, reference_epsilon)
    attacks, cells = grid.attacks_at(at["epsilon"]), []
    for modality in _with_random_models(grid):
        fixed = {"table": 3, "modality": modality, "target_init": "random"}
        cells.append(make_cell(grid, fixed | {"condition": "clean"}, clean_targets(grid, modality, "random"), []))
        attacked = fixed | at | {"surrogate_init": "random"}
        present = {m.split for m in grid.models[modality] if m.init == "random"}
        for same in (True, False):
            for split in (s for s in SPLITS if s in present and s != "development"):
                groups = allowed_pairs(
                    grid, modality, target_init="random", surrogate_init="random", surrogate_split=split, same=same
                )
                factors = {"architecture": "same" if same else "different", "surrogate_split": split}
                if groups:
                    cells.append(make_cell(grid, attacked | factors, groups, attacks))
    return pd.DataFrame(cells, columns=[*CELL_COLUMNS, *INFLUENCES])


def check_agreement(one: pd.DataFrame, two: pd.DataFrame, three: pd.DataFrame) -> pd.DataFrame:
    """Return the three cells that must agree, per modality, and their largest difference (NaN if one is missing).

    Table 1 at Table 2's epsilon averaged over the attacks = Table 2 random/random = Table 3 d1 averaged over the
    architecture pairs. Columns: modality, table1, table2, table3, difference.

    Source: docs/explanation/protocol.md, Experiments.
    """
    rows = []
    for modality in one["modality"].unique():
        here = [t[(t["modality"] == modality) & (t["condition"] == "adversarial")] for t in (one, two, three)]
        second = here[1][(here[1]["target_init"] == "random") & (here[1]["surrogate_init"] == "random")]
        first = here[0][np.isclose(here[0]["epsilon"], second["epsilon"].min())]
        third = here[2][here[2]["surrogate_split"] == "d1"]
        weights = third["num_architecture_pairs"]
        values = [
            first["auc"].mean(skipna=False),
            second["auc"].mean(skipna=False),
            (third["auc"] * weights).sum(skipna=False) / weights.sum() if len(third) else math.nan,
        ]
        rows.append([modality, *values, float(np.ptp(values))])
    return pd.DataFrame(rows, columns=["modality", "table1", "table2", "table3", "difference"])


def unlearned(auc: pd.DataFrame, bound: float = LEARNED_BOUND) -> list[str]:
    """Return the models of the zoo, as modality/name, with a lower bound of clean AUC of at most `bound`."""
    clean = of_zoo(auc[(auc["condition"] == "clean") & ~(auc["auc_low"] > bound)])
    return sorted(f"{m}/{t}" for m, t in zip(clean["modality"], clean["target"], strict=True))


def missing_pairings(auc: pd.DataFrame, study: StudySpec, not_asked: NotAsked | None = None) -> pd.DataFrame:
    """Return the declared pairings with missing rows: modality, surrogate ("" = clean), target, missing, expected.

    `missing` and `expected` count rows: (attack, epsilon) × {adversarial, control}, or 1 for clean images.

    Args:
        not_asked: by modality and target, the (surrogate, attack key) cells outside the query budget; they are not
            missing.
    """
    finite = auc[np.isfinite(auc["auc"].to_numpy(dtype=np.float64))]
    keys = (finite[name] for name in ("modality", "surrogate", "target", "condition", "attack"))
    there = set(zip(*keys, finite["epsilon"].map(rounded), strict=True))
    unasked = not_asked or {}
    rows = []
    for modality in study.studied:
        clean = [("", target.name) for target in study.targets_of(modality.name)]
        for pair in [*clean, *((s.name, t.name) for s, t in study.pairings(modality.name))]:
            passed_over = unasked.get((modality.name, pair[1]), frozenset())
            asked = [a for a in study.transfer.attacks if (pair[0], a.key) not in passed_over]
            attacked = [(c, a.name, rounded(a.epsilon)) for c in ("adversarial", "control") for a in asked]
            wanted = attacked if pair[0] else [("clean", "", 0.0)]
            missing = sum((modality.name, *pair, *case) not in there for case in wanted)
            if missing:
                rows.append([modality.name, *pair, missing, len(wanted)])
    return pd.DataFrame(rows, columns=["modality", "surrogate", "target", "missing", "expected"])


def labels_left_out(auc: pd.DataFrame) -> list[str]:
    """Return a sentence per modality with findings that have only one class among the test images."""
    found = auc.drop_duplicates("modality").set_index("modality")["labels_left_out"]
    return [
        f"{modality}: no AUC for {names}: the test images have only one class of it; means are over the other findings."
        for modality, names in found.items()
        if names
    ]


def _with_random_models(grid: Grid) -> Iterator[str]:
    return (name for name, models in grid.models.items() if any((m.init, m.split) == ("random", "d1") for m in models))


def _order_inits(inits: Iterable[str]) -> list[str]:
    """Return the initialisations as in the paper: pre-trained first, random last."""
    return sorted(set(inits), key=lambda init: (init == "random", init))


def default_epsilon(epsilons: Iterable[float]) -> float:
    """Return the epsilon of Tables 2 and 3: the paper's 0.02, or the smallest of a study without it; NaN for none."""
    there = sorted({rounded(epsilon) for epsilon in epsilons})
    return PAPER_EPSILON if PAPER_EPSILON in there else min(there, default=math.nan)


def _attacked(grid: Grid, reference_epsilon: float | None) -> dict[str, Any]:
    epsilons = sorted({epsilon for _, epsilon in grid.attacks})
    if reference_epsilon is None:
        reference_epsilon = default_epsilon(epsilons)
    elif rounded(reference_epsilon) not in epsilons:
        raise DataError(f"epsilon {reference_epsilon} is not in the data; there are {epsilons}")
    return {"condition": "adversarial", "attack": "mean", "epsilon": rounded(reference_epsilon)}
