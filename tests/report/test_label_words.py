"""Reports name the finding that sensitivity and specificity are about, and say where its meaning is unknown."""

from collections.abc import Mapping
from html import unescape

import pandas as pd
import pytest
from assessment_pages import assessment, page
from auc_frames import small_study
from report_pages import MODELS, example_frame, page_results

from raygrid.report.label_words import about_sensitivity, words_of_label
from raygrid.report.operational import operational_tables

HEALTHY = {"class_1": "normal, benign"}


def notes_of(decisions: pd.DataFrame, meanings: Mapping[str, str]) -> dict[str, str]:
    """Return the notes of the study page's operational tables, and the findings that they list."""
    facts = {"auc": example_frame(), "decisions": decisions, "trained": MODELS[0], "phantom": False}
    with page_results(small_study(MODELS), meanings=meanings, **facts) as results:
        tables = operational_tables(results)
    findings = [row[1]["text"] for table in tables if table["title"] == "Findings" for row in table["rows"]]
    return {table["title"]: table["note"] for table in tables} | {"listed": "; ".join(findings)}


def decided(*labels: str, undefined: str = "") -> pd.DataFrame:
    """Return decisions of a black-box pairing, a row per label; the shares of one label are undefined."""
    case = {"modality": "eye", "condition": "adversarial", "attack": "fgsm", "epsilon": 0.02, "white_box": False}
    shares = {"sensitivity": 0.2, "specificity": 0.9, "fooled": 0.5, "brier": 0.2, "mean_probability": 0.3}
    rows = [case | shares | {"surrogate": "b", "target": "a", "label": label} for label in labels]
    frame = pd.DataFrame(rows).assign(num_positive=20, num_negative=20, auc=0.4)
    frame.loc[frame["label"] == undefined, ["sensitivity", "num_positive"]] = [float("nan"), 0]
    return frame


def test_one_finding_is_named_with_its_meaning():
    said = about_sensitivity(["class_1"], HEALTHY)
    assert "share of the images labelled class_1 (normal, benign) that a model classifies as positive" in said
    assert "does not say" not in said
    assert words_of_label("edema", HEALTHY) == "edema"


@pytest.mark.parametrize(
    ("label", "unknown"),
    [
        ("class_1", True),
        ("positive", True),
        ("label_3", True),
        ("Label", True),
        ("y", True),
        ("mass", False),
        ("class_iv_lesion", False),
    ],
)
def test_a_name_that_says_nothing_is_told_only_without_a_meaning(label, unknown):
    sentence = f"The data set does not say whether {label} is a disease."
    assert (sentence in about_sensitivity([label], {})) == unknown
    assert sentence not in about_sensitivity([label], {label: "malignant"})


def test_several_findings_are_listed_and_none_has_no_share():
    assert "Each finding counts separately: mass, class_1 (normal, benign)." in about_sensitivity(
        ["mass", "class_1"], HEALTHY
    )
    assert about_sensitivity([], {}).startswith("No finding has images of both classes")


def test_the_page_of_a_target_names_the_class_in_sentences_tables_and_examples():
    healthy = assessment()
    healthy = assessment(decisions=healthy.decisions.assign(label="class_1"))
    text = " ".join(unescape(page(healthy, meanings=HEALTHY, label="class_1")).split())
    assert "Of 100 images with class 1 (normal, benign) the model finds 82" in text
    assert text.count('<th scope="row">class_1 (normal, benign)</th>') == 3
    assert text.count("Sensitivity is the share of the images labelled class_1 (normal, benign) that a model") == 2
    assert "with class 1 (normal, benign): probability 0.93" in text
    assert "does not say whether" not in text
    unknown = page(healthy, label="class_1")
    assert "The data set does not say whether class_1 is a disease." in unknown
    assert "does not say whether" not in page()  # a lesion


def test_the_page_of_a_target_leaves_out_findings_without_a_sensitivity():
    both = assessment().decisions
    one = assessment(decisions=pd.concat([both, both.assign(label="scar", num_positive=0, sensitivity=float("nan"))]))
    text = page(one)
    assert '<th scope="row">scar</th>' in text
    assert "the images labelled lesion that a model classifies as positive" in text


def test_the_page_of_a_study_names_the_class_and_the_findings_behind_a_mean():
    alone = notes_of(decided("class_1"), HEALTHY)
    assert (
        "the images labelled class_1 (normal, benign) that a model classifies as positive"
        in alone["Decisions at one threshold"]
    )
    several = notes_of(decided("mass", "class_1", "scar", undefined="scar"), HEALTHY)
    assert "Each finding counts separately: mass, class_1 (normal, benign)." in several["Decisions at one threshold"]
    assert several["listed"] == "mass; class_1 (normal, benign); scar"
    old = notes_of(decided("positive"), {})
    assert "The data set does not say whether positive is a disease." in old["Decisions at one threshold"]
