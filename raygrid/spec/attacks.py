"""What is done to test images, and how it is computed where that can change a score."""

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

_STEPS = 10  # of the momentum family, in each of its papers
_MI: Mapping[str, Any] = {"steps": _STEPS, "momentum": 1.0}
# each attack as its authors published it; what is not named here is a plain step along the gradient's sign
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
MEASURES = ("linf", "l2", "psnr", "ssim")  # of how visible a change is (raygrid.attacks.perceptibility)
PLUGINS = "raygrid.attacks"  # entry points of this group are attacks of other packages


@cache
def plugins() -> Mapping[str, metadata.EntryPoint]:
    """Return the attacks that installed packages add, by name; none is imported."""
    return {point.name: point for point in metadata.entry_points(group=PLUGINS)}


@dataclass(frozen=True, kw_only=True, order=True)
class AttackSpec:
    """One attack at one budget; units of the image scale [-1, 1] (0.02 = 2.55 grey levels).

    Every attack walks along gradients of the surrogate's loss; the fields say how, and combine freely. `attack` gives
    the published ones by name.

    Attributes:
        name: one of `ATTACKS`, or one of them with a suffix of your own, as in `pgd-8bit`; tables show it.
        epsilon: largest change: of any pixel value (norm `linf`), or the Euclidean length of the change over all
            values of the image (norm `l2`; 0.02 on every value of 3 x 96 x 96 is 3.3).
        alpha: length of a step, in the unit of epsilon; for `fgsm` it is epsilon.
        steps: how many; for `fgsm` 1.
        random_start: begin at a point of the epsilon-ball drawn for each image (Madry et al. 2018).
        momentum: decay of the accumulated direction; 0 is none (MI-FGSM: Dong et al. 2018).
        nesterov: take the gradient where momentum will lead (NI-FGSM: Lin et al. 2020).
        diversity: probability that an image is shrunk by up to a tenth and moved before a gradient (DI-FGSM: Xie et
            al. 2019).
        smoothing: side of the Gaussian kernel that smooths the gradient, odd; 1 is none (TI-FGSM: Dong et al. 2019).
        scales: number of copies of the image at 1, 1/2, 1/4, ... of its contrast whose gradients are summed (SI: Lin
            et al. 2020).
        neighbours: number of points around the image whose gradients tune the next step (VMI-FGSM: Wang and He 2021).
        spread: half the width of that neighbourhood, in epsilons.
        targeted: go towards the opposite of every true label, instead of away from the true labels.
        label_weights: weight of each label in the loss, empty for all alike; (0, 1) attacks the second label alone.
        eight_bit: round the adversarial image to 256 levels inside the budget, as a file could hold it.
        options: (name, value) pairs for an attack of another package, which may ignore other fields
            (docs/how-to/attacks.md).
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
        require(self.is_plugin or not self.options, f"attack {base!r} has no options; they are for other packages'")
        require(self.norm in ("linf", "l2"), unknown_name("norm", self.norm, ("linf", "l2")))
        if self.norm == "linf":
            require(0 < self.epsilon <= 2, f"epsilon is {self.epsilon}; images span [-1, 1], so expected 0 to 2")
        require(self.epsilon > 0, f"epsilon is {self.epsilon}; expected a positive length")
        require(self.alpha > 0 and self.steps >= 1, f"alpha {self.alpha} and steps {self.steps} must be positive")
        if base == "fgsm":
            require(self.alpha == self.epsilon and self.steps == 1, "fgsm is one step of size epsilon")
        require(self.momentum >= 0, f"momentum is {self.momentum}; expected at least 0")
        require(not self.nesterov or self.momentum > 0, "nesterov looks ahead along momentum, which is 0: set momentum")
        require(0 <= self.diversity <= 1, f"diversity is {self.diversity}; expected a probability")
        require(self.smoothing >= 1 and self.smoothing % 2 == 1, f"smoothing is {self.smoothing}; expected an odd side")
        require(self.scales >= 1, f"scales is {self.scales}; expected at least 1")
        require(self.neighbours >= 0 and self.spread > 0, "neighbours must be at least 0, spread positive")
        weights = self.label_weights
        require(not weights or (min(weights) >= 0 and max(weights) > 0), f"label_weights {weights}: none is positive")
        require(not self.eight_bit or self.norm == "linf", "eight_bit keeps to an L-infinity budget: set norm='linf'")

    @property
    def base(self) -> str:
        """The name without its suffix."""
        return self.name.split("-")[0]

    @property
    def key(self) -> str:
        """Name and budget, which tell attacks of one study apart: `pgd@0.02`."""
        return f"{self.name}@{self.epsilon}"

    @property
    def is_plugin(self) -> bool:
        """Whether another package crafts it."""
        return self.base not in ATTACKS

    @property
    def draws(self) -> bool:
        """Whether the attack draws random numbers, keyed by image."""
        return self.random_start or self.diversity > 0 or self.neighbours > 0


@dataclass(frozen=True)
class Case:
    """What was done to the images before a target saw them; `attack` is None for clean images."""

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
    """How test images are attacked and scored; all of it is part of the result.

    Attributes:
        attacks: every (attack, epsilon).
        shuffle: what the control does to a perturbation: `flat` moves each value to any place and channel of the image
            (the paper), `spatial` moves whole pixels.
        crafting: precision of gradients; `bfloat16` turns some of their signs (docs/reference/attacks.md, Precision).
        scoring: precision of targets; `bfloat16` moves logits, by how much stands in the files of clean scores.
        block_size: images crafted as one batch.
        threads: CPU threads of one actor.
    """

    attacks: tuple[AttackSpec, ...]
    shuffle: Shuffle = "flat"
    crafting: Precision = "float32"
    scoring: Precision = "float32"
    block_size: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        require(len(self.attacks) > 0, "a study needs at least one attack")
        require(len(set(self.attacks)) == len(self.attacks), "an attack is declared twice")
        keys = {(a.name, a.epsilon) for a in self.attacks}
        require(
            len(keys) == len(self.attacks), "two attacks share name and epsilon, the tables could not tell them apart"
        )
        require(self.shuffle in ("flat", "spatial"), unknown_name("shuffle", self.shuffle, ("flat", "spatial")))
        for precision in (self.crafting, self.scoring):
            known = ("float32", "bfloat16")
            require(precision in known, unknown_name("precision", precision, known))
        require(self.block_size >= 1 and self.threads >= 1, "block_size and threads must be at least 1")


def attack(name: str, epsilon: float, *, suffix: str = "", **changes: Any) -> AttackSpec:
    """Return a published attack by name at one epsilon, with `changes` to its fields.

    Where neither its paper nor `changes` fixes the step size, `steps` steps just reach epsilon. A changed attack wants
    a `suffix`, by which tables tell it from the published one: `attack("pgd", 0.02, suffix="8bit", eight_bit=True)`.

    Raises SpecError for an unknown attack or field, with near misses.
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
    """Return FGSM and PGD at every epsilon: the paper's attacks (docs/explanation/protocol.md, Attacks)."""
    fgsm = [attack("fgsm", e) for e in epsilons]
    pgd = [replace(attack("pgd", e), alpha=alpha, steps=steps) for e in epsilons]
    return (*fgsm, *pgd)
