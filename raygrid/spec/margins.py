"""The margins of a study's claims, declared before its results are known."""

from dataclasses import dataclass

from raygrid.spec._require import require


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Margins of the claims (`raygrid.analysis.claims`), in units of AUC or of relative AUC (0.05 is 5 %).

    Declare them before you look at the results, as in `StudySpec(..., margins=Margins(difference=0.02))`.

    Attributes:
        alike: two numbers are alike if the interval of their difference lies within plus and minus this margin; above 0
            and below 1.
        little: a loss is little if its interval lies below this margin; above 0 and below 1.
        difference: one number is larger than another if the interval of their difference lies above this margin; at
            least 0 and below 1.

    Raises SpecError if a margin is out of its range.
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
