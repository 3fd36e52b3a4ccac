"""The facts about this machine that decide whether it can work in a cluster: NVIDIA cards, driver, PyTorch, folders."""

import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygrid.errors import in_one_line

_NVIDIA = "0x10de"  # vendor id on the PCI bus
_DISPLAY = "0x03"  # first byte of a PCI class: display controllers, compute cards included
_SMI_TIMEOUT_S = 60  # the first call loads the driver's state, which takes seconds per card
_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
# File systems that live on another machine; a cache there gains nothing
_REMOTE = ("nfs", "cifs", "smb", "9p", "lustre", "beegfs", "gpfs", "ceph", "gluster", "fuse.", "afs", "wekafs")


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver as the kernel and `nvidia-smi` show it.

    Attributes:
        version: of the loaded kernel module, "" if none is loaded.
        cuda: newest CUDA version of the driver, "" if `nvidia-smi` does not say.
        cards: name and memory in bytes of each card.
        failure: the first line of a failed `nvidia-smi`, "" if it worked or is not installed.
    """

    version: str
    cuda: str = ""
    cards: tuple[tuple[str, int], ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """The installed PyTorch, and whether it can use the cards.

    Attributes:
        cuda: CUDA version that it was built for, "" for a build for CPUs.
        unusable: why it can use no card, "" if it can use one.
        architectures: of its kernels, such as `sm_90`.
        cards: name, memory in bytes and compute capability of each card.
        failures: the error of a first computation by position of the card, for the cards where it failed.
    """

    version: str
    cuda: str
    unusable: str = ""
    architectures: tuple[str, ...] = ()
    cards: tuple[tuple[str, int, tuple[int, int]], ...] = ()
    failures: tuple[tuple[int, str], ...] = ()


def hides_cards(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES hides every card from this process, as for a job that was given none."""
    return environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles")


def pci_cards(root: Path = Path("/")) -> list[str]:
    """Return the PCI addresses of NVIDIA's cards, with or without a driver."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        is_display = _first_line(device / "class").startswith(_DISPLAY)
        if is_display and _first_line(device / "vendor") == _NVIDIA:
            found.append(device.name)
    return found


def read_driver(root: Path = Path("/"), smi: str = "nvidia-smi") -> Driver:
    """Return the loaded driver, and the cards that it knows.

    Args:
        root: the folder that holds `proc` and `sys`.
        smi: the program to ask.
    """
    version = _first_line(root / "sys/module/nvidia/version")
    if not version:  # the kernel's build may leave that file out
        written = _first_line(root / "proc/driver/nvidia/version")
        match = re.search(r"\s(\d+\.[\d.]+)\s", written)
        version = match[1] if match else ("of unknown version" if written else "")
    if not version:
        return Driver("")
    try:
        asked = subprocess.run([smi, *_QUERY], capture_output=True, text=True, timeout=_SMI_TIMEOUT_S)
        summary = subprocess.run([smi], capture_output=True, text=True, timeout=_SMI_TIMEOUT_S)
    except FileNotFoundError:
        return Driver(version)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver(version, failure=in_one_line(error))
    if asked.returncode:
        said = [line.strip() for line in (asked.stdout + asked.stderr).splitlines() if line.strip()]
        return Driver(version, failure=said[0] if said else f"exit status {asked.returncode}")
    cuda = re.search(r"CUDA(?: \w+)? Version\s*:\s*(\d+\.\d+)", summary.stdout)
    return Driver(version, cuda[1] if cuda else "", tuple(_cards(asked.stdout)))


def _cards(table: str) -> Iterator[tuple[str, int]]:
    for line in table.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if name:  # some cards share the memory of the machine and report none
            yield name.strip(), int(mebibytes) * 2**20 if mebibytes.strip().isdigit() else 0


def read_torch(torch: Any) -> TorchBuild:
    """Return the build of the module `torch`, after a small computation on each card."""
    version, cuda = str(torch.__version__).partition("+")[0], str(torch.version.cuda or "")
    if not cuda:
        return TorchBuild(version, "")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if not torch.cuda.is_available():
            reasons = [in_one_line(warning.message) for warning in said if isinstance(warning.message, Warning)]
            return TorchBuild(version, cuda, unusable=reasons[0] if reasons else "torch.cuda.is_available() is False")
    architectures = tuple(torch.cuda.get_arch_list())
    cards, failures = [], []
    for k in range(torch.cuda.device_count()):
        traits = torch.cuda.get_device_properties(k)
        cards.append((str(traits.name), int(traits.total_memory), (int(traits.major), int(traits.minor))))
        try:
            total = float(torch.ones(8, device=f"cuda:{k}").sum())
            if total != 8:
                failures.append((k, f"the sum of eight ones was {total:g}"))
        except RuntimeError as error:
            failures.append((k, in_one_line(error)))
    return TorchBuild(version, cuda, "", architectures, tuple(cards), tuple(failures))


def mount_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> tuple[str, str]:
    """Return the mount point that holds a folder and the type of its file system, ("", "") if unknown."""
    best = ("", "")
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return best
    for line in lines:
        _, place, kind, *_ = [*line.split(), "", "", ""]
        place = place.replace("\\040", " ")
        if folder.resolve().is_relative_to(place) and len(place) >= len(best[0]):  # a later mount hides an earlier one
            best = (place, kind)
    return best


def is_remote(kind: str) -> bool:
    """Return whether a type of file system, such as `nfs4`, is that of another machine's disk."""
    return kind.startswith(_REMOTE)


def why_not_writable(folder: Path) -> str:
    """Return the reason why this user can create no file in a folder, "" if it can.

    Creates and removes a file, because a server may refuse writes that the mode of the folder allows.
    """
    if not folder.is_dir():
        return "no such folder" if not folder.exists() else "not a folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def _first_line(path: Path) -> str:
    """Return the first line of a file, "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""
