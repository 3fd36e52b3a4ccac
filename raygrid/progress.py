"""Progress that a person can read, on a terminal and in a log alike."""

import sys
import time

_EVERY_S = 5.0


class Progress:
    """Counts finished pieces of one stage and prints a line at most every five seconds, and at the end."""

    def __init__(self, title: str, total: int, *, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self._begun, self._first = time.monotonic(), done
        self._printed = -_EVERY_S

    def advance(self, detail: str = "") -> None:
        """Count one more finished piece."""
        self.done += 1
        self.note(detail)

    def note(self, detail: str = "", *, always: bool = False) -> None:
        """Print the state with a detail, if it is due."""
        now = time.monotonic()
        if not (always or self.done == self.total or now - self._printed >= _EVERY_S):
            return
        self._printed = now
        elapsed, fresh = now - self._begun, self.done - self._first
        left = (
            f", about {_clock(elapsed / fresh * (self.total - self.done))} left"
            if fresh > 0 and self.done < self.total
            else ""
        )
        tell(f"{self.title} {self.done}/{self.total} after {_clock(elapsed)}{left}{'  ' if detail else ''}{detail}")


def tell(text: str) -> None:
    """Print one line at once."""
    print(text, file=sys.stdout, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
