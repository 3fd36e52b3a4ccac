"""Two lengths of every fuzz run: the same few hundred examples in each run of the tests, or new ones for a while."""

import pytest
from fuzzing import Fuzz, new_seed

SECONDS = 33  # of each of the nine long runs: five minutes together


@pytest.fixture(params=["quick", pytest.param("long", marks=pytest.mark.slow)])
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """A quick run of examples that are always the same, or a long one with another seed each time."""
    if request.param == "quick":
        return Fuzz(first_seed=0, examples=100)
    given = request.config.getoption("--hypothesis-seed")
    return Fuzz(first_seed=new_seed() if given in (None, "random") else int(given), examples=50, seconds=SECONDS)
