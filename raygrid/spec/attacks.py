"""The attacks on test images: their parameters, their names, and budgets that they can reach."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

from raygrid.errors import SpecError, unknown_name
from raygrid.spec._require import number, numbers, require, require_known, sequence, text, truth, whole_number

Norm = Literal["linf", "l2"]

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
# names of tables, figures and texts. The attacks of DI and TI carry momentum, and so do the names of their papers for
# that combination.
_DISPLAYED = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "mi_fgsm": "MI-FGSM",
    "ni_fgsm": "NI-FGSM",
    "di_fgsm": "M-DI²-FGSM",
    "ti_fgsm": "TI-MI-FGSM",
    "si_ni_fgsm": "SI-NI-FGSM",
    "vmi_fgsm": "VMI-FGSM",
}
MEASURES = ("linf", "l2", "psnr", "ssim")  # of the size of a change (raygrid.attacks.perceptibility)
PLUGINS = "raygrid.attacks"  # the entry point group of attacks in other packages
_SUFFIX = re.compile(r"[A-Za-z0-9_.]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_TOLERANCE = 1e-9  # of a budget: 3 x 0.01 is not 0.03 in binary
_LEVELS_PER_UNIT = 127.5  # grey levels, as raygrid.data.images.scale has it; the data are above the declarations


@cache
def plugins() -> Mapping[str, metadata.EntryPoint]:
    """Return the attacks of installed packages, name -> entry point; nothing is imported."""
    return {point.name: point for point in metadata.entry_points(group=PLUGINS)}


def displayed(name: str) -> str:
    """Return the name of an attack for tables, figures and texts.

    >>> displayed("di_fgsm"), displayed("pgd-8bit")
    ('M-DI²-FGSM', 'PGD-8bit')

    An attack of another package keeps its name, and every suffix is as it was declared.
    """
    base, hyphen, suffix = name.partition("-")
    return f"{_DISPLAYED.get(base, base)}{hyphen}{suffix}"


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
            (DI²-FGSM: Xie et al. 2019).
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

    Raises SpecError if a name is unknown, with near misses, a value is out of its range or of another type, or the
    budget cannot be reached: steps x alpha is below epsilon, or `eight_bit` rounds epsilon down to no grey level.
    Attacks of other packages may use steps and alpha in other ways, so only their other values are checked.
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
        name = text("name of an attack", self.name)
        known = (*ATTACKS, *plugins())
        require_known("attack", self.base, known)
        require(
            self.base == name or bool(_SUFFIX.fullmatch(name.partition("-")[2])),
            f"attack {name!r}: expected a suffix of letters, digits, '_', '.' and '-', because tables, files and "
            "trackers show it",
        )
        _convert(self)
        _require_ranges(self)
        if not self.is_plugin:  # another package may use its steps in other ways
            _require_reachable(self)

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


def _convert(spec: AttackSpec) -> None:
    """Give every field its type, from a list or NumPy's numbers. Raises SpecError if a value is of another type."""

    def convert(field: str, change: Callable[..., object], *rest: str) -> None:
        object.__setattr__(spec, field, change(f"attack {spec.name!r}: {field}", getattr(spec, field), *rest))

    for field in ("epsilon", "alpha", "momentum", "diversity", "spread"):
        convert(field, number)
    for field in ("steps", "smoothing", "scales", "neighbours"):
        convert(field, whole_number)
    for field in ("random_start", "nesterov", "targeted", "eight_bit"):
        convert(field, truth)
    convert("label_weights", numbers)
    convert("options", sequence, "(name, value) pairs")
    for pair in spec.options:
        require(
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str),
            f"attack {spec.name!r}: options holds {pair!r}; expected (name, value) pairs",
        )


def _require_ranges(spec: AttackSpec) -> None:
    def require_field(condition: bool, field: str, expected: str) -> None:
        require(condition, f"attack {spec.name!r}: {field} is {getattr(spec, field)}; expected {expected}")

    require(
        spec.is_plugin or not spec.options,
        f"attack {spec.base!r} takes no options; they are for attacks of other packages: remove options",
    )
    require_known("norm", spec.norm, ("linf", "l2"))
    require_field(spec.epsilon > 0, "epsilon", "above 0")
    require_field(spec.norm == "l2" or spec.epsilon <= 2, "epsilon", "above 0 and at most 2: images span [-1, 1]")
    require_field(spec.alpha > 0, "alpha", "above 0")
    require_field(spec.steps >= 1, "steps", "at least 1")
    require(
        spec.base != "fgsm" or (spec.alpha == spec.epsilon and spec.steps == 1),
        "fgsm is one step of length epsilon: set steps=1 and alpha=epsilon, or use pgd",
    )
    require_field(spec.momentum >= 0, "momentum", "at least 0")
    require(not spec.nesterov or spec.momentum > 0, "nesterov needs momentum, which is 0: set momentum")
    require_field(0 <= spec.diversity <= 1, "diversity", "a probability, 0 to 1")
    require_field(spec.smoothing >= 1 and spec.smoothing % 2 == 1, "smoothing", "an odd number of pixels")
    require_field(spec.scales >= 1, "scales", "at least 1")
    require_field(spec.neighbours >= 0, "neighbours", "at least 0")
    require_field(spec.spread > 0, "spread", "above 0")
    weights = spec.label_weights
    require_field(
        not weights or (min(weights) >= 0 and max(weights) > 0),
        "label_weights",
        "no negative weight and at least one above 0",
    )
    require(not spec.eight_bit or spec.norm == "linf", "eight_bit needs an L-infinity budget: set norm='linf'")
    levels = spec.epsilon * _LEVELS_PER_UNIT
    require(
        not spec.eight_bit or levels * (1 + _TOLERANCE) >= 1,
        f"attack {spec.name!r}: eight_bit rounds epsilon {spec.epsilon:g}, {levels:.4g} grey levels, down to 0, so "
        f"no image would change; raise epsilon to at least 1 grey level, {math.ceil(1e6 / _LEVELS_PER_UNIT) / 1e6:g}",
    )


def _require_reachable(spec: AttackSpec) -> None:
    """Raise SpecError if all steps in one direction end inside the budget; a random start does not change this."""
    reach, epsilon = spec.steps * spec.alpha, spec.epsilon
    alpha, steps = epsilon / spec.steps, math.ceil(epsilon * (1 - _TOLERANCE) / spec.alpha)
    require(
        reach >= epsilon * (1 - _TOLERANCE),
        f"attack {spec.name!r}: {spec.steps} step{'s' * (spec.steps > 1)} of alpha {spec.alpha:g} cannot reach epsilon "
        f"{epsilon:g}, only {reach:g}; raise alpha to at least {alpha:.6g}, or steps to at least {steps}",
    )


def attack(name: str, epsilon: float, *, suffix: str = "", **changes: Any) -> AttackSpec:
    """Return a published attack by name at one epsilon, with `changes` to its fields.

    Without a step size from the attack's paper or from `changes`, alpha is epsilon / steps, so that the steps can just
    reach epsilon. PGD's step, 0.01, is one for L-infinity: for the norm `l2`, give alpha yourself. Give a changed
    attack a `suffix`, so that tables distinguish it from the published one.

    >>> attack("pgd", 0.02).steps
    20
    >>> attack("pgd", 0.02, suffix="8bit", eight_bit=True).key
    'pgd-8bit@0.02'

    Args:
        name: a name of `ATTACKS`, or of an attack that an installed package adds.
        epsilon: budget, in units of the image scale [-1, 1].
        suffix: text added to the name, after a hyphen.
        changes: fields of `AttackSpec` and their values.

    Raises SpecError if the attack or a field is unknown, with near misses, a value is out of its range or of another
    type, or the steps cannot reach epsilon.
    """
    require_known("attack", name, (*ATTACKS, *plugins()))
    fields = AttackSpec.__dataclass_fields__
    for field in changes:
        require(field in fields, unknown_name("field of an attack", field, fields))
    whole = f"{name}-{text('suffix', suffix)}" if suffix != "" else name
    values: dict[str, Any] = {"steps": 1, **_PUBLISHED.get(name, {}), **changes}
    if "alpha" not in changes and values.get("norm") == "l2" and "alpha" in values:
        raise SpecError(
            f"attack {whole!r}: the published alpha, {values['alpha']:g}, is a step for L-infinity; give an alpha for "
            "the norm 'l2', for instance 2.5 * epsilon / steps"
        )
    if "alpha" not in values:
        steps = whole_number(f"attack {whole!r}: steps", values["steps"])
        require(steps >= 1, f"attack {whole!r}: steps is {steps}; expected at least 1")
        values["alpha"] = number(f"attack {whole!r}: epsilon", epsilon) / steps
    return AttackSpec(name=whole, epsilon=epsilon, **values)


def attack_grid(epsilons: Sequence[float], *, alpha: float = 0.01, steps: int = 20) -> tuple[AttackSpec, ...]:
    """Return FGSM and PGD at every epsilon: the paper's attacks (docs/explanation/protocol.md, Attacks).

    >>> [a.key for a in attack_grid((0.02, 0.04))]
    ['fgsm@0.02', 'fgsm@0.04', 'pgd@0.02', 'pgd@0.04']

    Args:
        epsilons: budgets, in units of the image scale [-1, 1].
        alpha: length of a PGD step, in the same unit.
        steps: number of PGD steps.

    Raises SpecError if a value is out of its range or of another type, or PGD's steps cannot reach an epsilon.
    """
    budgets = numbers("epsilons", epsilons)
    fgsm = [attack("fgsm", e) for e in budgets]
    pgd = [attack("pgd", e, alpha=alpha, steps=steps) for e in budgets]
    return (*fgsm, *pgd)
