"""The AUC of every pairing under one attack, as records for the template."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from raygrid.analysis.results import StudyResults
from raygrid.report.figures import ModelFacts, models_in_order, short_name
from raygrid.report.model_cards import anchors
from raygrid.spec import EXTERNAL, MODEL, displayed


def pairing_grids(results: StudyResults) -> list[dict[str, Any]]:
    """Return a grid for each modality and attack at the reference epsilon, adversarial images.

    A grid is a `title`, its `targets` and its `rows`, each a surrogate and a cell for each target. Surrogates and
    targets have a `text`, a whole name as `title`, and the `anchor` of a card ("" without one). A cell has a `text`, a
    `title` shown on hover, a `shade` from 0 (AUC 0) to 9 (AUC 1) or None without a number, and `white_box`.
    """
    grids = []
    for modality in results.auc["modality"].unique():
        rows = results.auc[results.auc["modality"] == modality]
        models, cards = models_in_order(rows), anchors(results, modality)
        chosen = rows[(rows["condition"] == "adversarial") & np.isclose(rows["epsilon"], results.epsilon)]
        for attack, attacked in chosen.groupby("attack"):
            title = f"{str(modality).capitalize()}, {displayed(str(attack))} at ε = {results.epsilon:g}"
            not_asked = _not_asked(results, modality, f"{attack}@{attacked['epsilon'].iloc[0]}")
            grids.append({"title": title, **_grid(attacked, models, cards, not_asked)})
    return grids


def _not_asked(results: StudyResults, modality: str, attack: str) -> Set[tuple[str, str]]:
    """Return the (surrogate, target) of one modality whose attack, given by its key, is outside the query budget."""
    return {
        (surrogate, target)
        for (name, target), cells in results.not_asked.items()
        for surrogate, key in cells
        if (name, key) == (modality, attack)
    }


def _grid(
    auc: pd.DataFrame, models: Sequence[ModelFacts], cards: Mapping[str, str], not_asked: Set[tuple[str, str]]
) -> dict[str, Any]:
    found = {(row["surrogate"], row["target"]): row for row in auc.to_dict("records")}
    kinds, attacked_through = {EXTERNAL, *auc["target_kind"]}, set(auc["surrogate"])
    targets = [model for model in models if model.kind in kinds]
    surrogates = [model for model in models if model.kind != EXTERNAL or model.name in attacked_through]
    rows = []
    for surrogate in surrogates:
        pairs = [(surrogate.name, target.name) for target in targets]
        rows.append((_head(surrogate, cards), [_cell(found.get(pair), asked=pair not in not_asked) for pair in pairs]))
    return {"targets": [_head(model, cards) for model in targets], "rows": rows}


def _head(model: ModelFacts, cards: Mapping[str, str]) -> dict[str, str]:
    text = f"{model.arch} {short_name(model)}" if model.kind == MODEL else short_name(model)
    return {"text": text, "title": model.name, "anchor": cards.get(model.name, "")}


def _cell(row: Mapping[Any, Any] | None, *, asked: bool) -> dict[str, Any]:
    if row is None or pd.isna(row["auc"]):
        text, title = ("×", "missing") if asked else ("–", "outside the query budget")
        return {"text": text, "title": title, "shade": None, "white_box": False}
    title = (
        f"{row['surrogate']} → {row['target']}: AUC {row['auc']:.3f}, 95% interval {row['auc_low']:.3f} to "
        f"{row['auc_high']:.3f}; {100 * row['relative_auc']:.1f}% of the clean {row['clean_auc']:.3f}"
    )
    shade = min(9, int(10 * row["auc"]))
    return {"text": f"{row['auc']:.2f}", "title": title, "shade": shade, "white_box": bool(row["white_box"])}
