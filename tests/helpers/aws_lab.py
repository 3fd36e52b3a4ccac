"""Control of the simulated AWS (`small_aws.py`): its laptop, `cluster.yaml`, its instances and its logs."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from lab import TOOLS, Lab

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "helpers"
DEBIAN_TOOLS = {**TOOLS, "mount.nfs4": "nfs-common", "tmux": "tmux"}
WORKER_TYPE = "gpu_spot"
_API = HELPERS / "aws_api.py"
_MACHINE = "m6i.large"  # has no GPU, which Ray would announce
_POLL_S = 0.5
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")
_MONITOR = "tail -n 60 /tmp/ray/session_latest/logs/monitor.log /tmp/ray/session_latest/logs/monitor.out"


class AwsLab(Lab):
    """A running simulated AWS with a laptop, whose `~/raygrid` has `cluster.yaml` filled in, and a study of many units.

    Attributes:
        shared: the folder that nodes see as /shared.
        config: the content of the laptop's `cluster.yaml`.
    """

    def __init__(self, folder: Path) -> None:
        """Start it; `folder` is empty and on a disk. Raises RuntimeError if it does not start."""
        super().__init__(HELPERS / "small_aws.py", folder, ROOT)
        self.shared = folder / "kept" / "shared"
        self.project = folder / "laptop-home" / "raygrid"
        self.config = _small(json.loads((folder / "facts.json").read_text()))
        self.write_config("cluster.yaml", self.config)
        for name in ("tiny_grid.py", "many_units_grid.py"):
            shutil.copy(HELPERS / name, self.project / "experiments")
        # the guide's commands name this program and its preset `demo`
        shutil.copy(HELPERS / "many_units_grid.py", self.project / "experiments" / "full_grid.py")

    def write_config(self, name: str, config: dict[str, Any]) -> None:
        """Write a cluster file into the laptop's project."""
        (self.project / name).write_text(yaml.safe_dump(config, sort_keys=False, width=1000))

    def laptop(self, command: str, *, check: bool = True, timeout: float = 600) -> str:
        """Run a command in the laptop's project and return what it printed, without colours.

        Raises AssertionError, with the logs of the cluster, if it fails and `check` is true.
        """
        done = self.run("laptop", f"cd ~/raygrid\n{command}", check=False, timeout=timeout)
        said = _COLOUR.sub("", done.stdout)
        assert not (check and done.returncode), f"{command}: exit status {done.returncode}\n{said}\n{self.logs()}"
        return said

    def head(self) -> str:
        """Return the name of the head's instance, which is that of its box. Raises AssertionError if there is none."""
        heads = self._instances("head")
        assert len(heads) == 1, f"heads: {heads}"
        return heads[0]

    def workers(self) -> list[str]:
        """Return the instances of workers that the API reports as pending or running."""
        return self._instances("worker")

    def instances(self) -> list[str]:
        """Return all instances that the API reports as pending or running."""
        return sorted(self._api("instances"))

    def terminate(self, instance: str) -> None:
        """End an instance at the API, as AWS does with a spot instance, and wait until its box has ended."""
        self._call("terminate", instance)
        self.wait_for(lambda: instance not in self.boxes(), f"the end of {instance}", timeout=30)

    def objects(self) -> list[str]:
        """Return the keys in the bucket."""
        return list(self._api("objects"))

    def get(self, key: str, path: Path) -> Path:
        """Download an object of the bucket to `path`, and return that."""
        self._call("get", key, str(path))
        return path

    def wait_for(self, condition: Callable[[], Any], what: str, *, timeout: float = 600) -> Any:
        """Poll a condition until it returns a true value, and return that.

        Raises AssertionError, with the logs of the cluster, after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, f"{what} did not come in {timeout:.0f} s\n{self.logs()}"
            time.sleep(_POLL_S)
        return value

    def logs(self) -> str:
        """Return the log of the lab, and the ends of the autoscaler's logs and of the program in the head's tmux."""
        said = [self.log()]
        for head in self._instances("head"):
            for command in (_MONITOR, "tmux capture-pane -p -S -60", "ray status"):
                wrapped = f"source ~/raygrid/.venv/bin/activate; export RAY_AUTH_MODE=token; {command}"
                try:
                    done = self.run(head, wrapped, check=False, timeout=60)
                except (KeyError, subprocess.TimeoutExpired) as error:
                    said.append(repr(error))
                else:
                    said.append(f"--- {command}\n{done.stdout}")
        return "\n".join(said)

    def _instances(self, kind: str) -> list[str]:
        return sorted(name for name, found in self._api("instances").items() if found == kind)

    def _api(self, *arguments: str) -> Any:
        return json.loads(self._call(*arguments))

    def _call(self, *arguments: str) -> str:
        return self.inside([sys.executable, _API, *arguments])


def _small(facts: dict[str, str]) -> dict[str, Any]:
    """Return `cluster.yaml` with its placeholders filled in, small machines, and at most one worker."""
    text = (ROOT / "cluster.yaml").read_text()
    for placeholder, value in facts.items():
        text = text.replace(placeholder, value)
    config: dict[str, Any] = yaml.safe_load(text)
    config["idle_timeout_minutes"] = 1
    config["max_workers"] = config["available_node_types"][WORKER_TYPE]["max_workers"] = 1
    for node in config["available_node_types"].values():
        node["resources"] = {"CPU": 1}
        node["node_config"]["InstanceType"] = _MACHINE
    return config
