"""STUDY/log.jsonl: the events of all runs of a study, for programs and for later analysis.

One JSON object per line: time (UTC), host, pid, level, message; for a finished piece of work also stage, done, total
and detail; for a failed run also kind and traceback. The records come from raygrid's logger, so other handlers of
Python's logging can receive them, too.
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
    """Append the events of the block, and its end, to the log.

    A run that fails before study.json is written leaves no log. Raises StoreError if the log cannot be written.
    """
    path = study_dir / LOG_FILE
    if not path.exists():
        pull(path)  # continue the log of runs on other machines
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}); check free space and permissions") from error
    handler.setFormatter(_JsonLine())
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        LOGGER.info("run begins", extra={"fields": {"version": __version__}})
        yield
        LOGGER.info("run ends")
    except BaseException as error:
        stopped = {KeyboardInterrupt: "told to stop", SystemExit: "the reader of its output ended"}
        why = next((text for kind, text in stopped.items() if isinstance(error, kind)), error)
        LOGGER.error("run stops: %s", why, extra={"fields": _ending(error)})
        raise
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
        handler.close()
        if (study_dir / "study.json").exists():
            with suppress(StoreError):  # the run itself reports unreachable storage; the lines stay on this node
                upload(path, path)
        else:  # the first check failed; its message is on the terminal
            path.unlink(missing_ok=True)


def _ending(error: BaseException) -> dict[str, str]:
    """Return the kind of an error and its traceback; raygrid's own errors need no traceback."""
    kind = {"kind": type(error).__name__}
    if isinstance(error, (RaygridError, KeyboardInterrupt, SystemExit)):
        return kind
    return {**kind, "traceback": "".join(traceback.format_exception(error))}


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        about = {"time": when, "host": socket.gethostname(), "pid": os.getpid(), "level": record.levelname.lower()}
        return json.dumps({**about, "message": record.getMessage(), **fields}, ensure_ascii=False)
