"""Two lengths of every fuzz run: a hundred examples, or as many as the time allows.

Both draw the same examples each time: a failure is new in the change that is tested. Only `make fuzz` searches with
new seeds.
"""

import pytest
from fuzzing import Fuzz, new_seed

SECONDS = 33.0  # of each of the nine long runs: five minutes together


@pytest.fixture(params=["quick", pytest.param("long", marks=pytest.mark.slow)])
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """A quick run, or a long one, whose seed and time can be options of pytest."""
    if request.param == "quick":
        return Fuzz(first_seed=0, examples=100)
    seed = request.config.getoption("--hypothesis-seed") or 1
    return Fuzz(
        first_seed=new_seed() if seed == "random" else int(seed),
        examples=50,
        seconds=request.config.getoption("--fuzz-seconds") or SECONDS,
    )
