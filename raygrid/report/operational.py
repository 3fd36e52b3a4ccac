"""The report's section for operators of a classifier, as records for the template.

The columns of each table are those of its frame (raygrid.analysis.tables.operational).
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from raygrid.analysis import tables
from raygrid.analysis.frames import of_zoo
from raygrid.analysis.operating_point import SPECIFICITY
from raygrid.analysis.results import StudyResults
from raygrid.report.label_words import about_sensitivity, words_of_label
from raygrid.spec import displayed


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


# column: its heading and, of a number, the format
_COLUMNS: Mapping[str, tuple[str, Callable[[float], str] | None]] = {
    "modality": ("Modality", None),
    "condition": ("Condition", None),
    "attack": ("Attack", None),
    "label": ("Finding", None),
    "target": ("Target", None),
    "surrogate": ("Best surrogate", None),
    "epsilon": ("ε", "{:g}".format),
    "num_positive": ("Images with the finding", "{:d}".format),
    "sensitivity": ("Sensitivity", _percent),
    "specificity": ("Specificity", _percent),
    "fooled": ("Fooled", _percent),
    "brier": ("Brier", "{:.3f}".format),
    "mean_probability": ("Mean probability", "{:.2f}".format),
    "auc": ("AUC", "{:.2f}".format),
    "clean_auc": ("Clean AUC", "{:.2f}".format),
    "relative_auc": ("Relative AUC", _percent),
    "mean_auc": ("Mean of all surrogates", "{:.2f}".format),
    "linf": ("L∞", "{:.3f}".format),
    "l2": ("L2", "{:.2f}".format),
    "psnr": ("PSNR", "{:.1f}".format),
    "ssim": ("SSIM", "{:.3f}".format),
}


def operational_tables(results: StudyResults) -> list[dict[str, Any]]:
    """Return the tables that have rows: title, note, columns, and rows of cells with `text` and `is_number`."""
    decisions = of_zoo(results.decisions, results.auc)
    found = [
        _page_table(
            "Decisions at one threshold",
            f"Each target's threshold gives a specificity of {SPECIFICITY:.0%} on the clean test images and stays "
            f"fixed under attack. {_findings(results, decisions)} "
            "Fooled: images whose decision differs from that on the clean image. Brier: mean "
            "squared error of the probability. A shift of the mean probability shows lost calibration. Means over "
            "black-box pairings and findings.",
            tables.decision_table(decisions),
        ),
        _page_table(
            "Findings",
            "Clean and adversarial images of modalities with several findings; means over black-box pairings and "
            "attacks.",
            _with_meanings(results, tables.finding_table(decisions)),
        ),
        _page_table(
            "The best surrogate against each target",
            f"The black-box surrogate that leaves the lowest AUC at ε = {results.epsilon:g}, mean over the attacks. It "
            "was selected and evaluated on the same images, which tends to overstate its effect.",
            tables.best_surrogates(results.zoo_auc, results.epsilon),
            {"auc": "AUC through it", "relative_auc": "Relative"},
        ),
        _page_table(
            "How visible the changes are",
            "Means over test images and surrogates. L∞ and L2 on images in [-1, 1]; PSNR in dB; SSIM 1: identical "
            "images.",
            tables.damage_and_perceptibility(results.zoo_auc, results.perceptibility),
        ),
    ]
    return [table for table in found if table["rows"]]


def _findings(results: StudyResults, decisions: pd.DataFrame) -> str:
    """Return the sentences on sensitivity of each modality, with its name if there are several."""
    said = {}
    for modality, rows in decisions.groupby("modality", sort=False):
        both = rows[rows["sensitivity"].notna() & rows["specificity"].notna()]
        labels = list(dict.fromkeys(both["label"].astype(str)))
        said[str(modality)] = about_sensitivity(labels, results.samples[str(modality)].label_meanings)
    if len(said) < 2:
        return " ".join(said.values())
    return " ".join(f"{modality.replace('_', ' ').capitalize()}: {sentence}" for modality, sentence in said.items())


def _with_meanings(results: StudyResults, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the meaning after each label."""
    pairs = zip(frame["modality"].astype(str), frame["label"].astype(str), strict=True)
    return frame.assign(label=[words_of_label(label, results.samples[m].label_meanings) for m, label in pairs])


def _page_table(
    title: str, note: str, frame: pd.DataFrame, headings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return one table; `headings` replaces headings of `_COLUMNS`."""
    columns = [(headings or {}).get(name, _COLUMNS[name][0]) for name in frame.columns]
    rows = [[_cell(str(name), value) for name, value in record.items()] for record in frame.to_dict("records")]
    return {"title": title, "note": note, "columns": columns, "rows": rows}


def _cell(column: str, value: Any) -> dict[str, Any]:
    form = _COLUMNS[column][1]
    if form is None:
        text = displayed(str(value)) if column == "attack" else str(value)
        return {"text": text or "–", "is_number": False}
    return {"text": "–" if pd.isna(value) else form(value), "is_number": True}
