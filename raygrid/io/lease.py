"""One driver per study folder: a second one is refused with the holder's name; the lock of a dead one is released."""

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from raygrid.errors import StoreError
from raygrid.io.heartbeat import hold_folder
from raygrid.io.mirror import mirror_of
from raygrid.io.paths import make_folder


@contextmanager
def lease(study_dir: Path) -> Iterator[None]:
    """Hold the study folder while the block runs. Raises StoreError, naming the holder, if another driver has it.

    The lock belongs to the process: the operating system releases it when the process ends for any reason. A study
    in object storage is also held against other machines (raygrid.io.heartbeat). A folder created here and empty
    at the end is removed.
    """
    is_new = not study_dir.exists()
    path, mirror = study_dir / "driver.lock", mirror_of(study_dir)
    with _locked(path) as file:
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}))
        file.flush()
        try:
            with nullcontext() if mirror is None else hold_folder(mirror.remote, mirror.identity):
                yield
        finally:
            if is_new and [*study_dir.iterdir()] == [path]:
                path.unlink()
                study_dir.rmdir()


def _locked(path: Path) -> TextIO:
    """Return the lock file, open and locked."""
    while True:
        make_folder(path.parent)
        with ExitStack() as stack, suppress(FileNotFoundError):
            file = stack.enter_context(_opened(path))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise StoreError(
                    f"{path.parent} is in use by another driver: {file.read().strip() or 'unknown'}; "
                    "wait for it, or choose another --output"
                ) from None
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # otherwise its holder has just removed it
                stack.pop_all()
                return file


def _opened(path: Path) -> TextIO:
    """Return the lock file, open for reading and appending.

    A study folder may come from another person: if the lock file were a symbolic link, its target would be
    emptied and overwritten.

    Raises StoreError if the path is not a regular file, or this user may not write to it.
    """
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for its other end
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _not_a_lock(path) from error
        if isinstance(error, PermissionError):  # of another user
            raise StoreError(
                f"{path} cannot be opened ({error.strerror}); change its owner (chown), or choose another --output"
            ) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_lock(path)
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def _not_a_lock(path: Path) -> StoreError:
    kind = "a symbolic link" if path.is_symlink() else "a folder" if path.is_dir() else "a special file"
    return StoreError(f"{path}: expected the study's lock, a regular file, got {kind}; remove it and run again")
