"""Verdicts on the paper's claims (raygrid.analysis.paper_claims): tables support, contradict or do not decide them.

Each statement is a contrast of table cells with an interval. The cells share their patients; the influence of a patient
on the contrast is the same contrast of influences (raygrid.analysis.auc). Margins are declared in the study. The
published tables are judged by the same code; they have no intervals, and a verdict follows from only their numbers.

All intervals are conditional on the trained models and leave out the variation between trainings. Source of the claims:
docs/explanation/protocol.md, Claims.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from raygrid.analysis.auc import Floats, half_width
from raygrid.analysis.paper_claims import SUMMARIES, Cells, Kind, Statement, Term, statements, transferred
from raygrid.analysis.tables import INFLUENCES
from raygrid.spec import Margins, init_label

# A claim gets the first of these among the verdicts on its statements.
VERDICTS = ("contradicted", "void", "missing", "undecided", "supported")
COLUMNS = ["claim", "modality", "statement", "difference", "low", "high", "kind", "margin", "verdict"]

_EVERYWHERE = "all modalities"


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells; `influence` is None where the cells are published numbers."""

    value: float
    influence: Floats | None
    problem: str = ""  # "missing" or "void": then there is no value to judge

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the interval, on the scale of the difference."""
        if self.influence is None:
            return self.value, self.value
        reach = half_width(self.influence, level)
        return self.value - reach, self.value + reach


@dataclass(frozen=True)
class Judge:
    """Finds cells, forms contrasts and judges statements by them."""

    cells: Cells
    margins: Margins
    _found: dict[tuple[Any, ...], dict[str, Any] | None] = field(default_factory=dict)

    def contrast(self, terms: Sequence[Term]) -> Contrast:
        """Return the weighted sum of cells."""
        value, influence, published = 0.0, np.zeros(1), False
        for term in terms:
            cell = self._cell(term)
            name, patients = (("relative_percent", INFLUENCES[1]), ("auc", INFLUENCES[0]))[not term.relative]
            if cell is None or pd.isna(cell[name]):
                return Contrast(math.nan, None, "missing")
            if cell["unlearned"]:
                return Contrast(math.nan, None, "void")
            value += term.weight * cell[name] / (100 if term.relative else 1)
            if cell[patients] is None:
                published = True
            else:
                influence = influence + term.weight * np.asarray(cell[patients])
        return Contrast(value, None if published else influence)

    def judge(self, statement: Statement) -> dict[str, Any]:
        """Return a row of `COLUMNS`."""
        contrast = self.contrast(statement.terms)
        # two one-sided tests at 5 % are a 90 % interval within the margins (Schuirmann 1987)
        low, high = contrast.bounds(0.9 if statement.kind == "alike" else 0.95)
        verdict = contrast.problem or _verdict(statement.kind, statement.margin, low, high)
        return {
            "claim": statement.claim,
            "modality": statement.modality,
            "statement": statement.text,
            "difference": contrast.value,
            "low": low,
            "high": high,
            "kind": statement.kind,
            "margin": statement.margin,
            "verdict": verdict,
        }

    def _cell(self, term: Term) -> dict[str, Any] | None:
        key = (term.table, *sorted(term.factors.items()))
        if key not in self._found:
            cells = self.cells[term.table]
            for name, value in term.factors.items():
                same = np.isclose(cells[name], value) if name == "epsilon" else cells[name] == value
                cells = cells[same]
            self._found[key] = {str(k): v for k, v in cells.iloc[0].items()} if len(cells) else None
        return self._found[key]


def judge_claims(cells: Cells, margins: Margins) -> pd.DataFrame:
    """Return every statement with its contrast, interval and verdict (`COLUMNS`), in the order of the claims.

    Args:
        cells: Tables 1 to 3 by number, of `raygrid.analysis.tables.paper_tables` or `published_tables`.
    """
    judge = Judge(cells, margins)
    rows = [judge.judge(statement) for statement in statements(cells, margins)]
    rows += _more_clean_auc_more_transfer(judge, cells)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values("claim", key=lambda names: names.map(list(SUMMARIES).index), kind="stable").reset_index(
        drop=True
    )


def sum_up(judged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per claim: its words, and a column per modality with the verdict over its statements.

    A claim is contradicted if one of its statements is, and supported if all are.
    """
    modalities = [m for m in judged["modality"].unique() if m != _EVERYWHERE]
    rows = []
    for claim, part in judged.groupby("claim", sort=False):
        row = {"claim": claim, "says": SUMMARIES[str(claim)]}
        for modality in modalities:
            there = set(part.loc[part["modality"].isin([modality, _EVERYWHERE]), "verdict"])
            row[modality] = next((v for v in VERDICTS if v in there), "–")
        rows.append(row)
    return pd.DataFrame(rows, columns=["claim", "says", *modalities])


def _verdict(kind: Kind, margin: float, low: float, high: float) -> str:
    if kind == "alike":
        supported, contradicted = -margin < low and high < margin, low > margin or high < -margin
    elif kind == "below":
        supported, contradicted = high < margin, low > margin
    else:
        supported, contradicted = low > margin, high < margin
    return "supported" if supported else "contradicted" if contradicted else "undecided"


def _more_clean_auc_more_transfer(judge: Judge, cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield C4b: of every two modalities, the one with more clean AUC from pre-training also gains more transfer."""
    table = cells[2]
    inits = [i for i in table["target_init"].unique() if i != "random"]
    for init in inits:
        mine = [m for m in table["modality"].unique() if init in set(table.loc[table["modality"] == m, "target_init"])]
        gains = {}
        for modality in mine:
            clean = [
                Term(w, 2, {"modality": modality, "condition": "clean", "target_init": i})
                for w, i in ((1, init), (-1, "random"))
            ]
            moved = [
                Term(1, 2, transferred(modality, "random", "random"), relative=True),
                Term(-1, 2, transferred(modality, init, init), relative=True),
            ]
            gains[modality] = judge.contrast(clean), judge.contrast(moved)
        for one, two in combinations(mine, 2):
            clean_gain, transfer_gain = (difference_between(a, b) for a, b in zip(gains[one], gains[two], strict=True))
            (low, high), (first, last) = clean_gain.bounds(0.95), transfer_gain.bounds(0.95)
            sure = (low > 0 or high < 0) and (first > 0 or last < 0)
            agree = (low > 0) == (first > 0)
            verdict = (
                clean_gain.problem
                or transfer_gain.problem
                or ("undecided" if not sure else "supported" if agree else "contradicted")
            )
            sign = 1 if clean_gain.value >= 0 else -1  # the statement names the modality with the larger gain first
            yield {
                "claim": "C4b",
                "modality": _EVERYWHERE,
                "statement": f"{init_label(init)}: {(one, two)[sign < 0]} gains more clean AUC than "
                f"{(two, one)[sign < 0]} (by {abs(clean_gain.value):.3f}); by how much more transfer (relative AUC)",
                "difference": sign * transfer_gain.value,
                "low": min(sign * first, sign * last),
                "high": max(sign * first, sign * last),
                "kind": "above",
                "margin": 0.0,
                "verdict": verdict,
            }


def difference_between(one: Contrast, two: Contrast) -> Contrast:
    """Return the difference between contrasts of two modalities, which share no patients."""
    problem = one.problem or two.problem
    if one.influence is None or two.influence is None:
        return Contrast(one.value - two.value, None, problem)
    # variances add: the influences of both stand side by side
    return Contrast(one.value - two.value, np.concatenate([one.influence, -two.influence]), problem)
