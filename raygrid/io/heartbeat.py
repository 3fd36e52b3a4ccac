"""One driver per folder in object storage, which knows no locks: an object that its driver renews while it lives.

STUDY/driver.json says who works on the study. Its age is read off the server's clock alone, so the clocks of the
machines do not matter: it is compared with an object that is written to be compared.
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
    """Seconds between two signs of life, until a silent driver counts as dead, and between claim and check.

    Storage without conditional writes lets two drivers claim at once; the one whose claim is overwritten sees it at
    the check, or at its next sign of life.
    """

    renew_s: float = 20.0
    stale_s: float = 90.0
    settle_s: float = 2.0


TIMING = HeartbeatTiming()


@contextmanager
def hold_folder(remote: Remote, identity: str) -> Iterator[None]:
    """Hold a folder in object storage while the block runs.

    Args:
        identity: of this node's mirror, whose lock the caller holds: who claimed through the same one is dead.

    Raises StoreError, naming the holder, if another driver shows signs of life, and in the block's place if another
    one has taken over meanwhile.
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
            keeper.raise_if_lost()  # whatever went wrong: the reason is that somebody else works on the study


class _Keeper(threading.Thread):
    """Claims the folder, and renews the claim until it is stopped."""

    def __init__(self, remote: Remote, identity: str, interrupt: Callable[[], None]) -> None:
        super().__init__(daemon=True, name="raygrid-heartbeat")
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._remote, self._interrupt, self._ended, self._taken_by = remote, interrupt, threading.Event(), ""
        self._claim = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        self._claim |= {"token": uuid.uuid4().hex, "mirror": identity}

    def claim(self) -> None:
        """Write the claim if nobody alive has one. Raises StoreError, naming the holder."""
        holder = self._holder()
        if holder is not None and holder.get("mirror") != self._claim["mirror"] and self._is_alive():
            raise self._in_use(holder)
        self._write()
        time.sleep(TIMING.settle_s)  # whoever looked before our claim was there has written his by then
        holder = self._holder()
        if holder is None or holder["token"] != self._claim["token"]:
            raise self._in_use(holder or {})

    def run(self) -> None:
        """Renew the claim; if it is somebody else's, interrupt the block that holds it."""
        while not self._ended.wait(TIMING.renew_s):
            try:
                holder = self._holder()
                if holder is None or holder["token"] == self._claim["token"]:
                    self._write()
                    continue
            except StoreError:
                continue  # no answer now: the stages find out, too, and somebody who takes over is seen later
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
                f"{self._remote.url} was taken over by another driver: {self._taken_by}; this one gave no sign of life "
                f"for {TIMING.stale_s:g} s (asleep, or without network) and stops; what it finished stays"
            ) from None

    def release(self) -> None:
        """Delete the claim if it is ours still; a storage that does not answer lets it grow old instead."""
        try:
            holder = self._holder()
            if holder is not None and holder["token"] == self._claim["token"]:
                self._remote.delete(_NAME)
        except StoreError:
            return

    def _holder(self) -> dict[str, Any] | None:
        """Return the claim that stands, None if there is none or nobody could have meant it."""
        data = self._remote.read(_NAME)
        try:
            values = None if data is None else json.loads(data)
        except ValueError:
            return None
        return values if isinstance(values, dict) and "token" in values else None

    def _is_alive(self) -> bool:
        """Whether the claim that stands was renewed lately, by the server's own clock."""
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
            f"--output; one that died is let go {TIMING.stale_s:g} s after its last sign of life"
        )


def _readable(holder: dict[str, Any]) -> str:
    return json.dumps({name: holder.get(name, "unknown") for name in ("host", "pid", "since")})
