"""Rate limit of an endpoint, shared by all workers of a node."""

import time
from collections.abc import Callable

from filelock import FileLock

from raygrid.hashing import digest
from raygrid.io.files import write_text
from raygrid.io.paths import cache_dir

_LONGEST_QUEUE_S = 3600.0  # a later turn was written before somebody set the clock back


class RateLimiter:
    """Turns to send a request to one URL, at least 1 / `per_second` seconds apart.

    A file in the cache of the node holds the time of the next free turn. The worker that takes the turn writes the time
    of the following one.
    """

    def __init__(
        self,
        url: str,
        per_second: float,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s, self._clock, self._sleep = 1 / per_second, clock, sleep
        self._path = cache_dir() / f"endpoint-{digest(url)[:16]}.next"
        self._lock = FileLock(self._path.with_suffix(".lock"))

    def wait(self) -> None:
        """Wait for the next free turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next(now))
            write_text(self._path, repr(turn + self._interval_s))
        if turn > now:
            self._sleep(turn - now)

    def postpone(self, seconds: float) -> None:
        """Give no worker a turn for some seconds, as the endpoint requested."""
        with self._lock:
            now = self._clock()
            write_text(self._path, repr(max(now + seconds, self._next(now))))

    def _next(self, now: float) -> float:
        try:
            turn = float(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return now
        return turn if turn <= now + _LONGEST_QUEUE_S else now
