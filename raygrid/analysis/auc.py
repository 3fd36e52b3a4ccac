"""AUC with patient-clustered uncertainty, carried as one influence value per patient.

AUCs are later averaged and divided (over architecture pairs and attacks, attacked ÷ clean). They come from the same
test patients and are correlated. The influence of every patient on every AUC keeps all covariances: the influence of a
mean is the mean of the influences, and no interval assumes independence.

Sources:
    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837 (structural components of an AUC);
    Obuchowski 1997, Biometrics 53:567 (components summed per cluster);
    Hanley & McNeil 1982, Radiology 143:29 (standard error from the AUC alone; here only for AUCs of exactly 0 or 1);
    Pepe 2003, The Statistical Evaluation of Medical Tests, 5.2 (interval on the logit scale);
    Satterthwaite 1946, Biometrics Bulletin 2:110 (how many patients a variance rests on).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from raygrid.errors import DataError

Floats = NDArray[np.float64]

BLOCK_ELEMENTS = 2**21  # scores ranked at once: 16 MiB per float64 temporary, about ten of them


@dataclass(frozen=True)
class AucEstimate:
    """Macro AUCs of several score sets over the same images.

    Attributes:
        auc: (K,) mean AUC over `used_labels`.
        influence: (K, P) influence of every patient; each row sums to 0.
        by_label: (K, len(used_labels)) the AUCs that are averaged.
        used_labels: findings with both classes among the images, the ones averaged.
        unused_labels: findings without positives or without negatives, left out of the mean.
    """

    auc: Floats
    influence: Floats
    by_label: Floats
    used_labels: tuple[int, ...]
    unused_labels: tuple[int, ...]


def auc_with_influence(labels: NDArray[Any], scores: NDArray[Any], clusters: NDArray[Any]) -> AucEstimate:
    """Return the macro AUC of every score set and the influence of every patient on it.

    With V10_i the share of negatives that positive i beats (ties count half), V01_j the share of positives that beat
    negative j and A the AUC, image i adds (V10_i - A) / m and image j adds (V01_j - A) / n to the influence of its
    patient; findings are averaged. Then var(AUC) = n / (n - 1) · Σ_p influence_p², see `effective_patients`.
    (Obuchowski uses one such factor per class. One common factor keeps means additive.)

    Args:
        labels: (n, L) zeros and ones.
        scores: (K, n, L), any float type; ranked in float64.
        clusters: (n,) patient of every image, 0..P-1, each with at least one image.

    Raises:
        DataError: if shapes or patients do not match, a score is not finite, or no finding has both classes.

    Source: DeLong 1988 eq. 5; Obuchowski 1997 sec. 3.
    """
    num_patients = _check_inputs(labels, scores, clusters)
    positives = labels.sum(axis=0, dtype=np.int64)
    has_both = (positives > 0) & (positives < len(labels))
    used = tuple(int(label) for label in np.flatnonzero(has_both))
    if not used:
        raise DataError(f"none of the {labels.shape[1]} findings has both classes among {len(labels)} images")
    by_patient = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters[by_patient], np.arange(num_patients))
    by_label = np.zeros((len(scores), len(used)))
    influence = np.zeros((len(scores), num_patients))
    for block in _blocks(len(scores), len(labels)):
        part = scores[block]
        _check_finite(part, block.start)
        for place, label in enumerate(used):
            value, deviation = _structural_components(part[:, :, label].astype(np.float64), labels[:, label] == 1)
            by_label[block, place] = value
            influence[block] += np.add.reduceat(np.ascontiguousarray(deviation[:, by_patient]), starts, axis=1)
    unused = tuple(int(label) for label in np.flatnonzero(~has_both))
    auc = np.zeros(len(scores))
    for place in range(len(used)):  # in a fixed order: the sum does not depend on the number of score sets
        auc += by_label[:, place]
    return AucEstimate(auc / len(used), influence / len(used), by_label, used, unused)


def effective_patients(influence: Floats) -> float:
    """Return the effective number of patients behind the variance of an estimate, from 2 to P.

    Few patients with the finding carry most of the influence; the variance is then as uncertain as one from so few
    patients. n = 2 (Σ I²)² / Σ I⁴. The factor for normal influences would be 3 (Satterthwaite 1946). Influences of few
    patients are skewed; with a factor of 2 the intervals have their nominal coverage (benchmarks/interval_coverage.py).

    Raises DataError for P < 2.
    """
    num_patients = len(influence)
    if num_patients < 2:
        raise DataError(f"an interval needs at least 2 patients, got {num_patients}")
    squares = np.square(influence / (np.abs(influence).max() or 1.0))
    total = float(squares.sum())
    return min(float(num_patients), 2 * total**2 / float(np.square(squares).sum())) if total else float(num_patients)


def standard_error(influence: Floats) -> float:
    """Return the standard error of an estimate with these influences, (P,). Raises DataError for P < 2."""
    patients = effective_patients(influence)
    return math.sqrt(patients / (patients - 1) * float(np.sum(np.square(influence))))


def half_width(influence: Floats, level: float = 0.95) -> float:
    """Return half the width of the interval of an estimate with these influences, (P,).

    Student's t with the effective number of patients, less one, as degrees of freedom.

    Raises DataError for P < 2, or for a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise DataError(f"level is {level}; expected between 0 and 1")
    freedom = effective_patients(influence) - 1
    return float(stdtrit(freedom, (1 + level) / 2)) * standard_error(influence)


def interval(
    value: float, influence: Floats, *, level: float = 0.95, degenerate_n: tuple[int, int]
) -> tuple[float, float]:
    """Return the (low, high) confidence interval of an AUC or of a mean of AUCs.

    It is computed on the logit scale and mapped back, expit(logit A ± t · se / (A (1 - A))), and stays inside (0, 1).
    That width is zero if the structural components do not vary (AUC of exactly 0 or 1, or all scores tied). The
    interval then uses the Hanley-McNeil standard error at the AUC shrunk by half an image,
    A~ = (k A + 1/2) / (k + 1) with k = min(m, n), and is widened to include the AUC itself.
    (Half a *pair*, (m n A + 1/2) / (m n + 1), would treat pairs as independent; on the logit scale it is useless.)

    Args:
        value: the AUC, in [0, 1].
        influence: (P,) influence of every patient on it.
        level: coverage.
        degenerate_n: numbers of (positives, negatives), used only if the components do not vary.

    Raises:
        DataError: if there are fewer than 2 patients, or the value lies outside [0, 1].

    Source: Pepe 2003 (5.2); Hanley & McNeil 1982 eq. 2.
    """
    if not 0 <= value <= 1:
        raise DataError(f"an AUC lies between 0 and 1, got {value}")
    reach = half_width(influence, level)
    if 0 < value < 1 and reach > 0:
        return _logit_interval(value, reach)
    shrunk, error = _degenerate(value, degenerate_n)
    low, high = _logit_interval(shrunk, NormalDist().inv_cdf((1 + level) / 2) * error)
    return min(low, value), max(high, value)


def ratio_interval(
    value: float, influence: Floats, *, level: float = 0.95, degenerate_n: tuple[int, int]
) -> tuple[float, float]:
    """Return the (low, high) confidence interval of a relative AUC (attacked ÷ clean) or of a mean of them.

    It is computed on the log scale: value · exp(± t · se / value). A ratio of 0 has the upper bound of an AUC of 0.
    A ratio of 1 with influences of 0 (no rank changed) is exact for these patients: its interval has no width.

    Raises:
        DataError: if there are fewer than 2 patients, or the ratio is negative.
    """
    if value < 0:
        raise DataError(f"a relative AUC is not negative, got {value}")
    if value == 0:
        return interval(0.0, np.zeros_like(influence), level=level, degenerate_n=degenerate_n)
    reach = min(half_width(influence, level) / value, 700.0)  # exp overflows beyond
    return value * math.exp(-reach), value * math.exp(reach)


def mean_influence(influences: Floats) -> Floats:
    """Return the influence, (P,), of the mean of K estimates over the same patients, from their (K, P) influences."""
    return np.asarray(np.mean(influences, axis=0, dtype=np.float64))


def ratio_influence(attacked: float, attacked_influence: Floats, clean: float, clean_influence: Floats) -> Floats:
    """Return the influence, (P,), of attacked ÷ clean: (dA - (A / B) dB) / B.

    Raises:
        DataError: if the clean AUC is 0.
    """
    if clean <= 0:
        raise DataError(f"clean AUC is {clean}; a relative AUC needs a clean AUC above 0")
    return np.asarray((attacked_influence - attacked / clean * clean_influence) / clean)


def hanley_mcneil_error(auc: float, num_positive: int, num_negative: int) -> float:
    """Return the standard error of an AUC from only its value and the class counts.

    Source: Hanley & McNeil 1982 eq. 2, with Q1 = A / (2 - A) and Q2 = 2 A² / (1 + A).
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (num_positive - 1) * (q1 - auc**2) + (num_negative - 1) * (q2 - auc**2)
    return math.sqrt(spread / (num_positive * num_negative))


def _check_inputs(labels: NDArray[Any], scores: NDArray[Any], clusters: NDArray[Any]) -> int:
    if scores.ndim != 3 or labels.shape != scores.shape[1:] or clusters.shape != labels.shape[:1]:
        raise DataError(
            "expected labels (n, L), scores (K, n, L), clusters (n,); "
            f"got {labels.shape}, {scores.shape}, {clusters.shape}"
        )
    if len(labels) == 0:
        raise DataError("no images; an AUC needs at least one image of each class")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"labels must be 0 or 1, got {np.unique(labels)[:5].tolist()}")
    num_patients = int(clusters.max()) + 1
    if clusters.min() < 0 or len(np.unique(clusters)) != num_patients:
        raise DataError(f"clusters must number the patients 0 to {num_patients - 1} without gaps")
    return num_patients


def _check_finite(part: NDArray[Any], first: int) -> None:
    for offset, one in enumerate(part):
        num_bad = one.size - int(np.count_nonzero(np.isfinite(one)))
        if num_bad:
            raise DataError(f"score set {first + offset}: {num_bad} of {one.size} scores are NaN or infinite")


def _blocks(num_sets: int, num_images: int) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // num_images)
    for start in range(0, num_sets, step):
        yield slice(start, min(start + step, num_sets))


def _structural_components(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the AUC, (k,), of scores (k, n), and every image's share of the deviation from it, (k, n)."""
    share = _placements(scores, positive)
    num_positive = int(positive.sum())
    # Contiguous rows are summed in the same order whatever their number: an AUC does not depend on the other sets.
    value = np.ascontiguousarray(share[:, positive]).mean(axis=1)
    weight = np.where(positive, 1 / num_positive, 1 / (len(positive) - num_positive))
    return value, (share - value[:, None]) * weight


def _placements(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Return for every positive the share of negatives below it, for every negative the share of positives above it."""
    order = np.argsort(scores, axis=1)
    ranked, ranked_positive = np.take_along_axis(scores, order, axis=1), positive[order]
    sets, images = scores.shape
    column = np.arange(images)
    differs = ranked[:, 1:] != ranked[:, :-1]
    edge = np.ones((sets, 1), dtype=np.bool_)
    # The first and last rank in the tie group of every ranked score.
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), column, 0), axis=1)
    ends = np.where(np.hstack([differs, edge]), column, images - 1)
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    seen = np.zeros((sets, images + 1), dtype=np.int64)
    np.cumsum(ranked_positive, axis=1, out=seen[:, 1:])
    positives_below = (np.take_along_axis(seen, first, axis=1) + np.take_along_axis(seen, last + 1, axis=1)) / 2
    negatives_below = (first + last + 1) / 2 - positives_below
    num_positive = int(positive.sum())
    beaten = np.where(
        ranked_positive, negatives_below / (images - num_positive), (num_positive - positives_below) / num_positive
    )
    share: Floats = np.empty(beaten.shape)
    np.put_along_axis(share, order, beaten, axis=1)
    return share


def _degenerate(value: float, degenerate_n: tuple[int, int]) -> tuple[float, float]:
    num_positive, num_negative = (max(1, count) for count in degenerate_n)
    fewer = min(num_positive, num_negative)
    shrunk = (fewer * value + 0.5) / (fewer + 1)
    return shrunk, hanley_mcneil_error(shrunk, num_positive, num_negative)


def _logit_interval(value: float, reach: float) -> tuple[float, float]:
    centre = math.log(value / (1 - value))
    logit_reach = reach / (value * (1 - value))
    return _expit(centre - logit_reach), _expit(centre + logit_reach)


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
