"""The assessment of one external target under attacks through look-alikes: the numbers of its page. Pure functions.

Surrogates are compared on the same attacks. If a query budget leaves pairings out, these are the attacks that cover the
most surrogates.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from raygrid.analysis.auc import Floats, half_width, interval, mean_influence
from raygrid.analysis.frames import MIXED
from raygrid.analysis.tables import LEARNED_BOUND, default_epsilon
from raygrid.data.images.scale import GREY_LEVELS_PER_UNIT
from raygrid.errors import DataError
from raygrid.spec import MODEL, AttackSpec, StudySpec, TargetSpec, displayed, init_label
from raygrid.store.query_budget import QueryCell

_DATA = {
    "d1": "one half of the patients (d1)",
    "d2": "the other half (d2)",
    "d2_half": "half of d2",
    "d1_tenth": "a tenth of d1",
    "development": "all of the patients",
}
# Comparisons of surrogates: column, level before, level after; None stands for every other level.
_PAIRED: Sequence[tuple[str, str | None, str | None]] = (
    ("surrogate_init", "random", None),
    ("surrogate_split", "d1", "d2"),
    ("surrogate_split", "d2", "d2_half"),
    ("surrogate_split", "d1", "d1_tenth"),
    ("surrogate_arch", None, None),
    ("attack", None, None),
)


@dataclass(frozen=True)
class Number:
    """A number with its 95 % interval, and the influence of every test patient on it."""

    value: float
    low: float
    high: float
    influence: Floats


@dataclass(frozen=True)
class SurrogateResult:
    """The AUC of the target under attacks through one surrogate."""

    name: str
    kind: str
    arch: str
    init: str
    split: str
    auc: Number


@dataclass(frozen=True)
class Damage:
    """The damage of one attack at one epsilon: means over surrogates, and the most damaging surrogate."""

    attack: str
    epsilon: float
    num_surrogates: int
    adversarial: Number
    control: Number
    best: SurrogateResult


@dataclass(frozen=True)
class PairedDifference:
    """The difference in AUC under attack between two kinds of surrogates that are equal in everything else."""

    words: str
    difference: Number
    num_pairs: int

    @property
    def verdict(self) -> str:
        """The conclusion from the interval."""
        if self.difference.high < 0:
            return "more damage"
        return "less damage" if self.difference.low > 0 else "no clear difference"


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """One target and its results.

    Attributes:
        auc, decisions: the rows of this target, as in `results/`. White-box rows, attacks through the target's own
            network, are used only by the property `white_box`.
        perceptibility: the frame of `results/`.
        not_asked: the (surrogate, attack key) cells outside the target's query budget.

    Raises DataError if the AUC frame has no clean row, or several.
    """

    study: StudySpec
    target: TargetSpec
    auc: pd.DataFrame
    decisions: pd.DataFrame
    perceptibility: pd.DataFrame
    not_asked: Set[QueryCell] = frozenset()

    def __post_init__(self) -> None:
        if len(self._rows("clean")) != 1:
            raise DataError(
                f"{self.target.name} has {len(self._rows('clean'))} clean rows in the AUC frame; expected 1"
            )

    @cached_property
    def clean(self) -> Number:
        """The AUC on clean images."""
        return self.mean(self._rows("clean"))

    @property
    def has_learned(self) -> bool:
        """Whether the lower bound of the clean AUC is above `LEARNED_BOUND`."""
        return self.clean.low > LEARNED_BOUND

    @cached_property
    def reference(self) -> list[AttackSpec]:
        """The attacks that surrogates are compared on: of one epsilon and norm, through the most surrogates."""
        asked = self._rows("adversarial").groupby(["attack", "epsilon"]).size()
        specs = {(a.name, a.epsilon): a for a in self.study.transfer.attacks}
        most = [specs[key] for key in specs if key in asked.index and asked[key] == asked.max()]
        most = [a for a in most if a.norm == "linf"] or most
        epsilon = default_epsilon(a.epsilon for a in most)
        return [a for a in most if np.isclose(a.epsilon, epsilon)]

    @cached_property
    def attacked(self) -> Number | None:
        """The mean AUC over surrogates under the reference attacks; None without attacks."""
        return self.mean(self.at_reference("adversarial")) if self.reference else None

    @cached_property
    def white_box(self) -> Number | None:
        """The mean AUC under the reference attacks through the target's own network; None if it is no surrogate."""
        rows = self.auc[(self.auc["condition"] == "adversarial") & self.auc["white_box"]]
        rows = self._of(rows, self.reference)
        return self.mean(rows) if len(rows) else None

    @cached_property
    def surrogates(self) -> list[SurrogateResult]:
        """The result of the reference attacks through each surrogate, most damage first."""
        rows = self.at_reference("adversarial").groupby("surrogate", sort=False)
        return sorted((self._result(part) for _, part in rows), key=lambda result: result.auc.value)

    @cached_property
    def damage(self) -> list[Damage]:
        """The damage of each attack at each epsilon, in the study's order."""
        found = []
        for attack in self.study.transfer.attacks:
            adversarial, control = (self._of(self._rows(c), [attack]) for c in ("adversarial", "control"))
            if not len(adversarial):
                continue
            results = [self._result(part) for _, part in adversarial.groupby("surrogate", sort=False)]
            best = min(results, key=lambda result: result.auc.value)
            numbers = self.mean(adversarial), self.mean(control)
            found.append(Damage(attack.name, attack.epsilon, len(results), *numbers, best))
        return found

    def paired_differences(self) -> list[PairedDifference]:
        """Return how each factor of the surrogate changes the AUC, as paired differences with all else equal."""
        rows = self.at_reference("adversarial")
        rows = rows[rows["surrogate_kind"] == MODEL]
        found = []
        for column, before, after in _PAIRED:
            levels = list(dict.fromkeys(rows[column]))
            first = before or (levels[0] if levels else "")
            for level in [after] if after else [level for level in levels if level != first]:
                difference = self._paired_difference(rows, column, first, level)
                if difference is not None:
                    found.append(difference)
        return found

    def decided(self) -> pd.DataFrame:
        """Return the decisions at the clean threshold, a row per finding.

        Columns: label, num_positive, num_negative, auc (clean), then sensitivity and specificity on clean images
        (`_clean`), under the reference attacks as the mean over surrogates (`_attacked`) and through the best surrogate
        (`_best`), and under the shuffled changes (`_control`).
        """
        others = self.decisions[~self.decisions["white_box"]]
        clean = others[others["condition"] == "clean"].set_index("label")
        frame = clean[["num_positive", "num_negative", "auc"]].copy()
        attacked = self._of(others[others["condition"] == "adversarial"], self.reference)
        control = self._of(others[others["condition"] == "control"], self.reference)
        best = attacked[attacked["surrogate"] == (self.surrogates[0].name if self.surrogates else "")]
        for measure in ("sensitivity", "specificity"):
            frame[f"{measure}_clean"] = clean[measure]
            for name, rows in (("attacked", attacked), ("best", best), ("control", control)):
                frame[f"{measure}_{name}"] = rows.groupby("label")[measure].mean()
        return frame.reset_index()

    def perceptibility_of_attacks(self) -> pd.DataFrame:
        """Return the perceptibility of each attack, means over images and surrogates.

        Columns: attack, epsilon, grey_levels (of the largest change), psnr, ssim.
        """
        asked = set(self._rows("adversarial")["surrogate"])
        mine = self.perceptibility["condition"].eq("adversarial") & self.perceptibility["surrogate"].isin(asked)
        rows = self.perceptibility[mine & (self.perceptibility["modality"] == self.target.modality)]
        means = rows.groupby(["attack", "epsilon"], sort=False)[["linf", "psnr", "ssim"]].mean().reset_index()
        return means.assign(grey_levels=means["linf"] * GREY_LEVELS_PER_UNIT).drop(columns="linf")

    def curve(self) -> pd.DataFrame:
        """Return AUC against epsilon as `figures.epsilon_curves` draws it."""
        rows = [self._point("clean", "", 0.0, self.clean)]
        for one in self.damage:
            rows.append(self._point("adversarial", one.attack, one.epsilon, one.adversarial))
            rows.append(self._point("control", one.attack, one.epsilon, one.control))
        return pd.DataFrame(rows)

    def at_reference(self, condition: str) -> pd.DataFrame:
        """Return the rows of one condition under the reference attacks."""
        return self._of(self._rows(condition), self.reference)

    def mean(self, rows: pd.DataFrame) -> Number:
        """Return the mean AUC of rows with its interval."""
        value = float(rows["auc"].mean())
        influence = mean_influence(np.stack([np.asarray(i, dtype=np.float64) for i in rows["influence"]]))
        positive, images = (int(rows[name].iloc[0]) for name in ("num_positive", "num_images"))
        return Number(value, *interval(value, influence, degenerate_n=(positive, images - positive)), influence)

    def _rows(self, condition: str) -> pd.DataFrame:
        return self.auc[(self.auc["condition"] == condition) & ~self.auc["white_box"]]

    def _of(self, rows: pd.DataFrame, attacks: Sequence[AttackSpec]) -> pd.DataFrame:
        keys = {(a.name, a.epsilon) for a in attacks}
        wanted = [key in keys for key in zip(rows["attack"], rows["epsilon"], strict=True)]
        return rows[np.array(wanted, dtype=bool)]

    def _result(self, rows: pd.DataFrame) -> SurrogateResult:
        columns = ("surrogate", *(f"surrogate_{fact}" for fact in ("kind", "arch", "init", "split")))
        name, kind, arch, init, split = (str(rows[column].iloc[0]) for column in columns)
        return SurrogateResult(name, kind, arch, init, split, self.mean(rows))

    def _paired_difference(self, rows: pd.DataFrame, column: str, before: str, after: str) -> PairedDifference | None:
        """Return after minus before, mean over the cells that exist on both sides; None if there are none."""
        alike = [c for c in ("surrogate_arch", "surrogate_init", "surrogate_split", "attack", "epsilon") if c != column]
        sides = [dict(list(rows[rows[column] == level].groupby(alike))) for level in (before, after)]
        shared = [key for key in sides[0] if key in sides[1]]
        if not shared:
            return None
        one, two = ([self.mean(side[key]) for key in shared] for side in sides)
        pairs = list(zip(one, two, strict=True))
        words = f"{_LEVELS[column]}: {_word(column, after)} instead of {_word(column, before)}"
        return PairedDifference(words, mean_difference([(b, a) for a, b in pairs]), len(pairs))

    def _point(self, condition: str, attack: str, epsilon: float, number: Number) -> dict[str, Any]:
        names = {"modality": self.target.modality, "condition": condition, "attack": attack, "epsilon": epsilon}
        return {**names, "auc": number.value, "auc_low": number.low, "auc_high": number.high}


_LEVELS: Mapping[str, str] = {
    "surrogate_init": "Start",
    "surrogate_split": "Training images",
    "surrogate_arch": "Architecture",
    "attack": "Attack",
}


def mean_difference(pairs: Sequence[tuple[Number, Number]]) -> Number:
    """Return the mean of first minus second over the pairs, with an interval; all share their patients."""
    value = float(np.mean([a.value - b.value for a, b in pairs]))
    influence = mean_influence(np.stack([a.influence - b.influence for a, b in pairs]))
    reach = half_width(influence)
    return Number(value, value - reach, value + reach, influence)


def words_of_init(init: str) -> str:
    """Return a surrogate's initialisation in words."""
    known = {"random": "random weights", MIXED: "several", "imagenet": "ImageNet weights"}
    return known.get(init, init_label(init))


def words_of_data(split: str) -> str:
    """Return a surrogate's training data in words."""
    return _DATA.get(split, "several of these")


def _word(column: str, level: str) -> str:
    if column == "surrogate_init":
        return words_of_init(level)
    if column == "surrogate_split":
        return words_of_data(level)
    return displayed(level) if column == "attack" else level
