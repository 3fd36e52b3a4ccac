"""One driver per study folder: the second is told who holds it, and a dead one holds nothing."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from raygrid.errors import StoreError
from raygrid.heartbeat import held
from raygrid.replica import replica_of


@contextmanager
def lease(study_dir: Path) -> Iterator[None]:
    """Hold the study folder while the block runs. Raises StoreError, naming the holder, if another driver has it.

    The lock belongs to the process: the operating system takes it back when the process ends, however it ends. A
    study in object storage is held against other machines, too (raygrid.heartbeat).
    """
    study_dir.mkdir(parents=True, exist_ok=True)
    path, replica = study_dir / "driver.lock", replica_of(study_dir)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StoreError(
                f"{study_dir} is in use by another driver: {file.read().strip() or 'unknown'}; "
                "wait for it, or choose another --output"
            ) from None
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}))
        file.flush()
        with nullcontext() if replica is None else held(replica.remote, replica.identity):
            yield
