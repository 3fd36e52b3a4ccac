"""The page about one model: every number on it is worked out by hand from a small frame."""

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pandas as pd
import pytest
from assessment_pages import TARGET, A, B, C, D, assessment, influences, page, small_frame
from report_pages import page_results

from raygrid.errors import DataError
from raygrid.report.study_page import render_report
from raygrid.report.table_text import PHANTOM_NOTICE
from raygrid.report.target_page import headline
from raygrid.spec import InputSpec


def text_of(html: str) -> str:
    """Return what a reader sees, in one line."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.fixture(scope="module")
def shown() -> str:
    return text_of(page())


def test_the_headline_is_the_mean_over_look_alikes_at_the_smaller_epsilon(shown: str) -> None:
    # (0.55 + 0.70 + 0.40 + 0.75) / 4; all move together, so a standard error of (0.02 * 3 + 0.04) / 4 = 0.025:
    # logit 0.4055 ± 1.96 * 0.025 / 0.24 = 0.2042
    assert (
        "An attacker who trains a look-alike on other patients' images and may change each image by at most 2.55 of "
        "255 grey levels in each pixel lowers this model's AUC from 0.80 to 0.60 (0.55 to 0.65)."
    ) in shown
    # influences cancel in the loss but for those through C: 0.02 - 0.025, a standard error of 0.005
    assert "That is a loss of 0.20 (0.19 to 0.21), mean over 4 look-alikes, FGSM and PGD at ε = 0.02." in shown
    # PGD (0.4 + 0.6 + 0.3 + 0.66) / 4: 0.49; logit -0.0400 ± 1.96 * 0.025 / 0.2499 = 0.1961
    assert "at most 5.1 of 255 grey levels in each pixel, PGD leaves 0.49 (0.44 to 0.54)." in shown


def test_the_best_look_alike_stands_with_its_interval_and_with_a_warning(shown: str) -> None:
    # standard error 0.04: logit -0.4055 ± 1.96 * 0.04 / 0.24 = 0.3267
    assert f"Through the best of them, {C.name}, 0.40 (0.32 to 0.48) is left." in shown
    assert "selected and evaluated on the same images" in shown


def test_the_control_says_whether_the_pattern_harms(shown: str) -> None:
    assert "shuffled over the image, leave 0.78" in shown
    assert "the pattern of the changes does damage beyond their size" in shown
    frame = small_frame()
    frame.loc[frame["condition"] == "control", "auc"] = 0.5
    assert "no additional damage of their pattern was found" in text_of(page(assessment(frame)))


def test_without_a_sure_loss_none_is_claimed() -> None:
    frame = small_frame()
    attacked = frame["condition"] == "adversarial"
    frame.loc[attacked, "auc"] = 0.79
    frame["influence"] = [influences(-0.02 if one else 0.02) for one in attacked]
    sentence = headline(assessment(frame))  # 0.01 less, with a standard error of 0.04
    assert "does not measurably lower this model's AUC: 0.80 before the attack, 0.79" in sentence


def test_clean_performance_names_images_patients_and_findings(shown: str) -> None:
    # standard error 0.02: logit 1.3863 ± 1.96 * 0.02 / 0.16 = 0.2450
    assert "AUC 0.800 (0.758 to 0.836) on 2,000 test images of 2,000 patients" in shown
    assert "lesion 1000, 1000 0.800 82% 90%" in shown


def test_damage_stands_for_each_attack_and_epsilon(shown: str) -> None:
    # FGSM (0.6 + 0.7 + 0.4 + 0.74) / 4 and PGD (0.5 + 0.7 + 0.4 + 0.76) / 4; 0.1 less at the larger epsilon
    rows = re.findall(
        r"(FGSM|PGD) (0\.0\d) \((\d\.\d+)\) (\d\.\d+) \[[^]]+\] (\d\.\d+) \[[^]]+\] (\d\.\d+) \[[^]]+\] 4", shown
    )
    assert rows == [
        ("FGSM", "0.02", "2.55", "0.610", "0.400", "0.780"),
        ("FGSM", "0.04", "5.1", "0.510", "0.300", "0.780"),
        ("PGD", "0.02", "2.55", "0.590", "0.400", "0.780"),
        ("PGD", "0.04", "5.1", "0.490", "0.300", "0.780"),
    ]


def test_look_alikes_are_sorted_by_damage_and_say_what_they_needed(shown: str) -> None:
    section = shown[shown.index("Damage by look-alike") : shown.index("What mattered", 2000)]
    places = [section.index(surrogate.name) for surrogate in (C, A, B, D)]  # 0.40, 0.55, 0.70, 0.75
    assert places == sorted(places)
    assert f"{C.name} 0.400" in section
    assert "ImageNet weights one half of the patients (d1)" in section
    assert "random weights the other half (d2)" in section
    assert "0.910" in section  # its own validation AUC


def test_what_mattered_is_a_paired_difference_with_its_interval(shown: str) -> None:
    # C less A: -0.20 and -0.10; errors 0.04 less 0.02, a standard error of 0.02
    assert "Start: ImageNet weights instead of random weights -0.150 [-0.189, -0.111] more damage 2" in shown
    # B less A: 0.10 and 0.20; D less A: 0.14 and 0.26; all of one influence
    assert re.search(
        r"the other half \(d2\) instead of one half of the patients \(d1\) \+0\.150 \[\S+ \S+ less damage 2", shown
    )
    assert re.search(r"Architecture: b instead of a \+0\.200 \[\S+ \S+ less damage 2", shown)
    # PGD less FGSM: -0.10 through A, 0.02 through D, nothing through the others
    assert re.search(r"Attack: PGD instead of FGSM -0\.020 \[\S+ \S+ more damage 4", shown)


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    frame = small_frame()
    attacked = frame["condition"] == "adversarial"
    frame.loc[attacked, "auc"] = 0.6
    frame["influence"] = [influences(0.02)] * len(frame)
    text = text_of(page(assessment(frame)))
    assert "PGD instead of FGSM 0.000 [0.000, 0.000] no clear difference 4" in text
    assert not re.search(r"[-+]0\.000", text)


def test_decisions_are_counts_of_a_hundred_images(shown: str) -> None:
    # sensitivity (0.5 + 0.7 + 0.1 + 0.3) / 4, specificity (0.6 * 3 + 0.2) / 4; the best look-alike is C
    assert (
        "Of 100 images with lesion the model finds 82; under attack 40, through the best look-alike 10. Of 100 without "
        "it, it clears 90; under attack 50, through the best look-alike 20."
    ) in shown


def test_the_page_says_what_was_received_seen_and_not_said(shown: str) -> None:
    assert "as JPEG files of quality 90" in shown
    assert "PGD 0.02 2.55 41.0 0.987" in shown
    assert "A good result does not show that the system is safe" in shown
    assert "clinic.model:predict" in shown
    assert "feedfeed" in shown
    assert "Notes on the data 2 of 9 test images are <also> in development" in shown
    assert "with lesion: probability 0.93, attacked: probability 0.12" in page()


@pytest.mark.parametrize(
    ("received", "dtype", "sentence"),
    [
        ("exact", "float32", "exact values of the attack, finer than the 256 grey levels of an image file."),
        ("exact", "uint8", "as arrays of bytes: each change was rounded to whole grey levels towards the clean image"),
        ("png", "float32", "as 8-bit PNG files: each change was rounded to whole grey levels towards the clean image"),
        ("dicom", "float32", "as 8-bit DICOM files: each change was rounded to whole grey levels towards the clean"),
        ("jpeg:80", "float32", "as JPEG files of quality 80: each change was rounded to whole grey levels towards"),
    ],
)
def test_the_way_to_the_target_is_described_as_it_was(received: str, dtype: str, sentence: str) -> None:
    taken = InputSpec(white=255.0, dtype="uint8") if dtype == "uint8" else InputSpec()
    text = text_of(page(replace(assessment(), target=replace(TARGET, received=received, input=taken))))
    assert sentence in text
    assert ("rounded to whole grey levels" in text) == ((received, dtype) != ("exact", "float32"))
    assert "a little less of it" not in text  # measured, files did more harm in 12 of 12 cells


@pytest.mark.parametrize(
    ("received", "kind", "size", "stayed"),
    [
        ("png", "http", 0, True),
        ("png", "http", 64, False),  # the endpoint gets files of another size, made after the rounding
        ("png", "callable", 64, True),  # a local target opens files of the study's size
        ("jpeg:80", "http", 64, False),
    ],
)
def test_the_budget_is_claimed_only_where_nothing_is_rounded_after_it(
    received: str, kind: str, size: int, stayed: bool
) -> None:
    source = "http://localhost/predict" if kind == "http" else TARGET.source
    target = replace(TARGET, kind=kind, source=source, received=received, input=InputSpec(size=size))
    text = text_of(page(replace(assessment(), target=target)))
    assert "towards the clean image" in text
    assert ("so it stayed within its budget" in text) == stayed
    assert ("rounded to the nearest level" in text) != stayed


def test_what_a_budget_left_out_is_listed_and_not_compared(shown: str) -> None:
    assert "The query budget" not in shown
    frame = small_frame()
    gone = (frame["surrogate"] == B.name) & (frame["attack"] == "fgsm")
    one = assessment(frame[~gone], not_asked={(B.name, "fgsm@0.02"), (B.name, "fgsm@0.04")})
    assert [a.key for a in one.reference] == ["pgd@0.02"]  # FGSM was asked through three only
    assert one.attacked is not None
    assert one.attacked.value == pytest.approx((0.5 + 0.7 + 0.4 + 0.76) / 4)
    text = text_of(page(one))
    assert f"FGSM at ε = 0.04 through 1: {B.name}" in text
    assert "The query budget does not cover every attack" in text


def test_a_small_loss_is_called_small_and_told_with_as_many_digits_as_it_takes() -> None:
    frame = small_frame()
    attacked = frame["condition"] == "adversarial"
    rows = frame[attacked].assign(auc=0.798, influence=[influences(0.0205)] * int(attacked.sum()))
    text = text_of(page(assessment(pd.concat([frame[~attacked], rows], ignore_index=True))))
    # logit 1.3737 ± 1.961 * 0.0205 / 0.1612 = 0.2494
    assert "lowers this model's AUC a little, from 0.800 to 0.798 (0.755 to 0.835)." in text
    assert "That is a loss of 0.002 (0.001 to 0.003)" in text  # a standard error of 0.0005


def test_clean_scores_alone_make_a_page() -> None:
    frame = small_frame()
    text = text_of(page(assessment(frame[frame["condition"] == "clean"])))
    assert "No attack has been scored yet. On clean images, this model's AUC is 0.80 (0.76 to 0.84)" in text


def whole_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the columns that only the report reads."""
    whole = frame.assign(target_init="", target_split="", target_instance=-1, target_signature="t", white_box=False)
    whole = whole.assign(surrogate_instance=0, surrogate_signature="s", clean_auc=0.6, relative_auc=1.0)
    return whole.assign(auc_low=0.5, auc_high=0.7, relative_low=0.9, relative_high=1.1)


def report_on(frame: pd.DataFrame, **facts: Any) -> str:
    """Return the report of the study that assesses the target."""
    with page_results(assessment().study, auc=frame, trained=A, phantom=False, **facts) as results:
        return render_report(results, {})


def test_the_report_tells_what_was_not_asked_from_what_is_missing() -> None:
    frame = whole_frame(small_frame())
    fgsm = (frame["attack"] == "fgsm") & (frame["epsilon"] == 0.02)
    frame = frame[~(fgsm & frame["surrogate"].isin([A.name, B.name]))]
    unasked = {("eye", "external-deployed"): {(B.name, "fgsm@0.02")}}
    report = report_on(frame, not_asked=unasked)
    assert report.count('title="outside the query budget">–') == 1
    assert report.count('title="missing">×') == 1  # through A
    text = text_of(report)
    assert "1 pairing is incomplete" in text
    assert f"{A.name} external-deployed 2 of 8" in text
    assert "Outside the query budget: eye external-deployed: 1 of 16 (surrogate, attack) cells." in text


def test_a_target_that_learned_little_is_doubted_on_its_page_and_voids_nothing() -> None:
    assert 'id="unlearned"' not in page()
    frame = small_frame()
    frame.loc[frame["condition"] == "clean", "auc"] = 0.6
    assert 'id="unlearned"' in page(assessment(frame))
    report = report_on(whole_frame(frame))
    assert 'id="void"' not in report
    assert f'<a href="assessment-eye-deployed.html">eye deployed</a>: {headline(assessment(frame))}' in unescape(report)
    assert 'id="tables"' not in report  # the zoo is the attacker's alone
    assert f"{A.name} → external-deployed" in report


def test_a_target_has_one_clean_row() -> None:
    frame = small_frame()
    with pytest.raises(DataError, match="has 0 clean rows"):
        assessment(frame[frame["condition"] != "clean"])
    with pytest.raises(DataError, match="has 2 clean rows"):
        assessment(pd.concat([frame, frame.head(1)]))


def test_the_page_loads_nothing_and_is_marked_where_images_are_generated() -> None:
    generated, real = page(), page(phantom=False)
    assert generated.count(PHANTOM_NOTICE) > 8
    assert PHANTOM_NOTICE not in real
    for reference in re.findall(r'(?:src|href)="([^"]*)"', real):
        assert reference.startswith(("data:image/", "#")) or reference == "report.html"
    assert page() == generated
