"""Numbers as text: a number that rounds to zero has no sign."""

import math

import pytest

from raygrid.analysis.number_text import fixed


@pytest.mark.parametrize(
    ("value", "digits", "plain", "signed"),
    [
        (-0.0, 3, "0.000", "0.000"),
        (-0.0004, 3, "0.000", "0.000"),
        (0.0004, 3, "0.000", "0.000"),
        (-0.0006, 3, "-0.001", "-0.001"),
        (0.0006, 3, "0.001", "+0.001"),
        (-0.4, 0, "0", "0"),
        (12.345, 1, "12.3", "+12.3"),
        (math.nan, 2, "nan", "nan"),
    ],
)
def test_numbers_that_round_to_zero_have_no_sign(value: float, digits: int, plain: str, signed: str) -> None:
    assert (fixed(value, digits), fixed(value, digits, signed=True)) == (plain, signed)
