"""Coverage of the 95 % intervals, in simulated test sets with known true AUCs.

Each patient has several images with one label. The score of an image is separation x label + effect of the patient +
noise, both of one variance, so the AUC of images of different patients is known in closed form. Attacked scores share
the patient's effect and half of the noise with the clean ones. In the first settings, patients have three images and
the variance is 0.7; the effective number of patients was chosen with these settings. The last settings (two images,
variance 1) were not used for that choice. Columns per setting:

AUC:           one finding, clean images;
macro AUC:     mean of three findings of different separation and prevalence;
relative AUC:  attacked / clean;
difference:    clean - attacked, on its own scale;
unclustered:   the AUC as if every image were of another patient, which shows the cost of ignoring patients.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from common import write_result
from numpy.typing import NDArray

from raygrid.analysis.auc import auc_with_influence, half_width, interval, ratio_influence, ratio_interval
from raygrid.progress import Progress

NUM_STUDIES = 2_000
PATIENTS, PREVALENCES, SEPARATIONS = (60, 300), (0.2, 0.5), (0.5, 1.2, 2.5)
OTHERS = ((100, 0.1, 1.2), (40, 0.4, 1.0), (40, 0.3, 2.0), (150, 0.1, 2.5), (1000, 0.05, 1.5))
ATTACKED = 0.4  # of the separation that the attack leaves


@dataclass(frozen=True)
class Setting:
    """A kind of test set: `images` of each patient, `variance` of the patient's effect and of the noise."""

    patients: int
    prevalence: float
    separation: float
    images: int = 3
    variance: float = 0.7

    def truth(self, separation: float) -> float:
        """Return P(score of a positive > score of a negative of another patient)."""
        return 0.5 * math.erfc(-separation / math.sqrt(4 * self.variance) / math.sqrt(2))

    @property
    def name(self) -> str:
        """The setting in words."""
        auc = self.truth(self.separation)
        return f"{self.patients} patients of {self.images} images, prevalence {self.prevalence}, AUC {auc:.3f}"


def main() -> None:
    """Simulate every setting and write the shares."""
    settings = [Setting(*one) for one in product(PATIENTS, PREVALENCES, SEPARATIONS)]
    settings += [Setting(*one, images=2, variance=1.0) for one in OTHERS]
    progress, result = Progress("settings", len(settings)), {}
    for number, setting in enumerate(settings):
        result[setting.name] = _coverage(np.random.default_rng(number), setting)
        progress.advance(f"{setting.name}: {result[setting.name]}")
    write_result("interval_coverage", __doc__ or "", {"test sets per setting": NUM_STUDIES, **result})


def _coverage(generator: np.random.Generator, setting: Setting) -> dict[str, float]:
    separation, prevalence = setting.separation, setting.prevalence
    separations = [separation, 0.8 * separation, 1.1 * separation]
    truths = [setting.truth(one) for one in separations]
    attacked_truth = setting.truth(ATTACKED * separation)
    clusters = np.repeat(np.arange(setting.patients), setting.images)
    hits: dict[str, int] = defaultdict(int)
    for _ in range(NUM_STUDIES):
        labels = _labels(generator, setting, (prevalence, prevalence / 2, prevalence))
        clean, attacked = _scores(generator, setting, labels, separations)
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


def _labels(generator: np.random.Generator, setting: Setting, prevalences: tuple[float, ...]) -> NDArray[np.uint8]:
    """Return labels (images, findings); each finding has patients of both kinds."""
    columns = []
    for prevalence in prevalences:
        positive = generator.random(setting.patients) < prevalence
        positive[:2], positive[2:4] = True, False
        columns.append(np.repeat(positive, setting.images))
    return np.stack(columns, axis=1).astype(np.uint8)


def _scores(
    generator: np.random.Generator, setting: Setting, labels: NDArray[np.uint8], separations: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return clean and attacked scores (images, findings)."""
    shape, scale = labels.shape, math.sqrt(setting.variance)
    effect = np.repeat(generator.normal(scale=scale, size=(setting.patients, 1)), setting.images, axis=0)
    shared, one, two = (generator.normal(scale=scale * math.sqrt(0.5), size=shape) for _ in range(3))
    signal = np.asarray(separations) * labels
    return signal + effect + shared + one, ATTACKED * signal + effect + shared + two


if __name__ == "__main__":
    main()
