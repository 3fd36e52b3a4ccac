"""A GPU that never comes: the error says where to look, and quotes the autoscaler on the head node."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from raygrid.errors import ClusterError
from raygrid.study.autoscaler_log import last_error, logs_here
from raygrid.study.cluster import read_resources

# as Ray 2.60 writes them while it sets up a worker whose last set-up command fails
OUT = """\
Fetched 1,042 kB in 1s
  [7/7] Running setup commands
    (5/6) cd ~/raygrid && ~/.uv/bin/uv pip install ...
node ip-10-0-1-7: 1 NVIDIA card, no driver, torch 2.15.0; cache on /, 150 GB free
\x1b[31merror: node ip-10-0-1-7: NVIDIA card at PCI 0000:00:1e.0: expected NVIDIA's driver, got none\x1b[0m
Shared connection to 10.0.1.7 closed.
"""
ERR = """\
New status: update-failed
!!!
Full traceback: Traceback (most recent call last):
Error message: SSH command failed.
!!!
Failed.
"""
LOG = """\
2026-11-28 04:52:47,880 ERROR monitor.py:218 -- An exception occurred while starting the metrics server.
Recent failures:
 (no failures)
2026-11-28 04:58:12,277 INFO threaded_ray_installer.py:81 -- Ray installation failed on instance i-1: update-failed
2026-11-28 04:58:12,277 WARNING threaded_ray_installer.py:86 -- Failed to install ray, retrying...
"""


def write_logs(folder: Path, out: str = "", err: str = "", log: str = "") -> Path:
    """Write the three files of the autoscaler."""
    for name, text in (("out", out), ("err", err), ("log", log)):
        (folder / f"monitor.{name}").write_text(text)
    return folder


def test_the_output_of_a_failed_command_comes_before_rays_words(tmp_path: Path) -> None:
    quoted = last_error(write_logs(tmp_path, OUT, ERR, LOG))
    assert quoted == "error: node ip-10-0-1-7: NVIDIA card at PCI 0000:00:1e.0: expected NVIDIA's driver, got none"


def test_rays_words_are_quoted_where_nothing_else_is(tmp_path: Path) -> None:
    assert "Failed to install ray, retrying..." in last_error(write_logs(tmp_path, log=LOG))


def test_a_shortage_of_machines_is_quoted(tmp_path: Path) -> None:
    shortage = " gpu_spot: InsufficientInstanceCapacity (latest_attempt: 04:58:12)"
    assert last_error(write_logs(tmp_path, log=f"Recent failures:\n{shortage}\n")) == shortage.strip()


@pytest.mark.parametrize("log", ["", "Recent failures:\n (no failures)\n", LOG.splitlines()[0]])
def test_nothing_is_quoted_without_a_failure_of_a_node(tmp_path: Path, log: str) -> None:
    assert last_error(write_logs(tmp_path, "Fetched 1 kB\n", log=log)) == ""
    assert last_error(tmp_path / "absent") == ""


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    early = "error: early\n" + "fetched a file\n" * 200_000
    assert last_error(write_logs(tmp_path, early)) == ""
    assert last_error(write_logs(tmp_path, early + "error: late " + "x" * 1000)) == ("error: late " + "x" * 1000)[:300]


class GrowingRay:
    """Stands for the module `ray`, connected to a cluster that gets no GPU."""

    exceptions = ray.exceptions

    def __init__(self, logs: Path | None) -> None:
        node = None if logs is None else SimpleNamespace(get_logs_dir_path=lambda: str(logs))
        self._private = SimpleNamespace(worker=SimpleNamespace(_global_node=node))

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0}

    def nodes(self) -> list[dict[str, Any]]:
        return []

    def remote(self, **_: object) -> Any:
        return lambda function: SimpleNamespace(remote=lambda: None)

    def get(self, *_: object, **__: object) -> None:
        raise ray.exceptions.GetTimeoutError("timed out")


def message_of(logs: Path | None) -> str:
    with pytest.raises(ClusterError, match=r"^expected a GPU in the cluster within 15 minutes, got none; ") as caught:
        read_resources(GrowingRay(logs), "cuda")
    text = str(caught.value)
    assert "\n" not in text
    assert "ray exec cluster.yaml 'tail -n 100 /tmp/ray/session_latest/logs/monitor*'" in text
    assert text.endswith("or use --device cpu")
    return text


@pytest.mark.parametrize("here", [True, False])
def test_without_an_error_in_the_log_nothing_is_quoted(tmp_path: Path, here: bool) -> None:
    assert "autoscaler's log" not in message_of(tmp_path if here else None)


def test_on_the_head_node_the_error_quotes_the_log(tmp_path: Path) -> None:
    text = message_of(write_logs(tmp_path, OUT.replace("got none", "got\x07 none"), ERR, LOG))
    assert "; the last error in the autoscaler's log is: error: node ip-10-0-1-7: NVIDIA card" in text
    assert "got\\x07 none; look for nodes" in text


def test_the_logs_are_those_of_the_connected_cluster(ray_session: Any) -> None:
    logs = logs_here(ray_session)
    assert logs is not None
    assert (logs / "monitor.log").exists()
