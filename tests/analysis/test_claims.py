"""The paper's claims: its own tables support its conclusions, and verdicts equal those worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from raygrid.analysis.claims import COLUMNS, Contrast, Judge, difference_between, judge_claims, sum_up
from raygrid.analysis.paper_claims import Statement, Term
from raygrid.analysis.tables import FACTORS, published_tables
from raygrid.errors import SpecError
from raygrid.spec import Margins

T95, T90 = 4.302653, 2.919986  # Student's t, two degrees of freedom
T95_OF_4 = 2.776445


def published(**margins: float) -> pd.DataFrame:
    return judge_claims(published_tables(), Margins(**margins))


def test_the_published_tables_support_the_papers_conclusions() -> None:
    verdicts = sum_up(published()).set_index("claim").drop(columns="says")
    alike = verdicts.loc["C3"].to_dict()  # docs/explanation/protocol.md: its own cells differ by up to .12
    assert alike == {"ophthalmology": "contradicted", "radiology": "contradicted", "pathology": "supported"}
    others = verdicts.drop(index="C3")
    assert list(others.index) == ["C1", "C2", "C4a", "C4b", "C4c", "C4d", "C5", "C6", "C7"]
    expected = pd.DataFrame("supported", index=others.index, columns=others.columns)
    expected.loc["C6", "pathology"] = "–"  # the paper makes no claim about it
    pd.testing.assert_frame_equal(others, expected)


def test_published_differences_are_those_of_the_printed_numbers() -> None:
    found = published().set_index(["claim", "modality", "statement"])["difference"]
    assert found["C4a", "ophthalmology", "relative AUC, random to random less ImageNet to ImageNet"] == pytest.approx(
        0.58 - 0.13
    )
    assert found["C1", "pathology", "FGSM: AUC at ε = 0.02 less AUC at ε = 0.06"] == pytest.approx(0.56 - 0.33)
    # different - same on d1, minus the mean addition of d2 and d2_half with the same architecture
    by_hand = (0.82 - 0.47) - ((0.77 - 0.47) + (0.75 - 0.47)) / 2
    (text,) = [s for c, m, s in found.index if (c, m) == ("C7", "pathology")]
    assert found["C7", "pathology", text] == pytest.approx(by_hand)


def test_margins_decide_what_is_alike() -> None:
    assert set(sum_up(published(alike=0.13)).set_index("claim").loc["C3"][1:]) == {"supported"}
    wide = published(difference=0.2)
    assert "contradicted" in set(wide.loc[wide["claim"] == "C1", "verdict"])
    with pytest.raises(SpecError, match="alike"):
        Margins(alike=0)


def cells_of(*rows: dict[str, object]) -> dict[int, pd.DataFrame]:
    blank = dict.fromkeys(FACTORS, "") | {"unlearned": "", "relative_percent": math.nan}
    return {1: pd.DataFrame([blank | row for row in rows])}


A, B = np.array([0.0075, -0.0025, -0.005]), np.array([0.0025, 0.0025, -0.005])
CELLS = cells_of(
    {"attack": "one", "auc": 0.7, "influence": A, "relative_influence": None},
    {"attack": "two", "auc": 0.6, "influence": B, "relative_influence": None},
    {"attack": "lost", "auc": math.nan, "influence": None, "relative_influence": None},
    {"attack": "bad", "auc": 0.5, "influence": B, "relative_influence": None, "unlearned": "eye/net"},
)


def judged(kind: str, margin: float, *attacks: str) -> dict[str, object]:
    weights = (1, -1)
    terms = tuple(Term(w, 1, {"attack": a}) for w, a in zip(weights, attacks, strict=False))
    return Judge(CELLS, Margins()).judge(Statement("C1", "eye", "a less b", terms, kind, margin))


@pytest.mark.parametrize(
    ("kind", "margin", "verdict"),
    [
        ("above", 0.0, "supported"),
        ("above", 0.1, "undecided"),
        ("above", 0.3, "contradicted"),
        ("below", 0.3, "supported"),
        ("below", 0.1, "undecided"),
        ("below", 0.0, "contradicted"),
        ("alike", 0.3, "supported"),
        ("alike", 0.1, "undecided"),
        ("alike", 0.01, "contradicted"),
    ],
)
def test_a_verdict_follows_from_the_interval_of_the_contrast(kind: str, margin: float, verdict: str) -> None:
    row = judged(kind, margin, "one", "two")
    error = math.sqrt(3 / 2 * (0.005**2 + 0.005**2 + 0))  # 2 · (5e-5)² / 1.25e-9 = 4 patients, but there are 3
    reach = (T90 if kind == "alike" else T95) * error
    assert list(row) == COLUMNS
    assert row["difference"] == pytest.approx(0.1)
    assert (row["low"], row["high"]) == pytest.approx((0.1 - reach, 0.1 + reach), abs=1e-6)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(("attack", "verdict"), [("lost", "missing"), ("none", "missing"), ("bad", "void")])
def test_missing_and_void_cells_are_not_judged(attack: str, verdict: str) -> None:
    row = judged("above", 0.0, "one", attack)
    assert row["verdict"] == verdict
    assert math.isnan(float(str(row["difference"])))


def test_modalities_have_different_patients_so_variances_add() -> None:
    one, two = Contrast(0.4, A), Contrast(0.1, np.array([0.005, -0.005]))
    low, high = difference_between(one, two).bounds(0.95)
    variance = 5 / 4 * ((0.0075**2 + 0.0025**2 + 0.005**2) + 2 * 0.005**2)  # all 5 patients contribute
    assert (low + high) / 2 == pytest.approx(0.3)
    assert (high - low) / 2 == pytest.approx(T95_OF_4 * math.sqrt(variance), abs=1e-6)


def test_a_modality_outside_the_paper_has_no_direction() -> None:
    tables = {n: t.replace({"modality": {"pathology": "dermatology"}}) for n, t in published_tables().items()}
    verdicts = sum_up(judge_claims(tables, Margins())).set_index("claim")
    assert list(verdicts.index[verdicts["dermatology"] == "–"]) == ["C4a", "C4c", "C4d", "C6", "C7"]
    assert verdicts.loc["C5", "dermatology"] == "supported"
