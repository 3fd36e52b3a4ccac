"""One driver per study folder: the second is told who holds it, and a dead one holds nothing."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from raygrid.errors import StoreError
from raygrid.heartbeat import held
from raygrid.replica import replica_of


@contextmanager
def lease(study_dir: Path) -> Iterator[None]:
    """Hold the study folder while the block runs. Raises StoreError, naming the holder, if another driver has it.

    The lock belongs to the process: the operating system takes it back when the process ends, however it ends. A
    study in object storage is held against other machines, too (raygrid.heartbeat). A folder that it made is removed
    again if nothing was written there.
    """
    is_new = not study_dir.exists()
    path, replica = study_dir / "driver.lock", replica_of(study_dir)
    with _locked(path) as file:
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}))
        file.flush()
        try:
            with nullcontext() if replica is None else held(replica.remote, replica.identity):
                yield
        finally:
            if is_new and [*study_dir.iterdir()] == [path]:
                path.unlink()
                study_dir.rmdir()


def _locked(path: Path) -> TextIO:
    """Return the lock file, open and locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack, suppress(FileNotFoundError):
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise StoreError(
                    f"{path.parent} is in use by another driver: {file.read().strip() or 'unknown'}; "
                    "wait for it, or choose another --output"
                ) from None
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # not one that its holder has just removed
                stack.pop_all()
                return file
