"""One driver per folder in object storage. Storage has no locks, so the driver renews a lease while it runs.

STUDY/driver.json names the driver. Its age is the difference between two times of the server: of its last renewal, and
of a probe object written for the comparison. The clocks of the machines do not matter.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from raygrid.errors import StoreError
from raygrid.interrupts import interruptible
from raygrid.io.object_storage import Remote

_NAME = "driver.json"


@dataclass(frozen=True)
class HeartbeatTiming:
    """Seconds of the heartbeat.

    Storage without conditional writes lets two drivers take the lease of a folder at once. The driver whose lease is
    overwritten notices at the check, or at its next renewal.

    Attributes:
        renew_s: between two renewals of the lease.
        stale_s: age at which an unrenewed lease has expired.
        settle_s: between writing the lease and checking it.
    """

    renew_s: float = 20.0
    stale_s: float = 90.0
    settle_s: float = 2.0


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
        try:
            yield
        finally:
            keeper.stop()
            keeper.release()
            keeper.raise_if_lost()  # the takeover explains every other error of the block


class _Keeper(threading.Thread):
    """A thread that takes the lease of the folder, and renews it until the thread is stopped."""

    def __init__(self, remote: Remote, identity: str, interrupt: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="raygrid-heartbeat")
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._remote, self._interrupt, self._ended, self._taken_by = remote, interrupt, threading.Event(), ""
        self._claim = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        self._claim |= {"token": uuid.uuid4().hex, "mirror": identity}

    def claim(self) -> None:
        """Take the lease. Raises StoreError, naming the holder, if another driver is alive."""
        holder = self._holder()
        if holder is not None and holder.get("mirror") != self._claim["mirror"] and self._is_alive():
            raise self._in_use(holder)
        self._write()
        time.sleep(TIMING.settle_s)  # a driver that looked before this lease existed has written its own by then
        holder = self._holder()
        if holder is None or holder["token"] != self._claim["token"]:
            raise self._in_use(holder or {})

    def run(self) -> None:
        """Renew the lease; interrupt the block if another driver has replaced it."""
        while not self._ended.wait(TIMING.renew_s):
            try:
                holder = self._holder()
                if holder is None or holder["token"] == self._claim["token"]:
                    self._write()
                    continue
            except StoreError:
                continue  # no answer: the stages fail by themselves, and the next renewal notices a takeover
            self._taken_by = _readable(holder)
            if not self._ended.is_set():
                self._interrupt()
            return

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def raise_if_lost(self) -> None:
        """Raise StoreError if another driver has taken over."""
        if self._taken_by:
            raise StoreError(
                f"{self._remote.url} was taken over by another driver: {self._taken_by}; this driver did not renew its "
                f"lease for {TIMING.stale_s:g} s (machine asleep, or no network) and stops. Finished work is kept: let "
                "the other driver continue"
            ) from None

    def release(self) -> None:
        """Delete the lease if it is still this driver's; if the storage does not answer, the lease expires."""
        try:
            holder = self._holder()
            if holder is not None and holder["token"] == self._claim["token"]:
                self._remote.delete(_NAME)
        except StoreError:
            return

    def _holder(self) -> dict[str, Any] | None:
        """Return the current lease, None if it is absent or not a lease."""
        data = self._remote.read(_NAME)
        try:
            values = None if data is None else json.loads(data)
        except ValueError:
            return None
        return values if isinstance(values, dict) and "token" in values else None

    def _is_alive(self) -> bool:
        """Whether the current lease was renewed recently, by the server's clock."""
        probe = f"driver-probe-{self._claim['token']}"
        now = self._remote.write(probe, b"what time is it?").modified_s
        self._remote.delete(probe)
        renewed = self._remote.stat(_NAME)
        return renewed is not None and now - renewed.modified_s < TIMING.stale_s

    def _write(self) -> None:
        self._remote.write(_NAME, json.dumps(self._claim).encode())

    def _in_use(self, holder: dict[str, Any]) -> StoreError:
        return StoreError(
            f"{self._remote.url} is in use by another driver: {_readable(holder)}; wait for it, or choose another "
            f"--output; the lease of a dead driver expires after {TIMING.stale_s:g} s"
        )


def _readable(holder: dict[str, Any]) -> str:
    return json.dumps({name: holder.get(name, "unknown") for name in ("host", "pid", "since")})
