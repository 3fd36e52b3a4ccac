"""The last error in the log of Ray's autoscaler, which starts and sets up the nodes of a cluster."""

import re
from pathlib import Path
from typing import Any

_TAIL_BYTES = 2**20  # read from the end of a file; the log of a long run is large
_LONGEST_LINE = 300
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RAYS_OWN = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+\s+[A-Z]+ \S+\.py:\d+ -- ")
_FAILED = re.compile(r"NodeUpdater: \S+: (Initialization|Setup|Ray start) commands failed")
_ERROR = re.compile(r"^E: |\b(error|fatal|failed|failure|unable to|no such file|permission denied)\b", re.IGNORECASE)
_NO_TERMINAL = ("cannot set terminal process group", "no job control in this shell", "Shared connection to")
_NOT_LAUNCHED = "latest_attempt"  # in the autoscaler's list of recent failures


def logs_here(ray: Any) -> Path | None:
    """Return the log folder of the connected cluster on this machine; None if this driver is a Ray client."""
    node = ray._private.worker._global_node
    return None if node is None else Path(node.get_logs_dir_path())


def last_error(logs: Path) -> str:
    """Return the last error of a node that did not start, on one line without colours; "" if there is none.

    The line is from the output of the set-up command that failed. If no set-up failed, it is the autoscaler's line
    about an instance that the cloud did not launch. Only the head node has these files.

    Args:
        logs: log folder of the cluster.
    """
    printed = _tail(logs / "monitor.out")
    failed = [k for k, line in enumerate(printed) if _FAILED.search(line)]
    found = _reason(printed[: failed[-1]]) or printed[failed[-1]] if failed else ""
    if not found:
        found = next((line for line in reversed(_tail(logs / "monitor.log")) if _NOT_LAUNCHED in line), "")
    return found[:_LONGEST_LINE]


def _reason(lines: list[str]) -> str:
    """Return the line of the last command's output that names the failure; "" if the command printed nothing."""
    output: list[str] = []
    for line in reversed(lines):
        if _RAYS_OWN.match(line):
            break
        if line and not any(words in line for words in _NO_TERMINAL):
            output.append(line)
    return next((line for line in output if _ERROR.search(line)), output[0] if output else "")


def _tail(path: Path) -> list[str]:
    """Return the last lines of a file, [] if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [_COLOURS.sub("", line).strip() for line in text.splitlines()]
