"""The last error in the log of Ray's autoscaler, which starts and sets up the nodes of a cluster."""

import re
from pathlib import Path
from typing import Any

_FILES = ("monitor.err", "monitor.out", "monitor.log")  # the output of set-up commands is in the first two
_TAIL_BYTES = 2**20  # read from the end of a file; the log of a long run is large
_LONGEST_LINE = 300
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ERROR = re.compile(
    r"^E: |latest_attempt|\b(error|fatal|failed|failure|cannot|unable to|no such file|permission denied)\b",
    re.IGNORECASE,
)
# Ray's own words about a failure follow the line that names it
_ECHO = re.compile(
    r"update-failed|(SSH|Setup|Initialization|Start) command failed|See above for stderr|^Failed\.$"
    r"|Ray installation failed|Failed to install ray"
)
_ELSEWHERE = "metrics server"  # its errors do not keep a node from starting


def logs_here(ray: Any) -> Path | None:
    """Return the log folder of the connected cluster on this machine; None if this driver is a Ray client."""
    node = ray._private.worker._global_node
    return None if node is None else Path(node.get_logs_dir_path())


def last_error(logs: Path) -> str:
    """Return the last error of the autoscaler, one line without colours; "" if there is none.

    Only the head node has these files. The line of a command's output comes before Ray's own about it.

    Args:
        logs: log folder of the cluster.
    """
    echo = ""
    for name in _FILES:
        lines = [line for line in _tail(logs / name) if _ERROR.search(line) and _ELSEWHERE not in line]
        for line in reversed(lines):
            if not _ECHO.search(line):
                return line[:_LONGEST_LINE]
            echo = echo or line[:_LONGEST_LINE]
    return echo


def _tail(path: Path) -> list[str]:
    """Return the last lines of a file, [] if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [_COLOURS.sub("", line).strip() for line in text.splitlines()]
