"""One driver per folder in object storage. Storage has no locks, so the driver renews a lease while it runs.

STUDY/driver.json names the driver. Before a driver writes it, the driver writes an announcement, an object of its
own, and looks for the announcements of other drivers. A listing shows every finished write, so at least one of two
drivers sees the other, withdraws and tries again. The age of a lease is the difference between two times of the
server: of the last renewal, and of the announcement. The clocks of the machines do not matter.
"""

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from raygrid.errors import StoreError
from raygrid.interrupts import interruptible
from raygrid.io.object_storage import Remote

_NAME, _ANNOUNCEMENT = "driver.json", "driver-probe-"
_keepers: dict[Remote, "_Keeper"] = {}  # of this process


@dataclass(frozen=True)
class HeartbeatTiming:
    """Seconds of the heartbeat.

    Attributes:
        renew_s: between two renewals of the lease.
        stale_s: age at which an unrenewed lease has expired.
    """

    renew_s: float = 20.0
    stale_s: float = 90.0


TIMING = HeartbeatTiming()


@contextmanager
def hold_folder(remote: Remote, identity: str) -> Iterator[None]:
    """Hold a folder in object storage while the block runs.

    Args:
        identity: of this node's mirror. The caller holds the mirror's lock, so an older lease with the same identity
            belongs to a dead driver.

    Raises StoreError, naming the holder, if another driver renews its lease. If another driver takes over during the
    block, the block is interrupted and StoreError replaces its exception.
    """
    with interruptible() as interrupt:
        keeper = _Keeper(remote, identity, interrupt)
        keeper.claim()
        keeper.start()
        _keepers[remote] = keeper
        try:
            yield
        finally:
            del _keepers[remote]
            keeper.stop()
            keeper.raise_if_lost()  # the takeover explains every other error of the block


def require_lease(remote: Remote) -> None:
    """Renew the lease before a write of the driver if it may expire soon; do nothing in other processes.

    A machine that was asleep must not write into a folder that another driver has taken over meanwhile.

    Raises StoreError if another driver has, or if the storage does not answer.
    """
    if keeper := _keepers.get(remote):
        keeper.require()


class _Keeper(threading.Thread):
    """A thread that takes the lease of the folder, and renews it until the thread is stopped."""

    def __init__(self, remote: Remote, identity: str, interrupt: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="raygrid-heartbeat")
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._remote, self._interrupt, self._ended, self._taken_by = remote, interrupt, threading.Event(), ""
        self._token, self._mirror = uuid.uuid4().hex, identity
        claim = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        self._claim = json.dumps(claim | {"token": self._token, "mirror": identity}).encode()
        self._lock, self._renewed = threading.Lock(), _clocks()

    def claim(self) -> None:
        """Take the lease. Raises StoreError, naming the holder, if another driver is alive."""
        if holder := self._take():
            raise StoreError(
                f"{self._remote.url} is in use by another driver: {_readable(holder)}; wait for it, or choose another "
                f"--output; the lease of a dead driver expires after {TIMING.stale_s:g} s"
            )

    def run(self) -> None:
        """Renew the lease; interrupt the block if another driver has replaced it."""
        while not self._ended.wait(TIMING.renew_s):
            with suppress(StoreError):  # the stages fail by themselves, and the next renewal notices a takeover
                if not self._keep():
                    self._interrupt()
                    return

    def require(self) -> None:
        """Renew the lease if it may expire soon. Raises StoreError if another driver has taken over."""
        if self._is_late():
            self._keep()
        self.raise_if_lost()

    def stop(self) -> None:
        """End the thread, and delete the lease if it is this driver's; if the storage does not answer, it expires."""
        self._ended.set()
        self.join()
        with suppress(StoreError):
            if self._keep():  # just renewed: until it is deleted, no other driver takes it
                self._remote.delete(_NAME)

    def raise_if_lost(self) -> None:
        """Raise StoreError if another driver has taken over."""
        if self._taken_by:
            raise StoreError(
                f"{self._remote.url} was taken over by another driver: {self._taken_by}; this driver did not renew its "
                f"lease for {TIMING.stale_s:g} s (machine asleep, or no network) and stops. Finished work is kept: let "
                "the other driver continue"
            ) from None

    def _keep(self) -> bool:
        """Renew the lease; return whether it is still this driver's."""
        with self._lock:
            if not self._taken_by:
                holder = self._take() if self._is_late() else self._renew()
                self._taken_by = _readable(holder) if holder else ""
        return not self._taken_by

    def _renew(self) -> dict[str, Any] | None:
        """Write the lease, unless another driver has replaced it; return that driver."""
        holder = self._read(_NAME)
        if holder is not None and holder["token"] != self._token:
            return holder
        self._renewed = _clocks()
        self._remote.write(_NAME, self._claim)
        return None

    def _take(self) -> dict[str, Any] | None:
        """Write the lease, unless another driver is alive; return that driver."""
        announcement, begun = _ANNOUNCEMENT + self._token, time.monotonic()
        while True:
            announced = _clocks()
            now_s = self._remote.write(announcement, self._claim).modified_s
            try:
                rivals = self._rivals(now_s)
                holder = self._read(_NAME)  # after the rivals: one that has just finished may have written it
                written = self._remote.stat(_NAME)
                is_alive = written is not None and now_s - written.modified_s < TIMING.stale_s
                if holder is not None and holder.get("mirror") != self._mirror and is_alive:
                    return holder
                if not rivals and _passed_s(announced) < TIMING.stale_s / 2:
                    self._renewed = _clocks()
                    self._remote.write(_NAME, self._claim)
                    return None
            finally:
                self._remote.delete(announcement)
            passed_s = time.monotonic() - begun
            if passed_s > 2 * TIMING.stale_s:
                return next(iter(rivals), {"host": "unknown"})
            time.sleep(random.uniform(0, passed_s))  # longer after each attempt, until one driver is alone

    def _rivals(self, now_s: int) -> list[dict[str, Any]]:
        """Return the other drivers that are taking the lease, except dead ones."""
        there = self._remote.list(recursive=False)
        recent = {name for name, version in there.items() if now_s - version.modified_s < TIMING.stale_s}
        names = [name for name in recent if name.startswith(_ANNOUNCEMENT) and not name.endswith(self._token)]
        found = [self._read(name) or {"host": "unknown"} for name in names]  # unknown: deleted since the listing
        return [driver for driver in found if driver.get("mirror") != self._mirror]

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return the driver that has written an object, None if the object is absent or does not name one."""
        data = self._remote.read(name)
        try:
            values = None if data is None else json.loads(data)
        except ValueError:
            return None
        return values if isinstance(values, dict) and "token" in values else None

    def _is_late(self) -> bool:
        """Whether the lease may expire before a write that begins now has ended."""
        return _passed_s(self._renewed) > TIMING.stale_s / 2


def _clocks() -> tuple[float, float]:
    """Return two times in seconds: the first may stop while the machine sleeps, the second may be set back."""
    return time.monotonic(), time.time()


def _passed_s(since: tuple[float, float]) -> float:
    return max(now - then for now, then in zip(_clocks(), since, strict=True))


def _readable(holder: dict[str, Any]) -> str:
    return json.dumps({name: holder.get(name, "unknown") for name in ("host", "pid", "since")})
