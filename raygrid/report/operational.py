"""The section of the report for those who run a classifier, as tables of text that the page walks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raygrid.analysis import tables
from raygrid.analysis.operating_point import SPECIFICITY

_CASE = {"modality": "Modality", "condition": "Condition", "attack": "Attack", "epsilon": "ε"}


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


_FORMATS: Mapping[str, Callable[[float], str]] = {
    **dict.fromkeys(("sensitivity", "specificity", "fooled", "relative_auc"), _percent),
    **dict.fromkeys(("auc", "clean_auc", "mean_auc", "mean_probability", "l2"), "{:.2f}".format),
    **dict.fromkeys(("brier", "linf", "ssim"), "{:.3f}".format),
    "psnr": "{:.1f}".format,
    "epsilon": "{:g}".format,
    "num_positive": "{:d}".format,
}


@dataclass(frozen=True)
class Place:
    """One cell: its text, and whether it is a number."""

    text: str
    is_number: bool


@dataclass(frozen=True)
class PageTable:
    """A table with its heading, what must be known to read it, and cells row by row."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Place]]


def practice_tables(
    auc: pd.DataFrame, decisions: pd.DataFrame, perceptibility: pd.DataFrame, epsilon: float
) -> list[PageTable]:
    """Return the tables that have rows.

    Args:
        auc, decisions, perceptibility: as in `results/`.
        epsilon: at which surrogates are compared.
    """
    found = [
        _page_table(
            "Decisions at one threshold",
            f"Each target's threshold gives it a specificity of {SPECIFICITY:.0%} on the clean test images, and stays. "
            "Fooled: images whose decision is not the clean image's. Brier: mean squared error of the probability; its "
            "mean shows lost calibration. Means over black-box pairings and findings.",
            tables.decision_table(decisions),
            _CASE
            | {"sensitivity": "Sensitivity", "specificity": "Specificity", "fooled": "Fooled", "brier": "Brier"}
            | {"mean_probability": "Mean probability"},
        ),
        _page_table(
            "Findings",
            "Clean and adversarial images of modalities with several findings; means over black-box pairings, attacks.",
            tables.finding_table(decisions),
            {"modality": "Modality", "label": "Finding", "num_positive": "Positives", "condition": "Condition"}
            | {"epsilon": "ε", "auc": "AUC", "sensitivity": "Sensitivity"},
        ),
        _page_table(
            "The best surrogate against each target",
            f"The black-box surrogate that takes most AUC at ε = {epsilon:g}, mean over the attacks. Found with the "
            "images that judge it: it looks a little better than it is.",
            tables.best_surrogates(auc, epsilon),
            {"modality": "Modality", "target": "Target", "clean_auc": "Clean AUC", "surrogate": "Best surrogate"}
            | {"auc": "AUC through it", "relative_auc": "Relative", "mean_auc": "Mean of all surrogates"},
        ),
        _page_table(
            "How visible the changes are",
            "Means over test images and surrogates. L∞ and L2 on images in [-1, 1]; PSNR in dB; SSIM 1 is not visible.",
            tables.damage_and_perceptibility(auc, perceptibility),
            _CASE | {"linf": "L∞", "l2": "L2", "psnr": "PSNR", "ssim": "SSIM", "relative_auc": "Relative AUC"},
        ),
    ]
    return [table for table in found if table.rows]


def _page_table(title: str, note: str, frame: pd.DataFrame, columns: Mapping[str, str]) -> PageTable:
    rows = [[_place(name, record[name]) for name in columns] for record in frame.to_dict("records")]
    return PageTable(title, note, list(columns.values()), rows)


def _place(column: str, value: Any) -> Place:
    if column not in _FORMATS:
        return Place(str(value) or "–", is_number=False)
    return Place("–" if pd.isna(value) else _FORMATS[column](value), is_number=True)
