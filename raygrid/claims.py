"""The paper's conclusions C1 to C7 as statements that tables support, contradict or leave undecided.

Each statement is a contrast of table cells with an interval: the cells share their patients, so the influence of a
patient on the contrast is the same contrast of influences (raygrid.metrics). Margins are declared in the study. The
published tables go through the same code; they have no intervals, so there a verdict follows from the numbers alone.

All intervals are conditional on the trained models: variation between trainings is not in them. Source of the claims:
docs/protocol.md, Claims.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pandas as pd

from raygrid.metrics import Floats, standard_error
from raygrid.spec import Margins
from raygrid.tables import INFLUENCES, label_of_init

Kind = Literal["above", "below", "alike"]
Cells = Mapping[int, pd.DataFrame]  # the paper's tables by number

VERDICTS = ("contradicted", "void", "missing", "undecided", "supported")  # the first that occurs sums up a claim
COLUMNS = ["claim", "modality", "statement", "difference", "low", "high", "kind", "margin", "verdict"]

_EVERYWHERE = "all modalities"
_SUMMARIES = {
    "C1": "AUC falls from the smallest to the largest ε, under both attacks",
    "C2": "a shuffled perturbation costs less than the adversarial one, and little at the reference ε",
    "C3": "FGSM and PGD do similar damage at equal ε",
    "C4a": "pre-trained to pre-trained transfers better than random to random (in pathology: worse)",
    "C4b": "the more pre-training raises clean AUC, the more it raises transfer",
    "C4c": "a pre-trained target under a random surrogate stands better than the reverse (in radiology: worse)",
    "C4d": "over all surrogates, pre-trained targets are more vulnerable (in pathology: less)",
    "C5": "a surrogate trained on other data transfers worse; with another architecture, only in ophthalmology",
    "C6": "half of the data makes a surrogate that transfers less",
    "C7": "disparity of architecture matters more than of data (in ophthalmology: the same or less)",
}
# The direction that the paper reports, as the sign of the contrast below; a modality of another name has none.
_C4A = {"ophthalmology": 1, "radiology": 1, "pathology": -1}
_C4C = {"ophthalmology": 1, "radiology": -1, "pathology": 1}
_C4D = {"ophthalmology": 1, "radiology": 1, "pathology": -1}
_C5_OTHER_ARCHITECTURE: dict[str, Kind] = {"ophthalmology": "above", "radiology": "alike", "pathology": "alike"}
_C6 = ("ophthalmology", "radiology")
_C7: dict[str, Kind] = {"ophthalmology": "below", "radiology": "above", "pathology": "above"}


@dataclass(frozen=True)
class Term:
    """One cell of a contrast: its weight, the table and factors that find it, and whether relative AUC is meant."""

    weight: float
    table: int
    factors: Mapping[str, Any]
    relative: bool = False


@dataclass(frozen=True)
class Statement:
    """The weighted sum of cells lies above a margin, below it, or within it on both sides."""

    claim: str
    modality: str
    text: str
    terms: tuple[Term, ...]
    kind: Kind = "above"
    margin: float = 0.0


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells; `influence` is None where the cells are published numbers."""

    value: float
    influence: Floats | None
    problem: str = ""  # "missing" or "void": then there is no value to judge

    def bounds(self, level: float) -> tuple[float, float]:
        """Return the interval, normal on the scale of the difference."""
        if self.influence is None:
            return self.value, self.value
        reach = NormalDist().inv_cdf((1 + level) / 2) * standard_error(self.influence)
        return self.value - reach, self.value + reach


@dataclass(frozen=True)
class Judge:
    """Finds cells, forms contrasts, and says what they mean for a statement."""

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
        cells: the paper's tables by number, 1 to 3, as `raygrid.tables` makes them or as they were published.
    """
    judge = Judge(cells, margins)
    rows = [judge.judge(statement) for statement in _statements(cells, margins)]
    rows += _more_clean_auc_more_transfer(judge, cells)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values("claim", key=lambda names: names.map(list(_SUMMARIES).index), kind="stable").reset_index(
        drop=True
    )


def sum_up(judged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per claim: its words, and a column per modality with the verdict over its statements.

    A claim is contradicted where one of its statements is, and supported where all are.
    """
    modalities = [m for m in judged["modality"].unique() if m != _EVERYWHERE]
    rows = []
    for claim, part in judged.groupby("claim", sort=False):
        row = {"claim": claim, "says": _SUMMARIES[str(claim)]}
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


def _statements(cells: Cells, margins: Margins) -> Iterator[Statement]:
    for modality in cells[1]["modality"].unique():
        yield from _about_degree(cells[1], modality, margins)
    for modality in cells[2]["modality"].unique():
        yield from _about_pretraining(cells[2], modality, margins)
    for modality in cells[3]["modality"].unique():
        yield from _about_disparity(cells[3], modality, margins)


def _about_degree(table: pd.DataFrame, modality: str, margins: Margins) -> Iterator[Statement]:
    """C1 to C3, from Table 1."""
    here = table[(table["modality"] == modality) & (table["condition"] != "clean")]
    epsilons, attacks = sorted(here["epsilon"].unique()), sorted(here["attack"].unique())

    def cell(weight: float, condition: str, attack: str = "", epsilon: float = 0.0) -> Term:
        factors = {"modality": modality, "condition": condition, "attack": attack, "epsilon": epsilon}
        return Term(weight, 1, factors)

    for attack in attacks:
        mine = [e for e in epsilons if ((here["attack"] == attack) & (here["epsilon"] == e)).any()]
        if len(mine) > 1:
            first, last = (cell(w, "adversarial", attack, e) for w, e in ((1, mine[0]), (-1, mine[-1])))
            text = f"{attack.upper()}: AUC at ε = {mine[0]:g} less AUC at ε = {mine[-1]:g}"
            yield Statement("C1", modality, text, (first, last), "above", margins.difference)
        for epsilon in mine:
            shuffled = cell(1, "control", attack, epsilon), cell(-1, "adversarial", attack, epsilon)
            text = f"{attack.upper()}, ε = {epsilon:g}: AUC of the control less that of the attack"
            yield Statement("C2", modality, text, shuffled, "above", margins.difference)
        if mine:
            lost = cell(1, "clean"), cell(-1, "control", attack, mine[0])
            text = f"{attack.upper()}, ε = {mine[0]:g}: AUC lost to the control"
            yield Statement("C2", modality, text, lost, "below", margins.little)
    if {"fgsm", "pgd"} <= set(attacks):
        for epsilon in epsilons:
            both = cell(1, "adversarial", "fgsm", epsilon), cell(-1, "adversarial", "pgd", epsilon)
            yield Statement(
                "C3", modality, f"ε = {epsilon:g}: AUC under FGSM less that under PGD", both, "alike", margins.alike
            )


def _about_pretraining(table: pd.DataFrame, modality: str, margins: Margins) -> Iterator[Statement]:
    """C4a, C4c and C4d, from Table 2; for each initialisation that is not random."""
    here = table[table["modality"] == modality]
    for init in (i for i in here["target_init"].unique() if i != "random"):
        words = label_of_init(init)

        def cell(weight: float, target: str, surrogate: str) -> Term:
            return Term(weight, 2, _transferred(modality, target, surrogate), relative=True)

        claims = {
            "C4a": (_C4A, cell(1, "random", "random"), cell(-1, init, init)),
            "C4c": (_C4C, cell(1, init, "random"), cell(-1, "random", init)),
            "C4d": (_C4D, cell(1, "random", "mean"), cell(-1, init, "mean")),
        }
        texts = {
            "C4a": f"relative AUC, random to random less {words} to {words}",
            "C4c": f"relative AUC, {words} target under a random surrogate less the reverse",
            "C4d": f"relative AUC over all surrogates, random targets less {words} targets",
        }
        for claim, (directions, *terms) in claims.items():
            if direction := directions.get(modality):
                kind: Kind = "above" if direction > 0 else "below"
                margin = margins.difference if direction > 0 else 0.0 - margins.difference
                yield Statement(claim, modality, texts[claim], tuple(terms), kind, margin)


def _transferred(modality: str, target: str, surrogate: str) -> dict[str, str]:
    return {"modality": modality, "condition": "adversarial", "target_init": target, "surrogate_init": surrogate}


def _about_disparity(table: pd.DataFrame, modality: str, margins: Margins) -> Iterator[Statement]:
    """C5 to C7, from Table 3, on relative AUC."""
    present = set(table.loc[table["modality"] == modality, "surrogate_split"])
    other = [split for split in ("d2", "d2_half") if split in present]

    def cell(weight: float, architecture: str, split: str) -> Term:
        factors = {"modality": modality, "condition": "adversarial", "architecture": architecture}
        return Term(weight, 3, {**factors, "surrogate_split": split}, relative=True)

    for split in other:
        text = f"relative AUC, {{}} architecture: surrogate on {split} less surrogate on d1"
        same = cell(1, "same", split), cell(-1, "same", "d1")
        yield Statement("C5", modality, text.format("same"), same, "above", margins.difference)
        if kind := _C5_OTHER_ARCHITECTURE.get(modality):
            different = cell(1, "different", split), cell(-1, "different", "d1")
            margin = margins.alike if kind == "alike" else margins.difference
            yield Statement("C5", modality, text.format("different"), different, kind, margin)
    if len(other) == 2 and modality in _C6:
        halved = [cell(w, a, s) for w, s in ((0.5, "d2_half"), (-0.5, "d2")) for a in ("same", "different")]
        text = "relative AUC, surrogate on d2_half less surrogate on d2, over both architectures"
        yield Statement("C6", modality, text, tuple(halved), "above", margins.difference)
    if other and (kind := _C7.get(modality)):
        # (different - same on d1) - (other data - d1, same architecture): the cell that both start from drops out
        of_data = [cell(-1 / len(other), "same", split) for split in other]
        text = "relative AUC: what another architecture adds less what other data add"
        margin = margins.alike if kind == "below" else margins.difference
        yield Statement("C7", modality, text, (cell(1, "different", "d1"), *of_data), kind, margin)


def _more_clean_auc_more_transfer(judge: Judge, cells: Cells) -> Iterator[dict[str, Any]]:
    """C4b: for every two modalities, the one whose clean AUC gains more from pre-training gains more transfer."""
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
                Term(1, 2, _transferred(modality, "random", "random"), relative=True),
                Term(-1, 2, _transferred(modality, init, init), relative=True),
            ]
            gains[modality] = judge.contrast(clean), judge.contrast(moved)
        for one, two in combinations(mine, 2):
            clean_gain, transfer_gain = (_between(a, b) for a, b in zip(gains[one], gains[two], strict=True))
            (low, high), (first, last) = clean_gain.bounds(0.95), transfer_gain.bounds(0.95)
            sure = (low > 0 or high < 0) and (first > 0 or last < 0)
            agree = (low > 0) == (first > 0)
            verdict = (
                clean_gain.problem
                or transfer_gain.problem
                or ("undecided" if not sure else "supported" if agree else "contradicted")
            )
            sign = 1 if clean_gain.value >= 0 else -1  # told from the modality that gains more
            yield {
                "claim": "C4b",
                "modality": _EVERYWHERE,
                "statement": f"{label_of_init(init)}: {(one, two)[sign < 0]} gains more clean AUC than "
                f"{(two, one)[sign < 0]} (by {abs(clean_gain.value):.3f}); by how much more transfer (relative AUC)",
                "difference": sign * transfer_gain.value,
                "low": min(sign * first, sign * last),
                "high": max(sign * first, sign * last),
                "kind": "above",
                "margin": 0.0,
                "verdict": verdict,
            }


def _between(one: Contrast, two: Contrast) -> Contrast:
    """Return the difference of contrasts of two modalities, whose patients are different people."""
    problem = one.problem or two.problem
    if one.influence is None or two.influence is None:
        return Contrast(one.value - two.value, None, problem)
    # variances add: the influences of both stand side by side, each brought to the common factor P / (P - 1)
    sides = [(c.influence, len(c.influence)) for c in (one, two) if c.influence is not None]
    total = sum(n for _, n in sides)
    scaled = [i * math.sqrt(n / (n - 1) * (total - 1) / total) for i, n in sides]
    return Contrast(one.value - two.value, np.concatenate([scaled[0], -scaled[1]]), problem)
