"""The fuzz runs can fail: each limit of an example is held, and a seed gives the same examples again."""

from pathlib import Path

import numpy as np
import pytest
from fuzzing import Fuzz, Marker, outcome
from hypothesis import strategies as st

from raygrid.errors import DataError

NUMBERS = st.integers(0, 2**40)
ONE = Fuzz(first_seed=7, examples=1)


def raised(*lines: str) -> object:
    raise DataError(*lines)


def test_another_exception_is_a_failure_with_the_seed() -> None:
    def check(number: int) -> None:
        if number > 1000:
            raise KeyError(number)

    with pytest.raises(KeyError, match="1001") as found:  # the smallest
        Fuzz(first_seed=7, examples=50)(check, NUMBERS)
    assert "--hypothesis-seed=7 " in " ".join(found.value.__notes__)


def test_an_example_without_end_is_a_failure() -> None:
    def check(_: int) -> None:
        while True:
            pass

    with pytest.raises(AssertionError, match=r"more than 0\.1 s"):
        Fuzz(first_seed=7, examples=1, most_seconds=0.1)(check, NUMBERS)


def test_an_example_that_fills_the_memory_is_a_failure() -> None:
    with pytest.raises(AssertionError, match=r"took 1\d\d\d MB"):
        ONE(lambda _: np.ones(130_000_000).sum(), st.none())


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ("b.csv: expected 1, got 2; repair it", "names none of"),
        ("a.csv: expected 1,\ngot 2; repair it", "the message has"),
    ],
)
def test_a_message_without_its_place_or_of_two_lines_is_a_failure(message: str, failure: str) -> None:
    with pytest.raises(AssertionError, match=failure):
        outcome(lambda: raised(*message.split("\n")), "a.csv")
    assert outcome(lambda: raised("a.csv: expected 1, got 2; repair it"), "a.csv") is None


def test_a_pickle_that_runs_is_a_failure(tmp_path: Path) -> None:
    marker = Marker(tmp_path)
    marker.require_absent()
    made, arguments = marker.__reduce__()
    made(*arguments)
    with pytest.raises(AssertionError, match="code of the file was run"):
        marker.require_absent()


def test_a_seed_gives_the_same_examples() -> None:
    drawn: list[list[int]] = [[], [], []]
    for first_seed, examples in ((7, drawn[0]), (7, drawn[1]), (8, drawn[2])):
        Fuzz(first_seed=first_seed, examples=20)(examples.append, NUMBERS)
    assert drawn[0] == drawn[1] != drawn[2]
