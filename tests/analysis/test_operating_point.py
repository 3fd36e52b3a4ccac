"""Decisions at a fixed operating point, against numbers worked out by hand and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, confusion_matrix

from raygrid.analysis.operating_point import SPECIFICITY, decide, thresholds_of
from raygrid.analysis.tables import best_surrogates, damage_and_perceptibility, decision_table, finding_table


def logits_and_labels(num_images: int = 400, num_labels: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    labels = (generator.random((num_images, num_labels)) < (0.1, 0.3, 0.6)).astype(np.uint8)
    clean = (generator.normal(size=(2, num_images, num_labels)) + labels).astype(np.float32)
    return labels, clean, (clean + generator.normal(size=clean.shape)).astype(np.float32)


def test_the_threshold_is_the_lowest_that_gives_the_specificity_on_clean_images() -> None:
    labels, clean, _ = logits_and_labels()
    thresholds = thresholds_of(labels, clean)
    for target in range(2):
        for label in range(3):
            negative = np.sort(clean[target, labels[:, label] == 0, label])
            share = (negative <= thresholds[target, label]).mean()
            assert share >= SPECIFICITY
            assert (negative <= negative[negative < thresholds[target, label]][-1]).mean() < SPECIFICITY


def test_shares_are_those_of_scikit_learn() -> None:
    labels, clean, attacked = logits_and_labels()
    thresholds = thresholds_of(labels, clean)
    found = decide(labels, attacked, clean, thresholds)
    for target in range(2):
        for label in range(3):
            truth, above = labels[:, label], attacked[target, :, label] > thresholds[target, label]
            tn, fp, fn, tp = confusion_matrix(truth, above).ravel()
            assert found.sensitivity[target, label] == pytest.approx(tp / (tp + fn))
            assert found.specificity[target, label] == pytest.approx(tn / (tn + fp))
            was = clean[target, :, label] > thresholds[target, label]
            assert found.fooled[target, label] == pytest.approx((was != above).mean())
            probability = 1 / (1 + np.exp(-attacked[target, :, label].astype(float)))
            assert found.brier[target, label] == pytest.approx(brier_score_loss(truth, probability))
            assert found.mean_probability[target, label] == pytest.approx(probability.mean())


def test_clean_images_are_not_fooled_and_ties_with_the_threshold_are_negative() -> None:
    labels = np.array([[0], [0], [1], [1]], dtype=np.uint8)
    clean = np.array([[[1.0], [2.0], [2.0], [3.0]]], dtype=np.float32)
    thresholds = thresholds_of(labels, clean)
    assert thresholds.tolist() == [[2.0]]
    found = decide(labels, clean, clean, thresholds)
    assert (found.fooled[0, 0], found.specificity[0, 0], found.sensitivity[0, 0]) == (0, 1, 0.5)


def test_a_finding_of_one_class_has_no_share_of_the_other() -> None:
    labels = np.array([[0, 1], [0, 1]], dtype=np.uint8)
    clean = np.zeros((1, 2, 2), dtype=np.float32)
    found = decide(labels, clean, clean, thresholds_of(labels, clean))
    assert np.isnan(found.sensitivity[0, 0])
    assert found.specificity[0, 0] == 1
    assert np.isnan(found.fooled[0, 1])  # without negatives there is no threshold
    assert np.isnan(found.specificity[0, 1])


def decisions() -> pd.DataFrame:
    rows = []
    for condition, surrogate, epsilon, white, fooled in (
        ("control", "s", 0.1, False, 0.1),
        ("adversarial", "s", 0.1, False, 0.2),
        ("adversarial", "r", 0.1, False, 0.6),
        ("adversarial", "t", 0.1, True, 0.9),
        ("clean", "", 0.0, False, 0.0),
    ):
        for label, sensitivity in (("one", 0.5), ("two", 0.7)):
            rows.append(
                {"modality": "eye", "condition": condition, "surrogate": surrogate, "target": "t", "attack": "a"}
                | {"epsilon": epsilon, "white_box": white, "label": label, "auc": 1 - fooled, "fooled": fooled}
                | {"sensitivity": sensitivity, "specificity": 0.9, "brier": 0.2, "mean_probability": 0.4}
                | {"num_positive": 7, "num_negative": 9}
            )
    return pd.DataFrame(rows)


def test_decisions_are_averaged_over_black_box_pairings_and_findings() -> None:
    table = decision_table(decisions())
    assert table["condition"].tolist() == ["clean", "adversarial", "control"]
    assert table["fooled"].tolist() == pytest.approx([0, (0.2 + 0.6) / 2, 0.1])
    assert table["sensitivity"].tolist() == pytest.approx([0.6] * 3)


def test_findings_are_listed_only_if_there_are_several() -> None:
    table = finding_table(decisions())
    adversarial = table[table["condition"] == "adversarial"].set_index("label")
    assert adversarial["auc"].to_dict() == pytest.approx({"one": 1 - 0.4, "two": 1 - 0.4})
    assert adversarial["sensitivity"].to_dict() == pytest.approx({"one": 0.5, "two": 0.7})
    single = decisions().query("label == 'one'")
    assert finding_table(single).empty


def test_the_best_surrogate_is_never_the_target_itself() -> None:
    rows = [
        {"modality": "eye", "target": "t", "surrogate": s, "attack": a, "epsilon": e, "auc": auc, "white_box": s == "t"}
        | {"condition": "adversarial", "clean_auc": 0.8, "relative_auc": auc / 0.8}
        for s, a, e, auc in (
            ("t", "a", 0.1, 0.1),
            ("s", "a", 0.1, 0.4),
            ("s", "b", 0.1, 0.6),
            ("r", "a", 0.1, 0.3),
            ("r", "b", 0.1, 0.9),
            ("r", "a", 0.2, 0.0),
        )
    ]
    (row,) = best_surrogates(pd.DataFrame(rows), 0.1).to_dict("records")
    assert (row["surrogate"], row["target"]) == ("s", "t")
    assert (row["auc"], row["mean_auc"]) == (pytest.approx(0.5), pytest.approx((0.5 + 0.6) / 2))
    assert best_surrogates(pd.DataFrame(rows), 0.7).empty


def test_damage_and_perceptibility_share_a_row() -> None:
    auc = decisions().assign(relative_auc=lambda frame: frame["auc"] / 0.8)
    perceptibility = pd.DataFrame(
        [
            {"modality": "eye", "surrogate": s, "condition": c, "attack": "a", "epsilon": 0.1, "ssim": ssim}
            | {"linf": 0.1, "l2": 1.0, "psnr": 30.0, "num_images": 3}
            for s, c, ssim in (("s", "adversarial", 0.9), ("r", "adversarial", 0.8), ("s", "control", 0.95))
        ]
    )
    table = damage_and_perceptibility(auc, perceptibility).set_index("condition")
    assert table["ssim"].to_dict() == pytest.approx({"adversarial": 0.85, "control": 0.95})
    assert table.at["adversarial", "relative_auc"] == pytest.approx((0.8 + 0.4) / 2 / 0.8)
