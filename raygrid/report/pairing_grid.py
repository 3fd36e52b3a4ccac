"""The models of a study with their cards, and every pairing of them, as the report's page walks them."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from raygrid.report.figures import ModelFacts, models_in_order, short_name
from raygrid.spec import EXTERNAL, MODEL, StudySpec, init_label
from raygrid.store.query_budget import NotAsked


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the page shows of one trained model; the clean AUC comes from the AUC frame.

    Attributes:
        name: `ModelSpec.name`.
        best_epoch: the epoch kept, counted as in the history; None where it is not known.
        validation_auc: at the best epoch.
        card_path: of its card, relative to the study folder.
        facts: what else the card says, in words → value.
    """

    modality: str
    name: str
    signature: str
    best_epoch: int | None = None
    num_epochs: int | None = None
    validation_auc: float | None = None
    card_path: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One pairing: its AUC in text, what a pointer shows, a shade from 0 (AUC 0) to 9 (AUC 1), None where missing."""

    text: str
    title: str
    shade: int | None
    white_box: bool


@dataclass(frozen=True)
class Head:
    """A model at the edge of a grid: short name, whole name, and the anchor of its card ("" without one)."""

    text: str
    title: str
    anchor: str


@dataclass(frozen=True)
class PairingGrid:
    """Every pairing of one modality under one attack: a head and a row of cells for each surrogate."""

    title: str
    targets: Sequence[Head]
    rows: Sequence[tuple[Head, Sequence[Cell]]]


def anchor_of(card: ModelCard) -> str:
    """Return the anchor of a model's card on the page."""
    return f"card-{card.signature[:16]}"


def model_rows(study: StudySpec, auc: pd.DataFrame, cards: Sequence[ModelCard]) -> list[dict[str, Any]]:
    """Return every declared model with its card and clean AUC, as far as they are there; pre-training sources too."""
    by_model = {(card.modality, card.name): card for card in cards}
    clean = auc[auc["condition"] == "clean"]
    numbers = {(r["modality"], r["target"]): r for r in clean.to_dict("records")}
    return [
        {
            "modality": model.modality,
            "name": model.name,
            "anchor": anchor_of(by_model[key]) if (key := (model.modality, model.name)) in by_model else "",
            "init": init_label(model.init),
            "card": by_model.get(key),
            "clean": numbers.get(key),
            "source": study.modality(model.modality).source,
        }
        for model in study.models
    ]


def pairing_grids(
    auc: pd.DataFrame, cards: Sequence[ModelCard], epsilon: float, not_asked: NotAsked | None = None
) -> list[PairingGrid]:
    """Return a grid for each modality and attack at one epsilon, adversarial images.

    Args:
        not_asked: what a budget does not cover, which is not missing.
    """
    anchors = {(card.modality, card.name): anchor_of(card) for card in cards}
    grids = []
    for modality in auc["modality"].unique():
        mine = auc[auc["modality"] == modality]
        chosen = mine[(mine["condition"] == "adversarial") & np.isclose(mine["epsilon"], epsilon)]
        for attack, rows in chosen.groupby("attack"):
            title = f"{str(modality).capitalize()}, {str(attack).upper()} at ε = {epsilon:g}"
            own = {n: a for (m, n), a in anchors.items() if m == modality}
            passed_over = {
                (surrogate, target)
                for (m, target), cells in (not_asked or {}).items()
                for surrogate, key in cells
                if m == modality and key == f"{attack}@{rows['epsilon'].iloc[0]}"
            }
            grids.append(_grid(title, rows, models_in_order(mine), own, passed_over))
    return grids


def _grid(
    title: str,
    auc: pd.DataFrame,
    models: Sequence[ModelFacts],
    anchors: Mapping[str, str],
    passed_over: Set[tuple[str, str]],
) -> PairingGrid:
    found = {(row["surrogate"], row["target"]): row for row in auc.to_dict("records")}
    wanted = {EXTERNAL, *auc["target_kind"]}
    targets = [model for model in models if model.kind in wanted]
    surrogates, rows = set(auc["surrogate"]), []
    for surrogate in (model for model in models if model.kind != EXTERNAL or model.name in surrogates):
        pairs = [(surrogate.name, target.name) for target in targets]
        rows.append((_head(surrogate, anchors), [_cell(found.get(p), asked=p not in passed_over) for p in pairs]))
    return PairingGrid(title, [_head(model, anchors) for model in targets], rows)


def _head(model: ModelFacts, anchors: Mapping[str, str]) -> Head:
    text = f"{model.arch} {short_name(model)}" if model.kind == MODEL else short_name(model)
    return Head(text, model.name, anchors.get(model.name, ""))


def _cell(row: Mapping[Any, Any] | None, *, asked: bool) -> Cell:
    if row is None or pd.isna(row["auc"]):
        text, title = ("×", "missing") if asked else ("–", "not asked (budget)")
        return Cell(text, title, None, white_box=False)
    title = (
        f"{row['surrogate']} → {row['target']}: AUC {row['auc']:.3f}, 95% interval {row['auc_low']:.3f} to "
        f"{row['auc_high']:.3f}; {100 * row['relative_auc']:.1f}% of the clean {row['clean_auc']:.3f}"
    )
    return Cell(f"{row['auc']:.2f}", title, min(9, int(10 * row["auc"])), bool(row["white_box"]))
