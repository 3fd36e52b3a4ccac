"""Control of the simulated Google Cloud (`small_google.py`): its laptop, the project's cluster file, its machines."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from boxes import USER_ID
from lab import TOOLS, Lab

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "docs" / "how-to" / "cluster-gcp.yaml"
DEBIAN_TOOLS = {**TOOLS, "mount.nfs": "nfs-common"}
PROGRAMS = ("patient_grid.py", "target_functions.py")
_PROJECT = "raygrid-test"
_PLACEHOLDERS = {  # the last one alone is left after the others
    "family/REPLACE": "family/common-ubuntu",
    "REPLACE:/raygrid": "10.0.0.2:/raygrid",
    "REPLACE": _PROJECT,
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")
_MONITOR = "tail -n 80 /tmp/ray/session_latest/logs/monitor.log"
_POLL_S = 0.5


def filled_in(text: str) -> str:
    """Return the text of the cluster file with its placeholders filled in for the project of the fake."""
    for placeholder, value in _PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return text


def small(text: str) -> dict[str, Any]:
    """Return the cluster file with its placeholders filled in, small sizes, and a worker that ends after a minute."""
    config: dict[str, Any] = yaml.safe_load(filled_in(text))
    config["idle_timeout_minutes"] = 1
    config["max_workers"] = config["available_node_types"]["gpu_spot"]["max_workers"] = 1
    for node in config["available_node_types"].values():
        node["resources"] = {"CPU": 1}
    return config


class GoogleLab(Lab):
    """A running simulated Google Cloud, with a laptop whose `~/raygrid` has `cluster.yaml` filled in, and PROGRAMS.

    Attributes:
        shared: the folder that nodes see as /shared.
    """

    def __init__(self, folder: Path) -> None:
        """Start it; `folder` is empty and on a disk. Raises RuntimeError if it does not start."""
        helpers = ROOT / "tests" / "helpers"
        super().__init__(helpers / "small_google.py", folder, ROOT, environment={"PYTHONPATH": str(helpers)})
        self.shared = folder / "kept" / "shared"
        project = folder / "laptop-home" / "raygrid"
        config = project / "cluster.yaml"
        config.write_text(yaml.safe_dump(small(CLUSTER.read_text()), sort_keys=False, width=1000))
        os.chown(config, USER_ID, USER_ID)
        for program in PROGRAMS:  # nodes get experiments/, not tests/
            shutil.copy(helpers / program, project / "experiments")

    def laptop(self, command: str, *, timeout: float = 300) -> str:
        """Run a command in the laptop's project and return what it printed, without colours.

        Raises AssertionError, with the logs of the cluster, if it fails.
        """
        done = self.run("laptop", f"cd ~/raygrid\n{command}", check=False, timeout=timeout)
        said = _COLOUR.sub("", done.stdout)
        assert not done.returncode, f"{command}: exit status {done.returncode}\n{said}\n{self.logs()}"
        return said

    def project(self) -> dict[str, Any]:
        """Return the state of the project at the API: `instances`, `calls`, `bindings` and `accounts`."""
        state: dict[str, Any] = json.loads((self.folder / "project.json").read_text())
        return state

    def machines(self, kind: str) -> list[str]:
        """Return the names of the machines of a kind that exist at the API: `head` or `worker`."""
        instances = self.project()["instances"].items()
        return sorted(name for name, one in instances if one["labels"]["ray-node-type"] == kind)

    def wait_for(self, condition: Callable[[], Any], what: str, *, timeout: float) -> None:
        """Poll a condition until it is true. Raises AssertionError, with the logs of the cluster, after `timeout` s."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come in {timeout:.0f} s\n{self.logs()}"
            time.sleep(_POLL_S)

    def logs(self) -> str:
        """Return the log of the lab, and the end of the autoscaler's log."""
        said = [self.run(head, _MONITOR, check=False).stdout for head in self.boxes() if "-head-" in head]
        return "\n".join([self.log(), *said])
