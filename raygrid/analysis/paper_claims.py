"""The paper's claims, C1 to C7, as statements about contrasts of table cells; raygrid.analysis.claims judges them.

A direction reported for one modality of the paper is stated only for modalities of the same name. Source:
docs/explanation/protocol.md, Claims.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from raygrid.spec import Margins, displayed, init_label

Kind = Literal["above", "below", "alike"]
Cells = Mapping[int, pd.DataFrame]  # the paper's tables by number

SUMMARIES = {
    "C1": "AUC falls from the smallest to the largest ε, under both attacks",
    "C2": "a shuffled perturbation costs less than the adversarial one, and little at the reference ε",
    "C3": "FGSM and PGD do similar damage at equal ε",
    "C4a": "pre-trained to pre-trained transfers better than random to random (in pathology: worse)",
    "C4b": "the more pre-training raises clean AUC, the more it raises transfer",
    "C4c": "a pre-trained target keeps more AUC under a random surrogate than the reverse (in radiology: less)",
    "C4d": "over all surrogates, pre-trained targets are more vulnerable (in pathology: less)",
    "C5": "a surrogate trained on other data transfers worse; with another architecture, only in ophthalmology",
    "C6": "a surrogate trained on half of the data transfers less",
    "C7": "disparity of architecture matters more than disparity of data (in ophthalmology: the same or less)",
}
# The reported direction, as the sign of the contrast below.
_C4A = {"ophthalmology": 1, "radiology": 1, "pathology": -1}
_C4C = {"ophthalmology": 1, "radiology": -1, "pathology": 1}
_C4D = {"ophthalmology": 1, "radiology": 1, "pathology": -1}
_C5_OTHER_ARCHITECTURE: dict[str, Kind] = {"ophthalmology": "above", "radiology": "alike", "pathology": "alike"}
_C6 = ("ophthalmology", "radiology")
_C7: dict[str, Kind] = {"ophthalmology": "below", "radiology": "above", "pathology": "above"}


@dataclass(frozen=True)
class Term:
    """One cell of a contrast: its weight, its table and factors, and whether its relative AUC is meant."""

    weight: float
    table: int
    factors: Mapping[str, Any]
    relative: bool = False


@dataclass(frozen=True)
class Statement:
    """The statement that a weighted sum of cells lies above a margin, below it, or within it on both sides."""

    claim: str
    modality: str
    text: str
    terms: tuple[Term, ...]
    kind: Kind = "above"
    margin: float = 0.0


def statements(cells: Cells, margins: Margins) -> Iterator[Statement]:
    """Yield every statement but those of C4b, which compares modalities.

    Args:
        cells: the paper's tables by number; statements about factors outside the tables are left out.
    """
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
            text = f"{displayed(attack)}: AUC at ε = {mine[0]:g} less AUC at ε = {mine[-1]:g}"
            yield Statement("C1", modality, text, (first, last), "above", margins.difference)
        for epsilon in mine:
            shuffled = cell(1, "control", attack, epsilon), cell(-1, "adversarial", attack, epsilon)
            text = f"{displayed(attack)}, ε = {epsilon:g}: AUC of the control less that of the attack"
            yield Statement("C2", modality, text, shuffled, "above", margins.difference)
        if mine:
            lost = cell(1, "clean"), cell(-1, "control", attack, mine[0])
            text = f"{displayed(attack)}, ε = {mine[0]:g}: AUC lost to the control"
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
        words = init_label(init)

        def cell(weight: float, target: str, surrogate: str) -> Term:
            return Term(weight, 2, transferred(modality, target, surrogate), relative=True)

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


def transferred(modality: str, target: str, surrogate: str) -> dict[str, str]:
    """Return the factors of the cell of Table 2 with these initialisations of target and surrogate."""
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
