"""A simulated site: `laptop`, with a checkout and the SSH keys of its owner, and `node1` and `node2`.

A script of `lab.py`: `small_site.py FOLDER CHECKOUT`. All see the folder FOLDER/shared as /shared.
"""

import signal
import sys
from pathlib import Path

from boxes import LAPTOP, USER_ID, Bind, Box, Machine, make_network, offline_python, output_of

NODES = {"node1": "172.31.0.11", "node2": "172.31.0.12"}
_NOT_COPIED = ("/.git", "/.venv", "/build", "/studies", "/data", "__pycache__", ".*_cache", ".hypothesis")


def main(folder: Path, checkout: Path) -> None:
    """Run until this process is ended."""
    make_network()
    environment, binds = offline_python(folder)
    shared, homes = folder / "shared", folder / "homes"
    shared.mkdir()
    homes.mkdir()
    # An environment is tens of thousands of links, which a busy disk takes minutes to write.
    output_of("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", homes)
    home = homes / "laptop"
    (home / ".ssh").mkdir(parents=True)
    shared.chmod(0o777)
    key = home / ".ssh" / "id_ed25519"
    output_of("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    output_of("rsync", "-a", *(f"--exclude={name}" for name in _NOT_COPIED), f"{checkout}/", home / "raygrid")
    output_of("chown", "-R", f"{USER_ID}:{USER_ID}", home)
    public = key.with_suffix(".pub").read_text().strip()
    for name, address in NODES.items():
        hosts = {other: there for other, there in NODES.items() if other != name}
        shares = [*binds, Bind(shared, "/shared", "rw")]
        machine = Machine(
            name,
            address,
            authorized_key=public,
            environment=environment,
            hosts=hosts,
            binds=shares,
            home=homes / name,
        )
        Box(folder, machine)
    laptop = Box(folder, Machine("laptop", LAPTOP, environment=environment, hosts=NODES, binds=binds, home=home))
    # its owner has logged in to the nodes before
    scan = f"ssh-keyscan -t ed25519 {' '.join(NODES)} > ~/.ssh/known_hosts 2> /dev/null"
    output_of("nsenter", "-t", str(laptop.pid), "-a", "su", "-", "ubuntu", "-c", scan)
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
