"""A lab with a Slurm cluster: nodes `one`, which is also the controller, and `two`, with a home folder that they share.

A script of `lab.py`: `slurm_lab.py FOLDER CHECKOUT`. The home folder has a copy of the checkout in ~/raygrid.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from boxes import USER_ID, Bind, Box, Machine, make_network, offline_python, output_of

NODES = {"one": "172.31.0.11", "two": "172.31.0.12"}
SLURM = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
_NOT_COPIED = ("/.git", "/.venv", "/build", "/studies", "/data", "__pycache__", ".*_cache", ".hypothesis")
# Without cgroups, which boxes do not have, Slurm follows a step's processes through their parents.
_CONFIGURATION = """
ClusterName=lab
SlurmctldHost=one
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
ReturnToService=2
KillWait=15
SlurmdTimeout=60
SlurmctldLogFile=/tmp/slurmctld.log
SlurmdLogFile=/tmp/slurmd.log
SlurmdSpoolDir=/var/spool/slurmd
StateSaveLocation=/var/spool/slurmctld
NodeName=one,two CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_START = """
set -e
install -d -o munge -g munge -m 755 /run/munge
install -d -o munge -g munge -m 700 /var/log/munge /var/lib/munge /etc/munge
install -o munge -g munge -m 400 /slurm/munge.key /etc/munge/munge.key
cp /slurm/slurm.conf /etc/slurm/slurm.conf
mkdir -p /var/spool/slurmd /var/spool/slurmctld
su munge -s /bin/sh -c /usr/sbin/munged
"""


def shared_cache(folder: Path, cache: Path) -> Path:
    """Return a folder in which uv's cache is seen, and changes are kept apart: one for all boxes, as their home is."""
    output_of("mount", "-t", "tmpfs", "tmpfs", folder)
    for part in ("up", "work", "cache"):
        (folder / part).mkdir()
    options = f"lowerdir={cache},upperdir={folder / 'up'},workdir={folder / 'work'}"
    output_of("mount", "-t", "overlay", "overlay", "-o", options, folder / "cache")
    depth = ("-maxdepth", "3", "(", "-type", "d", "-o", "-path", "*/*/.git", ")")
    output_of("find", folder / "cache", *depth, "-exec", "chown", f"{USER_ID}:{USER_ID}", "{}", "+")
    return folder / "cache"


def wait_until_idle() -> None:
    """Wait until the controller has heard of all nodes. Raises RuntimeError if that takes more than a minute."""
    controller = Path(sys.argv[1], "boxes", "one").read_text()
    deadline = time.monotonic() + 60
    while (states := output_of("nsenter", "-t", controller, "-a", "sinfo", "-h", "-o", "%T %D").strip()) != "idle 2":
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected two idle nodes, got: {states}")
        time.sleep(0.1)


def main() -> None:
    """Start the boxes and Slurm's daemons, and wait for the end."""
    folder = Path(sys.argv[1])
    for part in ("slurm", "home", "uv", "shared"):
        (folder / part).mkdir()
    (folder / "shared").chmod(0o777)
    (folder / "slurm" / "slurm.conf").write_text(_CONFIGURATION)
    (folder / "slurm" / "munge.key").write_bytes(os.urandom(128))
    # An environment is tens of thousands of links, which a busy disk takes minutes to write.
    output_of("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder / "home")
    home = folder / "home" / "raygrid"
    output_of("rsync", "-a", *(f"--exclude={name}" for name in _NOT_COPIED), f"{sys.argv[2]}/", home)
    output_of("chown", "-R", f"{USER_ID}:{USER_ID}", home)
    make_network()
    environment, (cache, wheels) = offline_python(folder)
    binds = [
        Bind(shared_cache(folder / "uv", cache.source), cache.target, "rw"),
        wheels,
        Bind(folder / "slurm", "/slurm"),
        Bind(folder / "shared", "/shared", "rw"),
    ]
    for name, address in NODES.items():
        others = {other: there for other, there in NODES.items() if other != name}
        machine = Machine(name, address, environment=environment, hosts=others, binds=binds, home=folder / "home")
        box = Box(folder, machine)
        daemons = "slurmctld && slurmd" if name == "one" else "slurmd"
        subprocess.run(["nsenter", "-t", str(box.pid), "-a", "bash", "-c", f"{_START}\n{daemons}"], check=True)
    wait_until_idle()
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
