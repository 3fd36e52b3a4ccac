"""What is done to test images, and how it is computed where that can change a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raygrid.errors import unknown_name
from raygrid.spec.checks import require

ATTACKS = ("fgsm", "pgd")
Condition = Literal["clean", "adversarial", "control"]


@dataclass(frozen=True, kw_only=True, order=True)
class AttackSpec:
    """One L-infinity attack at one budget; units of the image scale [-1, 1] (0.02 = 2.55 grey levels).

    Attributes:
        name: `fgsm` (one step of size epsilon) or `pgd` (`steps` steps of size alpha, no random start).
        epsilon: largest change of any pixel value.
        alpha: step size of `pgd`; for `fgsm` it is epsilon.
        steps: iterations of `pgd`; for `fgsm` it is 1.
    """

    name: str
    epsilon: float
    alpha: float
    steps: int

    def __post_init__(self) -> None:
        require(self.name in ATTACKS, unknown_name("attack", self.name, ATTACKS))
        require(0 < self.epsilon <= 2, f"epsilon is {self.epsilon}; images span [-1, 1], so expected 0 to 2")
        require(self.alpha > 0 and self.steps >= 1, f"alpha {self.alpha} and steps {self.steps} must be positive")
        if self.name == "fgsm":
            require(self.alpha == self.epsilon and self.steps == 1, "fgsm is one step of size epsilon")


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
    """How test images are attacked and scored; all of it is part of the result (docs/design.md, invariant 4).

    Attributes:
        attacks: every (attack, epsilon).
        block_size: images crafted as one batch.
        threads: CPU threads of one actor.
    """

    attacks: tuple[AttackSpec, ...]
    block_size: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        require(len(self.attacks) > 0, "a study needs at least one attack")
        require(len(set(self.attacks)) == len(self.attacks), "an attack is declared twice")
        keys = {(a.name, a.epsilon) for a in self.attacks}
        require(
            len(keys) == len(self.attacks), "two attacks share name and epsilon, the tables could not tell them apart"
        )
        require(self.block_size >= 1 and self.threads >= 1, "block_size and threads must be at least 1")


def attack_grid(epsilons: Sequence[float], *, alpha: float = 0.01, steps: int = 20) -> tuple[AttackSpec, ...]:
    """Return FGSM and PGD at every epsilon: the paper's attacks (docs/protocol.md, Attacks)."""
    fgsm = [AttackSpec(name="fgsm", epsilon=e, alpha=e, steps=1) for e in epsilons]
    pgd = [AttackSpec(name="pgd", epsilon=e, alpha=alpha, steps=steps) for e in epsilons]
    return (*fgsm, *pgd)
