"""What a study calls a difference, declared before its results are looked at."""

from dataclasses import dataclass

from raygrid.spec._require import require


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Margins of the claims (raygrid.analysis.claims), in units of AUC or of relative AUC (0.05 is 5 %).

    Attributes:
        alike: two numbers are alike if their difference surely lies within this, either way.
        little: a loss is little if it surely lies below this.
        difference: one number is larger than another if their difference surely lies above this.
    """

    alike: float = 0.05
    little: float = 0.05
    difference: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("alike", self.alike, 1e-9),
            ("little", self.little, 1e-9),
            ("difference", self.difference, 0.0),
        ):
            require(least <= value < 1, f"margin {name!r} is {value}; expected at least {least:g} and below 1")
