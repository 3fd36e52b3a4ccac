"""Machines made of Linux namespaces, for tests of clusters: each has its own network, files, processes, name and sshd.

These machines are called boxes, and the process that starts them the lab. `lab.py` starts the lab in namespaces of its
own, so that every box, mount, address and daemon ends with it. A box sees this machine's files through an overlay, and
has its own /etc, /home/ubuntu, /tmp and /dev/shm. One bridge connects all boxes, and has no connection to the outside.

Needs root, Linux with overlayfs, and Debian's openssh-server, rsync, sudo, iproute2 and procps.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

USER_ID = 1234  # of ubuntu, which may sudo without a password, as in cloud images
LAPTOP = "198.51.100.2"
SERVICE = "198.51.100.1"  # this process: servers of the lab listen there
METADATA = "169.254.169.254"  # also this process: the address of every cloud's metadata service
_BRIDGE = "br0"
_NETWORK = 16  # bits of the boxes' private network
_INIT = Path(__file__).with_name("box_init.sh")


@dataclass(frozen=True)
class Bind:
    """A folder of this machine in a box.

    Attributes:
        mode: `ro`, `rw`, or `copy`: writable for ubuntu, and changes stay in the box.
    """

    source: Path
    target: str
    mode: str = "ro"


@dataclass(frozen=True)
class Machine:
    """The settings of a box.

    Attributes:
        private: its address among the boxes, in 172.31.0.0/16.
        public: its address for a laptop; "" for none.
        authorized_key: public SSH key that may log in as ubuntu.
        environment: lines of /etc/environment.
        hosts: names in /etc/hosts, with their addresses.
        shm: size of /dev/shm, where Ray keeps its objects.
        home: a folder of this machine as /home/ubuntu, for boxes that share it; None makes one.
        at_boot: a shell command that root runs in the background before sshd starts.
    """

    name: str
    private: str
    public: str = ""
    authorized_key: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    binds: Sequence[Bind] = ()
    shm: str = "4g"
    home: Path | None = None
    at_boot: str = ""


def output_of(*command: str | Path) -> str:
    """Return the standard output of a command. Raises RuntimeError if it fails."""
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def make_network() -> None:
    """Create the bridge that connects all boxes, and give this process the addresses SERVICE and METADATA."""
    output_of("ip", "link", "set", "lo", "up")
    output_of("ip", "link", "add", _BRIDGE, "type", "bridge")
    for address in (f"{SERVICE}/24", f"{METADATA}/32", f"172.31.255.254/{_NETWORK}"):
        output_of("ip", "address", "add", address, "dev", _BRIDGE)
    output_of("ip", "link", "set", _BRIDGE, "up")


class Box:
    """A running machine.

    Attributes:
        pid: of its process 1, as the lab sees it. `FOLDER/boxes/NAME` holds the same number for `lab.py`.
        home: /home/ubuntu, as a folder of this machine.
    """

    _made = 0

    def __init__(self, folder: Path, machine: Machine) -> None:
        """Start the machine; its disk is in `folder`, which must not be a tmpfs. Raises RuntimeError if it fails."""
        Box._made += 1
        self.machine, self.disk, self._interface = machine, folder / machine.name, f"v{Box._made}"
        for part in ("root", "rw", "tmp"):
            (self.disk / part).mkdir(parents=True)
        self.home = machine.home or self.disk / "home"
        self.home.mkdir(exist_ok=True)
        if machine.home is not None:
            (self.disk / "home").symlink_to(machine.home)
        namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            ["unshare", *namespaces, "bash", str(_INIT), str(self.disk), machine.name],
            env=self._variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if said != "up\n":
            raise RuntimeError(f"box {machine.name} did not start: {said!r}, exit status {self._process.wait()}")
        self.pid = int(output_of("pgrep", "-P", str(self._process.pid)))
        self._connect()
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        register = folder / "boxes" / machine.name
        register.parent.mkdir(exist_ok=True)
        register.write_text(str(self.pid))
        self._register = register

    def is_running(self) -> bool:
        """Whether the machine has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the machine and everything that runs on it at once, as a cloud does with a spot instance."""
        self._register.unlink(missing_ok=True)
        if self.is_running():
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.disk, ignore_errors=True)

    def _variables(self) -> dict[str, str]:
        machine = self.machine
        return {
            "PATH": os.environ["PATH"],
            "USER_ID": str(USER_ID),
            "PYTHON_PREFIX": sys.base_prefix,
            "PRIVATE": machine.private,
            "AUTHORIZED_KEY": machine.authorized_key,
            "SHM": machine.shm,
            "AT_BOOT": machine.at_boot,
            "BINDS": "\n".join(f"{bind.source} {bind.target} {bind.mode}" for bind in machine.binds),
            "HOSTS": "\n".join(f"{address} {name}" for name, address in machine.hosts.items()),
            "ENVIRONMENT": "\n".join(f"{name}={value}" for name, value in machine.environment.items()),
        }

    def _connect(self) -> None:
        """Connect the machine to the bridge. Its default route covers every address, as on a cloud."""
        machine = self.machine
        output_of("ip", "link", "add", self._interface, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        output_of("ip", "link", "set", self._interface, "master", _BRIDGE, "up")
        inside = ("nsenter", "-t", str(self.pid), "-n", "ip")
        output_of(*inside, "link", "set", "lo", "up")
        bits = 24 if machine.private == LAPTOP else _NETWORK
        output_of(*inside, "address", "add", f"{machine.private}/{bits}", "dev", "eth0")
        output_of(*inside, "link", "set", "eth0", "up")
        if machine.public:
            output_of(*inside, "address", "add", f"{machine.public}/32", "dev", "eth0")
        output_of(*inside, "route", "add", "default", "dev", "eth0", "src", machine.private)


def offline_python(folder: Path) -> tuple[dict[str, str], list[Bind]]:
    """Return the environment and the folders with which a box installs the pinned packages without a network.

    The packages come from the cache that `uv` filled when it made this environment; `pip install uv` finds a wheel that
    is written to `folder`.
    """
    uv = Path(sys.prefix) / "bin" / "uv"
    cache = Path(output_of(uv, "cache", "dir").strip())
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)
    _wheel_of("uv", wheels)
    environment = {
        "UV_OFFLINE": "1",
        "UV_LINK_MODE": "symlink",  # copies would take 6 GB per box
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CONFIG_FILE": os.devnull,
    }
    return environment, [Bind(cache, "/home/ubuntu/.cache/uv", "copy"), Bind(wheels, "/wheels")]


def _wheel_of(package: str, folder: Path) -> None:
    """Write a wheel of an installed package, from its list of installed files."""
    installed = distribution(package)
    tags = re.findall(r"^Tag: (.*)$", installed.read_text("WHEEL") or "", re.MULTILINE)
    prefix = f"{package}-{installed.version}"
    with zipfile.ZipFile(folder / f"{prefix}-{tags[0]}.whl", "w") as wheel:
        for file in installed.files or ():
            name = str(file)
            if name.startswith("../"):  # scripts lie outside the packages, and in .data/ of a wheel
                name = f"{prefix}.data/scripts/{file.name}"
            if not name.endswith((".pyc", "INSTALLER", "REQUESTED", "direct_url.json")):
                wheel.write(str(installed.locate_file(file)), name)
