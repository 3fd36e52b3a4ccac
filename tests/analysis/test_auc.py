"""AUC, influence values and intervals, checked against independent implementations."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raygrid.analysis.auc import (
    auc_with_influence,
    effective_patients,
    half_width,
    hanley_mcneil_error,
    interval,
    mean_influence,
    ratio_influence,
    ratio_interval,
    standard_error,
)
from raygrid.errors import DataError

RNG = np.random.default_rng


def _binary(labels, scores, clusters=None):
    """The estimate of one score set of one finding."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    clusters = np.arange(len(labels)) if clusters is None else np.asarray(clusters)
    return auc_with_influence(labels[:, None].astype(np.uint8), scores[None, :, None], clusters)


def _delong_by_pairs(labels, scores):
    """DeLong 1988, literally: the m by n matrix of pair comparisons and the variances of its row and column means."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    rows, columns = wins.mean(axis=1), wins.mean(axis=0)
    return wins.mean(), np.var(rows, ddof=1), np.var(columns, ddof=1), len(positive), len(negative)


@pytest.mark.parametrize("decimals", [9, 1, 0], ids=["no ties", "some ties", "mostly ties"])
def test_auc_equals_sklearn_including_ties(decimals):
    rng = RNG(1)
    labels = (rng.random((200, 4)) < 0.3).astype(np.uint8)
    scores = np.round(rng.normal(size=(5, 200, 4)) + labels, decimals)
    estimate = auc_with_influence(labels, scores, np.arange(200))
    for k in range(5):
        expected = np.mean([roc_auc_score(labels[:, j], scores[k, :, j]) for j in range(4)])
        assert estimate.auc[k] == pytest.approx(expected, abs=1e-12)


def test_blocks_of_score_sets_equal_single_sets(monkeypatch):
    rng = RNG(2)
    labels = (rng.random((60, 2)) < 0.4).astype(np.uint8)
    scores, clusters = rng.normal(size=(7, 60, 2)), np.arange(60) % 20
    together = auc_with_influence(labels, scores, clusters)
    monkeypatch.setattr("raygrid.analysis.auc.BLOCK_ELEMENTS", 120)
    in_blocks = auc_with_influence(labels, scores, clusters)
    np.testing.assert_array_equal(together.auc, in_blocks.auc)
    np.testing.assert_array_equal(together.influence, in_blocks.influence)


def test_variance_equals_delong_when_every_image_is_its_own_patient():
    rng = RNG(3)
    labels = (rng.random(300) < 0.4).astype(int)
    scores = np.round(rng.normal(size=300) + labels, 1)
    auc, s10, s01, m, n = _delong_by_pairs(labels, scores)
    estimate = _binary(labels, scores)
    variance = standard_error(estimate.influence[0]) ** 2
    # DeLong divides by m - 1 and n - 1; we divide by m and n and correct once, for the effective number of patients.
    influence = estimate.influence[0]
    patients = 2 * sum(influence**2) ** 2 / sum(influence**4)
    assert 150 < patients < 300
    assert estimate.auc[0] == pytest.approx(auc, abs=1e-12)
    assert variance == pytest.approx(
        patients / (patients - 1) * (s10 * (m - 1) / m**2 + s01 * (n - 1) / n**2), rel=1e-10
    )
    assert variance == pytest.approx(s10 / m + s01 / n, rel=0.01)


def test_influence_worked_out_by_hand():
    # Positives score 3 and 1, negatives 2 and 0: of four pairs, three are right.
    estimate = _binary([1, 1, 0, 0], [3.0, 1.0, 2.0, 0.0], clusters=[0, 1, 1, 0])
    assert estimate.auc[0] == 0.75
    # patient 0: (1 - .75)/2 + (1 - .75)/2; patient 1: (.5 - .75)/2 + (.5 - .75)/2
    np.testing.assert_allclose(estimate.influence[0], [0.25, -0.25])


def test_influences_sum_to_zero():
    rng = RNG(4)
    labels = (rng.random((100, 3)) < 0.3).astype(np.uint8)
    estimate = auc_with_influence(labels, rng.normal(size=(4, 100, 3)), np.arange(100) % 30)
    np.testing.assert_allclose(estimate.influence.sum(axis=1), 0, atol=1e-12)


def test_duplicated_images_of_a_patient_add_no_certainty():
    rng = RNG(5)
    labels = (rng.random(150) < 0.4).astype(int)
    scores = rng.normal(size=150) + labels
    once, doubled = _binary(labels, scores), _binary(np.tile(labels, 2), np.tile(scores, 2), np.tile(np.arange(150), 2))
    naive = _binary(np.tile(labels, 2), np.tile(scores, 2))
    assert interval(doubled.auc[0], doubled.influence[0], degenerate_n=(1, 1)) == pytest.approx(
        interval(once.auc[0], once.influence[0], degenerate_n=(1, 1)), abs=1e-12
    )
    assert standard_error(naive.influence[0]) == pytest.approx(
        standard_error(once.influence[0]) / math.sqrt(2), rel=0.01
    )


@pytest.mark.parametrize(("patients", "prevalence"), [(80, 0.5), (60, 0.2)])
def test_interval_covers_the_true_auc_of_clustered_images(patients, prevalence):
    """500 simulated test sets, 3 images of each patient, patient effect as large as the image effect."""
    rng, runs = RNG(6), 500
    truth = 0.5 * math.erfc(-(1.2 / math.sqrt(2 * (0.7 + 0.7))) / math.sqrt(2))  # P(N(1.2, 2·1.4) > 0)
    clusters = np.repeat(np.arange(patients), 3)
    hits = naive_hits = 0
    for _ in range(runs):
        labels = np.repeat(rng.random(patients) < prevalence, 3).astype(int)
        effect = np.repeat(rng.normal(scale=math.sqrt(0.7), size=patients), 3)
        scores = 1.2 * labels + effect + rng.normal(scale=math.sqrt(0.7), size=3 * patients)
        for grouped in (True, False):
            one = _binary(labels, scores, clusters if grouped else None)
            low, high = interval(one.auc[0], one.influence[0], degenerate_n=(1, 1))
            hits += grouped and low <= truth <= high
            naive_hits += not grouped and low <= truth <= high
    assert 0.93 <= hits / runs <= 0.98
    assert naive_hits / runs < 0.90


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_perfect_auc_has_a_width(value):
    scores = np.arange(100.0) if value else -np.arange(100.0)
    estimate = _binary(np.arange(100) >= 50, scores)
    assert estimate.auc[0] == value
    assert not estimate.influence.any()
    low, high = interval(value, estimate.influence[0], degenerate_n=(50, 50))
    assert low <= value <= high
    # By hand for 50 + 50: A~ = 50.5/51, its error .0099, logit 4.615 ± 1.96 · 1.02, so a width of 7 points.
    assert 0.05 < high - low < 0.09


def test_all_scores_tied_has_a_width():
    estimate = _binary([0, 1] * 20, np.ones(40))
    low, high = interval(estimate.auc[0], estimate.influence[0], degenerate_n=(20, 20))
    assert estimate.auc[0] == 0.5
    assert low < 0.4
    assert high > 0.6


def test_hanley_mcneil_example():
    # Hanley & McNeil 1982, table III: 58 normal and 51 abnormal CT images, AUC 0.893, standard error 0.032.
    assert hanley_mcneil_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)


def test_logit_interval_worked_out_by_hand():
    influence = np.array([0.05, -0.05])  # se = sqrt(2/1 · 0.005) = 0.1
    low, high = interval(0.8, influence, degenerate_n=(1, 1))
    # logit(0.8) = ln 4 = 1.386294; reach = 12.706205 (t, one degree of freedom) · 0.1 / 0.16 = 7.941378
    assert low == pytest.approx(1 / (1 + math.exp(-(1.386294 - 7.941378))), abs=1e-6)
    assert high == pytest.approx(1 / (1 + math.exp(-(1.386294 + 7.941378))), abs=1e-6)


def test_patients_without_influence_do_not_narrow_an_interval():
    few = np.array([0.02, -0.02, 0.02, -0.02])
    many = np.concatenate([few, np.zeros(96)])
    # by hand: 2 · (4 · 0.0004)² / (4 · 0.0004²) = 8 of the 100, and the 4 themselves where there are no more
    assert effective_patients(few) == 4
    assert effective_patients(many) == pytest.approx(8)
    # se = sqrt(8/7 · 0.0016) = 0.0427618; t with 7 degrees of freedom is 2.364624
    assert half_width(many) == pytest.approx(2.364624 * 0.0427618, rel=1e-5)
    assert effective_patients(np.full(300, 1e-200)) == 300


def test_mean_and_ratio_carry_the_covariance():
    first, second = np.array([0.1, -0.1, 0.0]), np.array([-0.1, 0.1, 0.0])
    assert standard_error(mean_influence(np.stack([first, second]))) == 0
    # A ratio of two AUCs that move together in proportion does not move: A = B/2, dA = dB/2.
    np.testing.assert_allclose(ratio_influence(0.4, 0.5 * first, 0.8, first), 0, atol=1e-15)
    np.testing.assert_allclose(ratio_influence(0.4, np.zeros(3), 0.8, first), -0.4 / 0.64 * first)


def test_ratio_influence_is_the_derivative():
    attacked, clean = np.array([0.01, -0.03, 0.02]), np.array([0.02, 0.01, -0.03])
    step = 1e-6
    numeric = ((0.5 + step * attacked) / (0.9 + step * clean) - 0.5 / 0.9) / step
    np.testing.assert_allclose(ratio_influence(0.5, attacked, 0.9, clean), numeric, rtol=1e-4)


def test_ratio_interval_by_hand_and_at_zero():
    influence = np.array([0.05, -0.05])  # se = 0.1
    low, high = ratio_interval(0.5, influence, degenerate_n=(10, 10))
    reach = 12.706205 * 0.1 / 0.5
    assert (low, high) == pytest.approx((0.5 * math.exp(-reach), 0.5 * math.exp(reach)), rel=1e-5)
    low, high = ratio_interval(0.0, np.zeros(2), degenerate_n=(10, 10))
    assert low == 0
    assert high > 0.05


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_raises_and_the_set_is_named(bad):
    scores = RNG(7).normal(size=(3, 10, 1))
    scores[2, 4, 0] = bad
    labels = (np.arange(10) % 2).astype(np.uint8)[:, None]
    with pytest.raises(DataError, match="score set 2: 1 of 10"):
        auc_with_influence(labels, scores, np.arange(10))


def test_a_finding_without_both_classes_is_named():
    labels = np.zeros((10, 3), dtype=np.uint8)
    labels[:4, 1] = 1
    labels[:, 2] = 1
    scores = RNG(8).normal(size=(1, 10, 3))
    estimate = auc_with_influence(labels, scores, np.arange(10))
    assert estimate.used_labels == (1,)
    assert estimate.unused_labels == (0, 2)
    assert estimate.auc[0] == pytest.approx(roc_auc_score(labels[:, 1], scores[0, :, 1]), abs=1e-12)
    with pytest.raises(DataError, match="both classes"):
        auc_with_influence(labels[:, :1], scores[:, :, :1], np.arange(10))


def test_inputs_of_wrong_shapes_raise():
    labels, scores = np.array([[0], [1]], dtype=np.uint8), np.zeros((1, 2, 1))
    with pytest.raises(DataError, match="without gaps"):
        auc_with_influence(labels, scores, np.array([0, 2]))
    with pytest.raises(DataError, match="expected labels"):
        auc_with_influence(labels, scores[0], np.array([0, 1]))
    with pytest.raises(DataError, match="0 or 1"):
        auc_with_influence(labels * 2, scores, np.array([0, 1]))
    with pytest.raises(DataError, match="at least 2 patients"):
        interval(0.5, np.zeros(1), degenerate_n=(1, 1))
    with pytest.raises(DataError, match="above 0"):
        ratio_influence(0.1, np.zeros(2), 0.0, np.zeros(2))
