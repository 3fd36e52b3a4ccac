"""Progress that a person can read, on a terminal and in a log alike; raygrid's logger gets all of it."""

import logging
import sys
import time

LOGGER = logging.getLogger("raygrid")

_EVERY_S = 5.0
_ENOUGH = 3  # pieces that a guess of the time left needs


class Progress:
    """Counts finished pieces of one stage and prints a line at most every five seconds, and at the end."""

    def __init__(self, title: str, total: int, *, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first piece was finished, and how many there were then
        self._printed = -_EVERY_S

    def advance(self, detail: str = "") -> None:
        """Count one more finished piece."""
        self.done += 1
        if self._first is None:
            self._first = (time.monotonic(), self.done)
        self._log(detail)
        self.note(detail)

    def fail(self, what: str, reason: str) -> None:
        """Say that one piece failed; it is not counted."""
        LOGGER.error("%s failed: %s", what, reason, extra={"fields": {"stage": self.title, "detail": what}})
        self.note(f"{what} FAILED: {reason}")

    def note(self, detail: str = "", *, always: bool = False) -> None:
        """Print the state with a detail, if it is due."""
        now = time.monotonic()
        if not (always or self.done == self.total or now - self._printed >= _EVERY_S):
            return
        self._printed = now
        _print(
            f"{self.title} {self.done}/{self.total} after {_clock(now - self._begun)}{self._left(now)}"
            f"{'  ' if detail else ''}{detail}"
        )

    def _log(self, detail: str) -> None:
        fields = {"stage": self.title, "done": self.done, "total": self.total, "detail": detail}
        LOGGER.info("%s %d/%d", self.title, self.done, self.total, extra={"fields": fields})

    def _left(self, now: float) -> str:
        """Return the time left at the pace since the first piece: what came before it is start-up."""
        if self._first is None or self.done == self.total or self.done - self._first[1] < _ENOUGH:
            return ""
        begun, first = self._first
        return f", about {_clock((now - begun) / (self.done - first) * (self.total - self.done))} left"


def tell(text: str) -> None:
    """Print one line at once."""
    LOGGER.info("%s", text)
    _print(text)


def _print(text: str) -> None:
    print(text, file=sys.stdout, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
