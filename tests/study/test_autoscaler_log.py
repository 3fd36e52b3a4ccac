"""A GPU that never comes: the error says where to look, and quotes the autoscaler on the head node."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from raygrid.errors import ClusterError
from raygrid.study.autoscaler_log import last_error, logs_here
from raygrid.study.cluster import read_resources

# as Ray 2.60 writes them while it sets up a worker whose last set-up command fails
STAMP = "2026-11-28 05:32:26,536\t"
COMMAND = f"{STAMP}VINFO command_runner.py:399 -- Running `\x1b[1m~/raygrid/.venv/bin/raygrid check-node\x1b[22m`\n"
NO_TERMINAL = """\
bash: cannot set terminal process group (31649): Inappropriate ioctl for device
bash: no job control in this shell
"""
CLOSED = "Shared connection to 10.0.1.7 closed.\n"
FAULT = "error: node ip-10-0-1-7: NVIDIA GPU at PCI 0000:00:1e.0: expected NVIDIA's driver, got none"
FACTS = "node ip-10-0-1-7: 1 NVIDIA GPU, no driver, torch 2.15.0; cache on /, 150 GB free\n"
FAILED = f"""\
{STAMP}INFO log_timer.py:25 -- NodeUpdater: i-1: Setup commands failed [LogTimer=99ms]
{STAMP}ERR updater.py:177 -- \x1b[31mNew status: \x1b[1mupdate-failed\x1b[22m\x1b[26m\x1b[39m
{STAMP}ERR updater.py:191 -- \x1b[31mFull traceback: Traceback (most recent call last):
click.exceptions.ClickException: SSH command failed.
"""
RETRIED = f"{STAMP}INFO updater.py:333 -- SSH still not available (SSH command failed.), retrying in 5 seconds.\n"
LOG = f"""\
{STAMP}ERROR monitor.py:218 -- An exception occurred while starting the metrics server.
Recent failures:
 (no failures)
{STAMP}INFO threaded_ray_installer.py:81 -- Ray installation failed on instance i-1: update-failed
"""


def write_logs(folder: Path, out: str = "", log: str = "") -> Path:
    """Write the two files of the autoscaler that are read."""
    (folder / "monitor.out").write_text(out)
    (folder / "monitor.log").write_text(log)
    return folder


@pytest.mark.parametrize(
    ("output", "quoted"),
    [
        (f"{FACTS}\x1b[31m{FAULT}\x1b[0m\n", FAULT),
        (f"{FAULT}\nhint: see the pages\n", FAULT),  # the last line is not always the error
        ("E: Could not get lock /var/lib/dpkg/lock-frontend\n", "E: Could not get lock /var/lib/dpkg/lock-frontend"),
        ("sorry, I cannot go on\n", "sorry, I cannot go on"),
        ("", f"{STAMP}INFO log_timer.py:25 -- NodeUpdater: i-1: Setup commands failed [LogTimer=99ms]"),
    ],
)
def test_the_output_of_the_failed_command_is_quoted(tmp_path: Path, output: str, quoted: str) -> None:
    earlier = f"{COMMAND}error: of an earlier command, which was harmless\n"
    out = earlier + COMMAND + NO_TERMINAL + output + CLOSED + FAILED + RETRIED
    assert last_error(write_logs(tmp_path, out, LOG)) == quoted


def test_of_two_failures_the_last_is_quoted(tmp_path: Path) -> None:
    first, second = (f"{COMMAND}error: {k}\n{FAILED}" for k in ("first", "second"))
    assert last_error(write_logs(tmp_path, first + second)) == "error: second"


def test_a_shortage_of_machines_is_quoted(tmp_path: Path) -> None:
    shortage = " gpu_spot: InsufficientInstanceCapacity (latest_attempt: 04:58:12)"
    assert last_error(write_logs(tmp_path, COMMAND, f"Recent failures:\n{shortage}\n")) == shortage.strip()


def test_nothing_is_quoted_without_a_failure_of_a_node(tmp_path: Path) -> None:
    assert last_error(write_logs(tmp_path, f"{COMMAND}error: harmless\n{RETRIED}", LOG)) == ""
    assert last_error(tmp_path / "absent") == ""


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    early = COMMAND + FAULT + "\n" + FAILED + "fetched a file\n" * 200_000
    assert last_error(write_logs(tmp_path, early)) == ""
    late = f"{COMMAND}error: late {'x' * 1000}\n{FAILED}"
    assert last_error(write_logs(tmp_path, early + late)) == ("error: late " + "x" * 1000)[:300]


def test_the_log_that_ray_writes_is_understood(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"  # runs the command here; a terminal joins both outputs
    ssh.write_text('#!/bin/bash\nwhile [[ $1 != *@* ]]; do shift; done; shift\nbash -c "$*" 2>&1\n')
    ssh.chmod(0o755)
    command = f"echo '{FACTS.strip()}'; echo \"{FAULT}\" >&2; exit 1"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = Path(__file__).parents[1] / "helpers" / "update_node.py"
    with (tmp_path / "monitor.out").open("w") as out:
        subprocess.run([sys.executable, str(script), command], env=environment, stdout=out, timeout=300)
    assert last_error(tmp_path) == FAULT


class GrowingRay:
    """Stands for the module `ray`, connected to a cluster that gets no GPU."""

    exceptions = ray.exceptions

    def __init__(self, logs: Path | None, gpus: float = 0.0) -> None:
        self._gpus = gpus
        node = None if logs is None else SimpleNamespace(get_logs_dir_path=lambda: str(logs))
        self._private = SimpleNamespace(worker=SimpleNamespace(_global_node=node))

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, "GPU": self._gpus}

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
    text = message_of(write_logs(tmp_path, COMMAND + FAULT.replace("got none", "got\x07 none") + "\n" + FAILED, LOG))
    assert "; the last error in the autoscaler's log is: error: node ip-10-0-1-7: NVIDIA GPU" in text
    assert "got\\x07 none; run `ray status` on the head node" in text


def test_gpus_that_other_work_holds_are_not_missing(tmp_path: Path) -> None:
    logs = write_logs(tmp_path, COMMAND + FAULT + "\n" + FAILED, LOG)
    with pytest.raises(ClusterError) as caught:
        read_resources(GrowingRay(logs, gpus=2.0), "cuda")
    assert str(caught.value).startswith("expected a free GPU within 15 minutes, got none: other work uses all 2 ")
    assert "autoscaler" not in str(caught.value)


def test_the_logs_are_those_of_the_connected_cluster(ray_session: Any) -> None:
    logs = logs_here(ray_session)
    assert logs is not None
    assert (logs / "monitor.log").exists()
