"""STUDY/log.jsonl: what every run of a study did, for programs and for the day after; people read the terminal.

A JSON object a line, appended: time (UTC), host, pid, level, message; of a finished piece also stage, done, total,
detail; of an end that was no success kind and traceback. Lines of raygrid's logger go there, so other handlers of
Python's logging can have them too.
"""

import json
import logging
import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raygrid._version import __version__
from raygrid.errors import RaygridError, StoreError
from raygrid.io.mirror import pull, upload
from raygrid.progress import LOGGER

LOG_FILE = "log.jsonl"


@contextmanager
def run_log(study_dir: Path) -> Iterator[None]:
    """Append what happens while the block runs, and how it ended; a run that ends before there is a study leaves none.

    Raises StoreError if the file cannot be written.
    """
    path = study_dir / LOG_FILE
    if not path.exists():
        pull(path)  # what earlier runs on other machines wrote
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); see to space and permissions") from error
    handler.setFormatter(_JsonLine())
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        LOGGER.info("run begins", extra={"fields": {"version": __version__}})
        yield
        LOGGER.info("run ends")
    except BaseException as error:
        why = "told to stop" if isinstance(error, KeyboardInterrupt) else error
        LOGGER.error("run stops: %s", why, extra={"fields": _ending(error)})
        raise
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        handler.close()
        if (study_dir / "study.json").exists():
            with suppress(StoreError):  # of a storage that is gone the run has told; this node keeps its lines
                upload(path, path)
        else:  # its first check failed, and the terminal has said how
            path.unlink(missing_ok=True)


def _ending(error: BaseException) -> dict[str, str]:
    """Return the kind of an error, and where it came from unless its message says all, as those of raygrid do."""
    kind = {"kind": type(error).__name__}
    if isinstance(error, (RaygridError, KeyboardInterrupt)):
        return kind
    return {**kind, "traceback": "".join(traceback.format_exception(error))}


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        about = {"time": when, "host": socket.gethostname(), "pid": os.getpid(), "level": record.levelname.lower()}
        return json.dumps({**about, "message": record.getMessage(), **fields}, ensure_ascii=False)
