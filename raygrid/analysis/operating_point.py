"""Decisions under attack: sensitivity and specificity at a fixed operating point, per finding.

AUC measures how well scores order images; a clinic uses one threshold. The threshold gives each target a fixed
specificity on the clean test images and stays the same under attack. It is chosen on the images that it is applied to,
so clean sensitivity is slightly optimistic. A target that answers with decisions has one operating point, its own: the
threshold lies between yes and no.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raygrid.store.scores import probabilities

SPECIFICITY = 0.9  # of every target on clean images

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decisions:
    """Shares over the test images, each (sets, labels); NaN if a label lacks the class of a share.

    Attributes:
        sensitivity: positives above the threshold.
        specificity: negatives at or below it.
        fooled: images with another decision than the clean image.
        brier: mean squared difference of probability and label.
        mean_probability: mean of the sigmoid of the logits; its shift from clean images shows lost calibration.
    """

    sensitivity: Floats
    specificity: Floats
    fooled: Floats
    brier: Floats
    mean_probability: Floats


def thresholds_of(
    labels: NDArray[np.uint8], clean: NDArray[np.float32], decided: Sequence[bool] = ()
) -> NDArray[np.float32]:
    """Return the logit thresholds, (targets, labels), of `SPECIFICITY` on clean images; a positive lies above.

    Args:
        labels: (n, labels) zeros and ones.
        clean: (targets, n, labels) logits.
        decided: whether each target answers with decisions; its threshold is 0. Empty: none does.
    """
    thresholds = np.full((len(clean), labels.shape[1]), np.nan, dtype=np.float32)
    for label in range(labels.shape[1]):
        negative = clean[:, labels[:, label] == 0, label]
        if negative.shape[1]:
            # the smallest score with this share of negatives at or below it, ties included
            thresholds[:, label] = np.quantile(negative, SPECIFICITY, axis=1, method="inverted_cdf")
    thresholds[[k for k, decides in enumerate(decided) if decides]] = 0
    return thresholds


def decide(
    labels: NDArray[np.uint8],
    logits: NDArray[np.float32],
    clean: NDArray[np.float32],
    thresholds: NDArray[np.float32],
) -> Decisions:
    """Return the decisions of some targets, attacked or clean, as shares over the images.

    Args:
        labels: (n, labels) zeros and ones.
        logits: (sets, n, labels).
        clean: the same targets' logits of the clean images, same shape.
        thresholds: (sets, labels).
    """
    positive, above = labels == 1, logits > thresholds[:, None]
    probability = probabilities(logits)
    return Decisions(
        sensitivity=_share(above, positive),
        specificity=_share(~above, ~positive),
        fooled=np.where(np.isnan(thresholds), np.nan, (above != (clean > thresholds[:, None])).mean(axis=1)),
        brier=np.asarray(np.square(probability - labels).mean(axis=1)),
        mean_probability=np.asarray(probability.mean(axis=1)),
    )


def _share(right: NDArray[np.bool_], of: NDArray[np.bool_]) -> Floats:
    """Return the share of the images `of`, (n, labels), that are `right`, (sets, n, labels)."""
    count = of.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((right & of).sum(axis=1) / np.where(count, count, np.nan))
