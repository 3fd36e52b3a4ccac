"""The attacks on test images, and the settings of their computation that can change a score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any, Literal

from raygrid.errors import SpecError, unknown_name
from raygrid.spec._require import require

Condition = Literal["clean", "adversarial", "control"]
Norm = Literal["linf", "l2"]
Shuffle = Literal["flat", "spatial"]
Precision = Literal["float32", "bfloat16"]

_STEPS = 10  # steps of the momentum family, as in each of its papers
_MI: Mapping[str, Any] = {"steps": _STEPS, "momentum": 1.0}
# each attack with the settings of its authors; fields without a value here keep the defaults of AttackSpec
_PUBLISHED: dict[str, Mapping[str, Any]] = {
    "fgsm": {"steps": 1},
    "pgd": {"steps": 20, "alpha": 0.01},
    "mi_fgsm": _MI,
    "ni_fgsm": {**_MI, "nesterov": True},
    "di_fgsm": {**_MI, "diversity": 0.5},
    "ti_fgsm": {**_MI, "smoothing": 15},
    "si_ni_fgsm": {**_MI, "nesterov": True, "scales": 5},
    "vmi_fgsm": {**_MI, "neighbours": 20},
}
ATTACKS = tuple(_PUBLISHED)
MEASURES = ("linf", "l2", "psnr", "ssim")  # of the size of a change (raygrid.attacks.perceptibility)
PLUGINS = "raygrid.attacks"  # the entry point group of attacks in other packages


@cache
def plugins() -> Mapping[str, metadata.EntryPoint]:
    """Return the attacks of installed packages, name -> entry point; nothing is imported."""
    return {point.name: point for point in metadata.entry_points(group=PLUGINS)}


@dataclass(frozen=True, kw_only=True, order=True)
class AttackSpec:
    """One attack with one budget; epsilon and alpha are in units of the image scale [-1, 1] (0.02 = 2.55 grey levels).

    Use `attack` for the published attacks; it fills in their fields. An attack takes steps along the gradient of the
    surrogate's loss. The other fields change these steps and can be combined.

    Attributes:
        name: a name of `ATTACKS` or of an installed package's attack, optionally with a suffix of your own, as in
            `pgd-8bit`. Tables show it.
        epsilon: budget: the largest change of any pixel value for the norm `linf`, above 0 and at most 2; the Euclidean
            length of the change over all values of the image for the norm `l2` (0.02 on every value of a 3 x 96 x 96
            image is 3.3).
        alpha: length of a step, in the unit of epsilon. For `fgsm` it equals epsilon.
        steps: number of steps, at least 1. For `fgsm` it is 1.
        norm: norm of the budget, `linf` or `l2`.
        random_start: start at a random point of the epsilon-ball, drawn for each image (Madry et al. 2018).
        momentum: decay of the accumulated direction, at least 0; 0 accumulates nothing (MI-FGSM: Dong et al. 2018).
        nesterov: take the gradient at the point that momentum leads to; needs `momentum` (NI-FGSM: Lin et al. 2020).
        diversity: probability, 0 to 1, of shrinking an image by up to a tenth and moving it before a gradient
            (DI-FGSM: Xie et al. 2019).
        smoothing: side of the Gaussian kernel that smooths the gradient, an odd number of pixels; 1 does not smooth
            (TI-FGSM: Dong et al. 2019).
        scales: number of copies of the image, with 1, 1/2, 1/4, ... of its contrast, whose gradients are added; at
            least 1 (SI: Lin et al. 2020).
        neighbours: number of points around the image whose gradients correct the next step, at least 0 (VMI-FGSM:
            Wang and He 2021).
        spread: half the width of that neighbourhood, in epsilons, above 0.
        targeted: move towards the opposite of each true label, instead of away from the true labels.
        label_weights: weight of each label in the loss, at least 0 each; empty for equal weights. (0, 1) attacks the
            second label alone.
        eight_bit: round the adversarial image to 256 grey levels within the budget, as a file would store it; needs
            the norm `linf`.
        options: (name, value) pairs for an attack of another package, which may ignore the other fields
            (docs/how-to/attacks.md).

    Raises SpecError if a name is unknown, with near misses, or a value is out of its range.
    """

    name: str
    epsilon: float
    alpha: float
    steps: int
    norm: Norm = "linf"
    random_start: bool = False
    momentum: float = 0.0
    nesterov: bool = False
    diversity: float = 0.0
    smoothing: int = 1
    scales: int = 1
    neighbours: int = 0
    spread: float = 1.5
    targeted: bool = False
    label_weights: tuple[float, ...] = ()
    eight_bit: bool = False
    options: tuple[tuple[str, str | float], ...] = ()

    def __post_init__(self) -> None:
        base = self.base
        known = (*ATTACKS, *plugins())
        require(base in known, unknown_name("attack", base, known))
        require(
            self.is_plugin or not self.options,
            f"attack {base!r} takes no options; they are for attacks of other packages: remove options",
        )
        require(self.norm in ("linf", "l2"), unknown_name("norm", self.norm, ("linf", "l2")))
        if self.norm == "linf":
            require(
                0 < self.epsilon <= 2, f"epsilon is {self.epsilon}; expected above 0 and at most 2: images span [-1, 1]"
            )
        require(self.epsilon > 0, f"epsilon is {self.epsilon}; expected above 0")
        require(
            self.alpha > 0 and self.steps >= 1,
            f"alpha is {self.alpha} and steps is {self.steps}; expected above 0, and at least 1",
        )
        if base == "fgsm":
            require(
                self.alpha == self.epsilon and self.steps == 1,
                "fgsm is one step of length epsilon: set steps=1 and alpha=epsilon, or use pgd",
            )
        require(self.momentum >= 0, f"momentum is {self.momentum}; expected at least 0")
        require(not self.nesterov or self.momentum > 0, "nesterov needs momentum, which is 0: set momentum")
        require(0 <= self.diversity <= 1, f"diversity is {self.diversity}; expected a probability, 0 to 1")
        require(
            self.smoothing >= 1 and self.smoothing % 2 == 1,
            f"smoothing is {self.smoothing}; expected an odd number of pixels",
        )
        require(self.scales >= 1, f"scales is {self.scales}; expected at least 1")
        require(
            self.neighbours >= 0 and self.spread > 0,
            f"neighbours is {self.neighbours} and spread is {self.spread}; expected at least 0, and above 0",
        )
        weights = self.label_weights
        require(
            not weights or (min(weights) >= 0 and max(weights) > 0),
            f"label_weights is {weights}; expected no negative weight and at least one above 0",
        )
        require(not self.eight_bit or self.norm == "linf", "eight_bit needs an L-infinity budget: set norm='linf'")

    @property
    def base(self) -> str:
        """The name without its suffix."""
        return self.name.split("-")[0]

    @property
    def key(self) -> str:
        """Name and budget, such as `pgd@0.02`: unique within a study."""
        return f"{self.name}@{self.epsilon}"

    @property
    def is_plugin(self) -> bool:
        """Whether the attack belongs to another package."""
        return self.base not in ATTACKS

    @property
    def draws(self) -> bool:
        """Whether the attack uses random numbers, which are keyed by image."""
        return self.random_start or self.diversity > 0 or self.neighbours > 0


@dataclass(frozen=True)
class Case:
    """The condition of the images that a target sees.

    Attributes:
        condition: `clean`, `adversarial`, or `control` (the perturbation shuffled over the image).
        attack: the attack; None for clean images.
    """

    condition: Condition
    attack: AttackSpec | None

    @property
    def attack_name(self) -> str:
        """Name of the attack, empty for clean images."""
        return "" if self.attack is None else self.attack.name

    @property
    def epsilon(self) -> float:
        """Budget of the attack, 0 for clean images."""
        return 0.0 if self.attack is None else self.attack.epsilon


@dataclass(frozen=True, kw_only=True)
class TransferSpec:
    """The attacks of a study, and the settings of crafting and scoring that can change a score.

    All fields are part of the signature of the scores. Example:

        TransferSpec(attacks=attack_grid((0.02, 0.04, 0.06)), block_size=64)

    Attributes:
        attacks: the attacks, each with one epsilon; at least one. Name and epsilon together are unique.
        shuffle: the control's treatment of a perturbation: `flat` moves each value to any pixel and channel of the
            image (the paper's control), `spatial` moves whole pixels.
        crafting: precision of the gradients, `float32` or `bfloat16`. `bfloat16` is faster and flips the sign of some
            gradients.
        scoring: precision of the targets, `float32` or `bfloat16`. `bfloat16` changes logits; the files of clean scores
            hold the largest change.
        block_size: number of images crafted as one batch, at least 1.
        threads: CPU threads of one actor, at least 1.

    Raises SpecError if `attacks` is empty, an attack is repeated or a value is not allowed.
    """

    attacks: tuple[AttackSpec, ...]
    shuffle: Shuffle = "flat"
    crafting: Precision = "float32"
    scoring: Precision = "float32"
    block_size: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        require(len(self.attacks) > 0, "attacks is empty; expected at least one attack")
        require(len(set(self.attacks)) == len(self.attacks), "attacks has the same attack twice; remove one")
        keys = {(a.name, a.epsilon) for a in self.attacks}
        require(
            len(keys) == len(self.attacks),
            "two attacks have the same name and epsilon, so tables could not tell them apart; give one a suffix",
        )
        require(self.shuffle in ("flat", "spatial"), unknown_name("shuffle", self.shuffle, ("flat", "spatial")))
        for precision in (self.crafting, self.scoring):
            known = ("float32", "bfloat16")
            require(precision in known, unknown_name("precision", precision, known))
        require(
            self.block_size >= 1 and self.threads >= 1,
            f"block_size is {self.block_size} and threads is {self.threads}; expected at least 1 each",
        )


def attack(name: str, epsilon: float, *, suffix: str = "", **changes: Any) -> AttackSpec:
    """Return a published attack by name at one epsilon, with `changes` to its fields.

    Without a step size from the attack's paper or from `changes`, alpha is epsilon / steps, so that the steps can just
    reach epsilon. Give a changed attack a `suffix`, so that tables distinguish it from the published one.

    >>> attack("pgd", 0.02).steps
    20
    >>> attack("pgd", 0.02, suffix="8bit", eight_bit=True).key
    'pgd-8bit@0.02'

    Args:
        name: a name of `ATTACKS`, or of an attack that an installed package adds.
        epsilon: budget, in units of the image scale [-1, 1].
        suffix: text added to the name, after a hyphen.
        changes: fields of `AttackSpec` and their values.

    Raises SpecError if the attack or a field is unknown, with near misses, or a value is out of its range.
    """
    if name not in _PUBLISHED and name not in plugins():
        raise SpecError(unknown_name("attack", name, (*ATTACKS, *plugins())))
    fields = AttackSpec.__dataclass_fields__
    for field in changes:
        require(field in fields, unknown_name("field of an attack", field, fields))
    values: dict[str, Any] = {**_PUBLISHED.get(name, {"steps": 1}), **changes}
    values.setdefault("alpha", epsilon / values["steps"])
    return AttackSpec(name=f"{name}-{suffix}" if suffix else name, epsilon=epsilon, **values)


def attack_grid(epsilons: Sequence[float], *, alpha: float = 0.01, steps: int = 20) -> tuple[AttackSpec, ...]:
    """Return FGSM and PGD at every epsilon: the paper's attacks (docs/explanation/protocol.md, Attacks).

    >>> [a.key for a in attack_grid((0.02, 0.04))]
    ['fgsm@0.02', 'fgsm@0.04', 'pgd@0.02', 'pgd@0.04']

    Args:
        epsilons: budgets, in units of the image scale [-1, 1].
        alpha: length of a PGD step, in the same unit.
        steps: number of PGD steps.

    Raises SpecError if a value is out of its range.
    """
    fgsm = [attack("fgsm", e) for e in epsilons]
    pgd = [replace(attack("pgd", e), alpha=alpha, steps=steps) for e in epsilons]
    return (*fgsm, *pgd)
