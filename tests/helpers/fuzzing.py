"""Runs of hypothesis for a number of examples or seconds, and the rules that every example keeps.

A result or an error of raygrid is a permitted outcome. Any other exception, a message that a terminal cannot show, an
example that takes longer than `Fuzz.most_seconds` or more than `MOST_BYTES`, and a pickle that runs are failures.
"""

import faulthandler
import random
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from raygrid.data.damage import SuspectImageWarning
from raygrid.errors import MissingDataError, RaygridError

T = TypeVar("T")
MOST_BYTES = 10**9  # more than before the example
_LIMIT_BYTES = 4 * 10**9  # an allocation beyond it fails at once instead of filling the machine
_LONGEST_MESSAGE = 8100  # characters
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class TooSlow(BaseException):
    """Not an Exception: readers turn every Exception into an error of their own."""


@dataclass(frozen=True)
class Fuzz:
    """A run over one surface.

    Attributes:
        first_seed: of the first round of examples; each further round has the next one.
        examples: in one round.
        seconds: rounds are started for this long; 0 is one round.
        most_seconds: of one example, which takes milliseconds; the machine may be busy.
    """

    first_seed: int
    examples: int
    seconds: float = 0
    most_seconds: float = 20

    def __call__(self, check: Callable[[T], object], inputs: st.SearchStrategy[T]) -> None:
        """Check examples of `inputs`, within the limits of time and memory; the error of a failure names its seed."""
        options = settings(
            max_examples=self.examples,
            database=None,
            deadline=None,  # a single one is in `_limited`
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        end = time.monotonic() + self.seconds
        number = self.first_seed
        with _no_allocation_beyond(_LIMIT_BYTES):
            while True:
                try:
                    seed(number)(options(given(inputs)(_limited(check, self.most_seconds))))()
                except BaseException as error:
                    error.add_note(f"The same examples again: add --hypothesis-seed={number} to the command of pytest")
                    raise
                number += 1
                if time.monotonic() >= end:
                    return


def new_seed() -> int:
    return random.SystemRandom().randrange(2**32)


def few_changes(
    make: Callable[..., T], most: int, always: Mapping[str, st.SearchStrategy[Any]], /, **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[T]:
    """Return `make` of the fields in `always` and of at most `most` of `fields`; the others keep their defaults."""

    def with_fields(names: list[str]) -> st.SearchStrategy[T]:
        return st.builds(make, **always, **{name: fields[name] for name in names})

    return st.lists(st.sampled_from(sorted(fields)), max_size=most, unique=True).flatmap(with_fields)


def outcome(call: Callable[[], T], *places: str | Path) -> T | None:
    """Return the result of `call`, or None after an error of raygrid that fits on a terminal.

    The message is one line, except of absent files, and names one of `places`, if there are any. The same holds for
    warnings about images.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result, error = call(), None
        except RaygridError as raised:
            result, error = None, raised
    if error is not None:
        _require_readable(str(error), places, is_list=isinstance(error, MissingDataError))
    for warning in told:
        if issubclass(warning.category, SuspectImageWarning):
            _require_readable(str(warning.message), places)
    return result


def _require_readable(message: str, places: Sequence[str | Path], *, is_list: bool = False) -> None:
    message.encode()  # a lone surrogate could not be printed
    wrong = [character for character in message if not character.isprintable() and not (is_list and character == "\n")]
    assert not wrong, f"the message has {wrong[0]!r}: {message!r}"
    assert len(message) < _LONGEST_MESSAGE, f"a message of {len(message)} characters: {message[:200]!r}"
    assert not places or any(str(place) in message for place in places), f"names none of {places}: {message!r}"


class Marker:
    """A pickle that makes a folder when it is loaded, so that a test sees whether a reader runs code of a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a pickle was run"

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self.folder),)

    def require_absent(self) -> None:
        assert not self.folder.exists(), "code of the file was run"


def _limited(check: Callable[[T], object], seconds: float) -> Callable[[T], None]:
    def limited(example: T) -> None:
        _reset_peak()
        before = _memory("VmHWM")
        with _at_most(seconds):
            check(example)
        grown = _memory("VmHWM") - before
        assert grown < MOST_BYTES, f"the example took {grown / 1e6:.0f} MB"

    return limited


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(60 + seconds, exit=True)  # code in C does not see the signal
    try:
        yield
    except TooSlow as error:
        raise AssertionError(f"the example took more than {seconds} s") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _no_allocation_beyond(num_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    if not _STATUS.exists():
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _reset_peak() -> None:
    if _RESET.exists():
        _RESET.write_text("5")  # proc(5): the peak becomes the memory in use


def _memory(name: str) -> int:
    """Return a number of bytes of this process from /proc; 0 where there is none, as on macOS."""
    if not _STATUS.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
