"""How often the 95 % intervals hold the truth, in simulated test sets whose true AUCs are known.

Patients have three images each with one label; the score of an image is separation x label + effect of the patient +
noise, both of variance 0.7, so the AUC of images of different patients is known in closed form. Attacked scores share
the patient's effect and half of the noise with the clean ones. Per setting:

AUC           one finding, clean images
macro AUC     mean of three findings of different separation and prevalence
relative AUC  attacked / clean
difference    clean - attacked, on its own scale
unclustered   the AUC, as if every image were of another patient: what ignoring patients would do
"""

import math
from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
from common import write_result
from numpy.typing import NDArray

from raygrid.metrics import auc_with_influence, half_width, interval, ratio_influence, ratio_interval
from raygrid.progress import Progress

NUM_STUDIES = 2_000
IMAGES, VARIANCE = 3, 0.7
PATIENTS, PREVALENCES, SEPARATIONS = (60, 300), (0.2, 0.5), (0.5, 1.2, 2.5)
ATTACKED = 0.4  # of the separation that the attack leaves


def main() -> None:
    """Simulate every setting and write the shares."""
    settings = list(product(PATIENTS, PREVALENCES, SEPARATIONS))
    progress, result = Progress("settings", len(settings)), {}
    for number, setting in enumerate(settings):
        patients, prevalence, separation = setting
        name = f"{patients} patients, prevalence {prevalence}, AUC {_truth(separation):.3f}"
        result[name] = _coverage(np.random.default_rng(number), *setting)
        progress.advance(f"{name}: {result[name]}")
    write_result("interval_coverage", __doc__ or "", {"test sets per setting": NUM_STUDIES, **result})


def _coverage(generator: np.random.Generator, patients: int, prevalence: float, separation: float) -> dict[str, float]:
    separations = [separation, 0.8 * separation, 1.1 * separation]
    truths = [_truth(one) for one in separations]
    attacked_truth = _truth(ATTACKED * separation)
    clusters = np.repeat(np.arange(patients), IMAGES)
    hits: dict[str, int] = defaultdict(int)
    for _ in range(NUM_STUDIES):
        labels = _labels(generator, patients, (prevalence, prevalence / 2, prevalence))
        clean, attacked = _scores(generator, labels, separations)
        counts = (int(labels[:, 0].sum()), int((1 - labels[:, 0]).sum()))
        one = auc_with_influence(labels[:, :1], np.stack([clean[:, :1], attacked[:, :1]]), clusters)
        macro = auc_with_influence(labels, clean[None], clusters)
        naive = auc_with_influence(labels[:, :1], clean[None, :, :1], np.arange(len(labels)))
        (own, under), (influence, influence_under) = one.auc, one.influence
        ratio = ratio_influence(under, influence_under, own, influence)
        reach = half_width(influence - influence_under)
        bounds: dict[str, tuple[tuple[float, float], float]] = {
            "AUC": (interval(own, influence, degenerate_n=counts), truths[0]),
            "macro AUC": (interval(macro.auc[0], macro.influence[0], degenerate_n=counts), float(np.mean(truths))),
            "relative AUC": (ratio_interval(under / own, ratio, degenerate_n=counts), attacked_truth / truths[0]),
            "difference": ((own - under - reach, own - under + reach), truths[0] - attacked_truth),
            "unclustered": (interval(naive.auc[0], naive.influence[0], degenerate_n=counts), truths[0]),
        }
        for what, ((low, high), truth) in bounds.items():
            hits[what] += low <= truth <= high
    return {what: round(float(count) / NUM_STUDIES, 4) for what, count in hits.items()}


def _labels(generator: np.random.Generator, patients: int, prevalences: tuple[float, ...]) -> NDArray[np.uint8]:
    """Return labels (images, findings); each finding has patients of both kinds."""
    columns = []
    for prevalence in prevalences:
        positive = generator.random(patients) < prevalence
        positive[:2], positive[2:4] = True, False
        columns.append(np.repeat(positive, IMAGES))
    return np.stack(columns, axis=1).astype(np.uint8)


def _scores(
    generator: np.random.Generator, labels: NDArray[np.uint8], separations: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return clean and attacked scores (images, findings)."""
    shape, scale = labels.shape, math.sqrt(VARIANCE)
    effect = np.repeat(generator.normal(scale=scale, size=(shape[0] // IMAGES, 1)), IMAGES, axis=0)
    shared, one, two = (generator.normal(scale=scale * math.sqrt(0.5), size=shape) for _ in range(3))
    signal = np.asarray(separations) * labels
    return signal + effect + shared + one, ATTACKED * signal + effect + shared + two


def _truth(separation: float) -> float:
    """Return P(score of a positive > score of a negative of another patient)."""
    return 0.5 * math.erfc(-separation / math.sqrt(4 * VARIANCE) / math.sqrt(2))


if __name__ == "__main__":
    main()
