"""The pages tell images that attacks left unchanged, and say nothing where there are none; names of attacks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from assessment_pages import TARGET, A, assessment
from auc_frames import small_study
from report_pages import MODELS, example_frame, page_results

from raygrid.analysis import tables
from raygrid.report import table_text
from raygrid.report.study_page import render_report
from raygrid.report.target_page import render_target_page
from raygrid.report.unmoved import unmoved_sentences
from raygrid.spec import StudySpec, TransferSpec, attack

NOTHING = dict.fromkeys(
    ("attacked", "images", "zero_gradient", "not_finite_gradient", "in_levels", "any_not_finite_gradient"), 0
)


def facts(**counts: int) -> Mapping[str, Any]:
    """Return the facts of a modality whose attack `fgsm@0.02` has these counts, of 1200 images."""
    unmoved = {"fgsm@0.02": {**NOTHING, "attacked": 1200, **counts}, "pgd@0.02": {**NOTHING, "attacked": 1200}}
    return {"eye": {"num_attacked": 1200, "num_zero_gradients": 0, "unmoved": unmoved, "seconds": 1.0}}


def sentences(received: str = "exact", /, **counts: int) -> list[str]:
    target = replace(TARGET, received=received)
    with page_results(small_study(MODELS), auc=example_frame(), trained=MODELS[0], phantom=True) as results:
        return unmoved_sentences(replace(results, transfer=facts(**counts)), "eye", target)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({"images": 7}, ["FGSM at ε = 0.02 left 7 of 1,200 images unchanged."]),
        (
            {"images": 7, "zero_gradient": 3},
            ["FGSM at ε = 0.02 left 7 of 1,200 images unchanged. Of these, 3 had a gradient of zero everywhere."],
        ),
        (
            {"images": 7, "zero_gradient": 3, "not_finite_gradient": 2, "any_not_finite_gradient": 2},
            [
                "FGSM at ε = 0.02 left 7 of 1,200 images unchanged. Of these, 3 had a gradient of zero everywhere and "
                "2 had a non-finite gradient."
            ],
        ),
        (
            {"any_not_finite_gradient": 5},
            [
                "FGSM at ε = 0.02: 5 of 1,200 images had a gradient with non-finite values; these values "
                "counted as zero."
            ],
        ),
        ({"in_levels": 9}, []),  # another target received files
    ],
)
def test_each_sentence_is_printed_only_where_it_is_true(counts: dict[str, int], expected: list[str]) -> None:
    assert sentences(**counts) == expected


def test_changes_that_a_target_of_whole_levels_cannot_receive_are_told() -> None:
    assert sentences("png") == []
    assert sentences("png", in_levels=1200) == [
        "FGSM at ε = 0.02: 1,200 of 1,200 images reached the model unchanged, because all their changes were below one "
        "grey level."
    ]


def test_both_pages_tell_it_and_are_silent_without_it() -> None:
    for counts, shown in (({}, False), ({"images": 7}, True)):
        with page_results(small_study(MODELS), auc=example_frame(), trained=MODELS[0], phantom=True) as results:
            study = render_report(replace(results, transfer=facts(**counts)), {})  # type: ignore[call-arg]
        one = assessment()
        with page_results(one.study, auc=one.auc, trained=A, phantom=True) as results:
            target = render_target_page(replace(results, transfer=facts(**counts)), one, [])  # type: ignore[call-arg]
        for page in (study, target):
            assert ("FGSM at ε = 0.02 left 7 of 1,200 images unchanged" in page) == shown
            assert ('<h3 id="unmoved">Unchanged images</h3>' in page) == shown
        assert ('href="#unmoved"' in study) == shown


def test_the_psnr_of_unchanged_images_is_infinite_on_the_page() -> None:
    case = {"modality": "eye", "surrogate": A.name, "condition": "adversarial", "attack": "pgd", "epsilon": 0.02}
    unchanged = pd.DataFrame([case | {"linf": 0.0, "l2": 0.0, "psnr": float("nan"), "ssim": 1.0}])
    one = assessment(perceptibility=unchanged)
    with page_results(one.study, auc=one.auc, trained=A, phantom=True) as results:
        page = render_target_page(results, one, [])
    assert '<td class="num">0.00</td><td class="num">∞</td><td class="num">1.000</td>' in page


def test_files_written_before_the_counts_existed_give_a_page() -> None:
    with page_results(small_study(MODELS), auc=example_frame(), trained=MODELS[0], phantom=True) as results:
        old = {"eye": {"num_attacked": 10, "num_zero_gradients": 1, "unmoved": {}, "seconds": 1.0}}
        page = render_report(replace(results, transfer=old), {})  # type: ignore[call-arg]
    assert "10.00%" in page
    assert "Unchanged images" not in page


@pytest.fixture
def momentum() -> StudySpec:
    """Return a study with attacks whose persisted names leave out their momentum."""
    attacks = (attack("fgsm", 0.02), attack("di_fgsm", 0.02), attack("ti_fgsm", 0.02, suffix="8bit", eight_bit=True))
    return replace(small_study(MODELS), transfer=TransferSpec(attacks=attacks))


def test_names_of_attacks_are_those_of_their_papers_on_every_page(momentum: StudySpec) -> None:
    frame = example_frame()
    frame = frame[(frame["attack"] != "pgd") | (frame["epsilon"] == 0.02)].replace({"attack": {"pgd": "di_fgsm"}})
    visible = pd.DataFrame(
        [
            {
                "modality": "eye",
                "surrogate": MODELS[1].name,
                "condition": "adversarial",
                "attack": "di_fgsm",
                "epsilon": 0.02,
            }
        ]
    ).assign(linf=0.02, l2=1.0, psnr=34.0, ssim=0.98)
    with page_results(momentum, auc=frame, perceptibility=visible, trained=MODELS[0], phantom=True) as results:
        page = render_report(results, {})
    assert "M-DI²-FGSM" in page
    assert "TI-MI-FGSM-8bit" in page
    assert "di_fgsm" not in page.lower()
    cells = tables.table1(frame)
    assert "M-DI²-FGSM ε = 0.02" in table_text.to_terminal(1, cells)
    latex = table_text.to_latex(1, cells)
    assert r"M-DI$^{2}$-FGSM $\varepsilon$ = 0.02" in latex
    assert "²" not in latex
