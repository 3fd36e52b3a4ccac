"""Progress lines for terminals and log files; raygrid's logger receives every event."""

import logging
import os
import signal
import sys
import time

from raygrid.errors import one_line

LOGGER = logging.getLogger("raygrid")

_EVERY_S = 5.0
_ENOUGH = 3  # finished pieces before the time left is estimated


class Progress:
    """Count the finished pieces of one stage; print a line at most every five seconds, and at the end."""

    def __init__(self, title: str, total: int, *, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None  # time of the first finished piece, and the count at that time
        self._printed = -_EVERY_S

    def advance(self, detail: str = "") -> None:
        """Count one more finished piece."""
        self.done += 1
        if self._first is None:
            self._first = (time.monotonic(), self.done)
        self._log(detail)
        self.note(detail)

    def fail(self, piece: str, reason: str, *more: str) -> None:
        """Report one failed piece, without counting it; `more` are further lines of the reason."""
        text = _lines(f"{piece} failed: {reason}", *more)
        LOGGER.error("%s", text, extra={"fields": {"stage": self.title, "detail": piece}})
        self.note(f"{piece} FAILED: {reason}", *more)

    def note(self, detail: str = "", *more: str, always: bool = False) -> None:
        """Print the state with a detail, and further lines, if a line is due or `always` is set."""
        now = time.monotonic()
        if not (always or self.done == self.total or now - self._printed >= _EVERY_S):
            return
        self._printed = now
        _print(
            f"{self.title} {self.done}/{self.total} after {_clock(now - self._begun)}{self._left(now)}"
            f"{'  ' if detail else ''}{detail}",
            *more,
        )

    def _log(self, detail: str) -> None:
        fields = {"stage": self.title, "done": self.done, "total": self.total, "detail": detail}
        LOGGER.info("%s %d/%d", self.title, self.done, self.total, extra={"fields": fields})

    def _left(self, now: float) -> str:
        """Return the estimated time left; the time up to the first finished piece is start-up and does not count."""
        if self._first is None or self.done == self.total or self.done - self._first[1] < _ENOUGH:
            return ""
        begun, first = self._first
        return f", about {_clock((now - begun) / (self.done - first) * (self.total - self.done))} left"


def tell(*lines: str) -> None:
    """Print lines immediately, and log them as one event. A line break within a line is shown as an escape."""
    LOGGER.info("%s", _lines(*lines))
    _print(*lines)


def _lines(*lines: str) -> str:
    return "\n".join(map(one_line, lines))


def _print(*lines: str) -> None:
    """Print lines; end the process quietly if the reader of a pipe, such as `head`, has closed it."""
    try:
        print(_lines(*lines), file=sys.stdout, flush=True)
    except BrokenPipeError:
        # Python flushes the stream once more at exit, and would print a traceback for that
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
