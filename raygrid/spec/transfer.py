"""Crafting and scoring: the settings that can change a score, and the conditions of the images."""

from dataclasses import dataclass
from typing import Literal

from raygrid.spec._require import require, require_known, sequence, whole_number
from raygrid.spec.attacks import AttackSpec

Condition = Literal["clean", "adversarial", "control"]
Shuffle = Literal["flat", "spatial"]
Precision = Literal["float32", "bfloat16"]


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

    Raises SpecError if `attacks` is empty, an attack is repeated, or a value is not allowed or of another type.
    """

    attacks: tuple[AttackSpec, ...]
    shuffle: Shuffle = "flat"
    crafting: Precision = "float32"
    scoring: Precision = "float32"
    block_size: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        attacks = sequence("attacks", self.attacks, "attacks")
        for one in attacks:
            require(
                isinstance(one, AttackSpec), f"attacks holds {one!r}; expected attacks, such as attack('pgd', 0.02)"
            )
        object.__setattr__(self, "attacks", attacks)
        for field in ("block_size", "threads"):
            object.__setattr__(self, field, whole_number(field, getattr(self, field), "a whole number of at least 1"))
        require(len(self.attacks) > 0, "attacks is empty; expected at least one attack")
        require(len(set(self.attacks)) == len(self.attacks), "attacks has the same attack twice; remove one")
        keys = {(a.name, a.epsilon) for a in self.attacks}
        require(
            len(keys) == len(self.attacks),
            "two attacks have the same name and epsilon, so tables could not tell them apart; give one a suffix",
        )
        require_known("shuffle", self.shuffle, ("flat", "spatial"))
        for precision in (self.crafting, self.scoring):
            require_known("precision", precision, ("float32", "bfloat16"))
        require(
            self.block_size >= 1 and self.threads >= 1,
            f"block_size is {self.block_size} and threads is {self.threads}; expected at least 1 each",
        )
