"""Control of a lab: start its process in new namespaces, run commands on its boxes, and end all of it.

A lab is a script that makes boxes (`boxes.py`) and then waits. It prints "ready" once its first boxes run. Tests and
people use the boxes through `Lab`; nothing of a lab is visible in this machine's own network or file system.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOOLS = {
    "sshd": "openssh-server",
    "rsync": "rsync",
    "sudo": "sudo",
    "ip": "iproute2",
    "pgrep": "procps",
    "unshare": "util-linux",
}
_PROBE = """
set -e
mount -t tmpfs tmpfs "$1"; mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
ip link add br0 type bridge
"""


def missing(folder: Path, tools: Mapping[str, str] = TOOLS) -> str:
    """Return the reason why this machine cannot run boxes, "" if it can.

    Args:
        folder: an empty folder, in which an overlay is tried.
        tools: commands, and the Debian packages that have them.
    """
    if os.geteuid():
        return "boxes need root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = sorted({package for tool, package in tools.items() if shutil.which(tool, path=path) is None})
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True).returncode:
        absent.append("python3-venv")
    if absent:
        return f"boxes need Debian's packages {' '.join(absent)}"
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "bash", "-c", _PROBE, "probe", str(folder)]
    tried = subprocess.run(command, text=True, capture_output=True)
    return f"boxes need namespaces and overlayfs: {tried.stderr.strip()}" if tried.returncode else ""


class Lab:
    """A running lab.

    Attributes:
        folder: of the run; `lab.log` in it is the output of the lab's script, `boxes/` names its boxes.
        root: all files as the lab sees them, with the file systems that it has mounted.
    """

    def __init__(
        self, script: Path, folder: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `script FOLDER ARGUMENTS...` in new namespaces and wait until it prints "ready".

        Raises RuntimeError, with the script's output, if it ends before or takes more than two minutes.
        """
        self.folder, self._log = folder, folder / "lab.log"
        namespaces = ["--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
        command = ["unshare", *namespaces, sys.executable, str(script), str(folder), *map(str, arguments)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )
        deadline = time.monotonic() + 120
        while not any(line.startswith("ready") for line in self.log().splitlines()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the lab did not start:\n{self.log()}")
            time.sleep(0.2)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self._pid = int(children.split()[0])  # process 1 of the lab
        self.root = Path(f"/proc/{self._pid}/root")

    def log(self) -> str:
        """Return what the lab's script has printed."""
        return self._log.read_text()

    def boxes(self) -> list[str]:
        """Return the names of the boxes that run."""
        return sorted(path.name for path in (self.folder / "boxes").iterdir())

    def command(self, box: str, command: str, user: str = "ubuntu") -> list[str]:
        """Return the command that runs `command` on a box in a login shell of `user`. Raises KeyError if it is gone."""
        register = self.folder / "boxes" / box
        if not register.exists():
            raise KeyError(f"no box {box}; there are {', '.join(self.boxes())}")
        into_lab = ["nsenter", "-t", str(self._pid), "-n", "-p", "-m"]
        return [*into_lab, "nsenter", "-t", register.read_text(), "-a", "su", "-", user, "-c", command]

    def run(
        self, box: str, command: str, *, user: str = "ubuntu", check: bool = True, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a box; its standard error is part of `stdout`.

        Raises AssertionError, with the output, if it fails and `check` is true, and TimeoutExpired after `timeout` s.
        """
        done = subprocess.run(
            self.command(box, command, user),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        assert not (check and done.returncode), f"{box}: {command}: exit status {done.returncode}\n{done.stdout}"
        return done

    def start(self, box: str, command: str, user: str = "ubuntu", **options: Any) -> subprocess.Popen[str]:
        """Start a command on a box; `options` are those of Popen."""
        return subprocess.Popen(self.command(box, command, user), text=True, **options)

    def inside(self, command: Sequence[str | Path]) -> str:
        """Run a command in the lab itself, beside its servers, and return its standard output."""
        into_lab = ["nsenter", "-t", str(self._pid), "-n", "-p", "-m"]
        return subprocess.run([*into_lab, *map(str, command)], check=True, text=True, capture_output=True).stdout

    def close(self) -> None:
        """End the lab with all its boxes, and delete their disks."""
        if self._process.poll() is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            for child in children:  # unshare itself ignores SIGTERM
                os.kill(int(child), signal.SIGKILL)
            self._process.wait()
        for disk in self.folder.iterdir():
            if disk.is_dir() and disk.name != "kept":
                shutil.rmtree(disk, ignore_errors=True)
