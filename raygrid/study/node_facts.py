"""Facts about this machine that decide whether it can work as a node: NVIDIA GPUs, driver, PyTorch, folders."""

import os
import re
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygrid.errors import in_one_line

_NVIDIA = "0x10de"  # vendor id on the PCI bus
_DISPLAY = "0x03"  # first byte of a PCI class: display controllers, including GPUs without a display
_SMI_TIMEOUT_S = 60  # the first call loads the driver's state, which takes seconds per GPU
_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
# File systems of another machine, where a cache saves no time
_REMOTE = ("nfs", "cifs", "smb", "9p", "lustre", "beegfs", "gpfs", "ceph", "gluster", "fuse.", "afs", "wekafs")


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver, as the kernel and `nvidia-smi` report it.

    Attributes:
        version: of the loaded kernel module, "" if none is loaded.
        cuda: newest CUDA version of the driver, "" if `nvidia-smi` does not say.
        gpus: name and memory in bytes of each GPU.
        failure: the first line of a failed `nvidia-smi`, "" if it worked or is not installed.
    """

    version: str
    cuda: str = ""
    gpus: tuple[tuple[str, int], ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """The installed PyTorch, and whether it can use the GPUs.

    Attributes:
        cuda: CUDA version that it was built for, "" for a build for CPUs.
        unusable: why it can use no GPU, "" if it can use one.
        architectures: of its kernels, such as `sm_90`.
        gpus: name, memory in bytes and compute capability of each GPU.
        failures: the error of a first computation by position of the GPU, for the GPUs where it failed.
    """

    version: str
    cuda: str
    unusable: str = ""
    architectures: tuple[str, ...] = ()
    gpus: tuple[tuple[str, int, tuple[int, int]], ...] = ()
    failures: tuple[tuple[int, str], ...] = ()


def hides_gpus(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES hides every GPU from this process, as for a job without a GPU."""
    return environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles")


def pci_gpus(root: Path = Path("/")) -> list[str]:
    """Return the PCI addresses of NVIDIA GPUs, with or without a driver."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        is_display = _first_line(device / "class").startswith(_DISPLAY)
        if is_display and _first_line(device / "vendor") == _NVIDIA:
            found.append(device.name)
    return found


def read_driver(root: Path = Path("/"), smi: str = "nvidia-smi") -> Driver:
    """Return the loaded driver, and the GPUs that it lists.

    Args:
        root: the folder that holds `proc` and `sys`.
        smi: the program that lists them.
    """
    version = _first_line(root / "sys/module/nvidia/version")
    if not version:  # some builds of the driver lack that file
        written = _first_line(root / "proc/driver/nvidia/version")
        match = re.search(r"\s(\d+\.[\d.]+)\s", written)
        version = match[1] if match else ("of unknown version" if written else "")
    if not version:
        return Driver("")
    try:
        asked, summary = (
            subprocess.run([smi, *options], capture_output=True, text=True, errors="replace", timeout=_SMI_TIMEOUT_S)
            for options in (_QUERY, ())
        )
    except FileNotFoundError:
        return Driver(version)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver(version, failure=in_one_line(error))
    if asked.returncode:
        said = [line.strip() for line in (asked.stdout + asked.stderr).splitlines() if line.strip()]
        return Driver(version, failure=said[0] if said else f"exit status {asked.returncode}")
    cuda = re.search(r"CUDA(?: \w+)? Version\s*:\s*(\d+\.\d+)", summary.stdout)
    return Driver(version, cuda[1] if cuda else "", tuple(_gpus(asked.stdout)))


def _gpus(table: str) -> Iterator[tuple[str, int]]:
    for line in table.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if name:  # some GPUs share the memory of the machine and report none
            yield name.strip(), int(mebibytes) * 2**20 if mebibytes.strip().isdigit() else 0


def read_torch(torch: Any) -> TorchBuild:
    """Return the build of the module `torch`, after a small computation on each GPU."""
    version, cuda = str(torch.__version__).partition("+")[0], str(torch.version.cuda or "")
    if not cuda:
        return TorchBuild(version, "")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if not torch.cuda.is_available():
            reasons = [in_one_line(warning.message) for warning in said if isinstance(warning.message, Warning)]
            return TorchBuild(version, cuda, unusable=reasons[0] if reasons else "torch.cuda.is_available() is False")
    architectures = tuple(torch.cuda.get_arch_list())
    gpus, failures = [], []
    for k in range(torch.cuda.device_count()):
        traits = torch.cuda.get_device_properties(k)
        gpus.append((str(traits.name), int(traits.total_memory), (int(traits.major), int(traits.minor))))
        try:
            total = float(torch.ones(8, device=f"cuda:{k}").sum())
            if total != 8:
                failures.append((k, f"the sum of eight ones was {total:g}"))
        except Exception as error:  # PyTorch raises several classes of errors for a GPU
            failures.append((k, in_one_line(error)))
    return TorchBuild(version, cuda, "", architectures, tuple(gpus), tuple(failures))


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
    """Return whether a type of file system, such as `nfs4`, is on another machine."""
    return kind.startswith(_REMOTE)


def why_not_writable(folder: Path) -> str:
    """Return the reason why this user can create no file in a folder, "" if it can.

    Creates and removes a file, because a server may refuse writes that the mode of the folder allows.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return "not a folder"
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
