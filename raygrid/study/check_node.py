"""Check that this machine can work as a node: `raygrid check-node`, the last set-up command of a cluster file."""

import errno
import getpass
import importlib
import os
import platform
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from raygrid.errors import ClusterError, StoreError, in_one_line
from raygrid.io.paths import CACHE_VARIABLE, cache_dir
from raygrid.progress import tell
from raygrid.study.node_facts import (
    Driver,
    TorchBuild,
    hides_gpus,
    is_remote,
    mount_of,
    pci_gpus,
    read_driver,
    read_torch,
    why_not_writable,
)

# The oldest driver for each major version of CUDA, from NVIDIA's page "CUDA Compatibility". A build runs on each driver
# of its major version, even if its minor version is higher than the driver's.
_OLDEST_DRIVERS = {11: "450.80", 12: "525.60", 13: "580.65"}
_REINSTALL = "reinstall torch and torchvision with `uv pip install --torch-backend=auto --reinstall`"


def check_node(
    writable: Sequence[Path] = (),
    *,
    root: Path = Path("/"),
    smi: str = "nvidia-smi",
    import_torch: Callable[[], Any] = lambda: importlib.import_module("torch"),
) -> None:
    """Print one line of facts about this machine.

    PyTorch is imported only where there is a GPU. GPUs that CUDA_VISIBLE_DEVICES hides do not count.

    Args:
        writable: folders in which this user must be able to create files.
        root: the folder that holds `proc` and `sys`.
        smi: the program that lists NVIDIA GPUs.

    Raises ClusterError, with a line for each fault, if a GPU cannot be used or a folder cannot be written to.
    """
    hidden = hides_gpus()
    present, driver = ([], Driver("")) if hidden else (pci_gpus(root), read_driver(root, smi))
    build, import_fault = None, []
    if driver.version and (present or driver.gpus):
        try:
            build = read_torch(import_torch())
        except Exception as error:  # a broken installation can raise anything
            import_fault = [
                f"torch {_installed()}: expected `import torch` to succeed, got: {in_one_line(error)}; {_REINSTALL}"
            ]
    cache, cache_fault = _cache(root)
    place = f"node {platform.node()}"
    facts = f"NVIDIA GPUs are hidden, torch {_installed()}" if hidden else _describe(present, driver, build)
    tell(f"{place}: {facts}; {cache}")
    faults = [*gpu_faults(present, driver, build), *import_fault, *cache_fault, *folder_faults(writable)]
    if len(faults) == 1:
        raise ClusterError(f"{place}: {faults[0]}")
    if faults:
        raise ClusterError(f"{place} has {len(faults)} faults:", *(f"  {fault}" for fault in faults))


def gpu_faults(present: Sequence[str], driver: Driver, build: TorchBuild | None) -> list[str]:
    """Return the first fault of the driver, or those of PyTorch on each GPU; none for a machine without a GPU.

    Args:
        present: PCI addresses of the GPUs.
        build: None if PyTorch was not imported.
    """
    if present and not driver.version:
        return [
            f"NVIDIA GPU at PCI {present[0]}: expected NVIDIA's driver, got none; choose an image that has it, or "
            "install it and restart the node"
        ]
    if not present and not driver.gpus:
        return []
    if driver.failure:
        return [
            f"driver {driver.version}: expected nvidia-smi to list the GPUs, got: {driver.failure}; restart the node, "
            "or choose an image whose driver works"
        ]
    if build is None:
        return []
    if not build.cuda:
        return [
            f"torch {build.version}: expected a build for CUDA beside an NVIDIA GPU, got one for CPUs; {_REINSTALL}"
        ]
    if build.unusable:
        return [_unusable(driver, build)]
    return list(_faults_by_gpu(build))


def _unusable(driver: Driver, build: TorchBuild) -> str:
    needed, offered = _major(build.cuda), _major(driver.cuda)
    if offered and offered < needed:
        oldest = f"driver {_OLDEST_DRIVERS[needed]} or later" if needed in _OLDEST_DRIVERS else "a newer driver"
        return (
            f"driver {driver.version}: expected {oldest} for torch {build.version}, which is built for CUDA "
            f"{build.cuda}; got CUDA {driver.cuda}; choose an image with a newer driver, or {_REINSTALL}"
        )
    return (
        f"torch {build.version} for CUDA {build.cuda}: expected a usable GPU, got: {build.unusable}; check nvidia-smi "
        "and CUDA_VISIBLE_DEVICES, or choose an image with another driver"
    )


def _faults_by_gpu(build: TorchBuild) -> Iterator[str]:
    failures = dict(build.failures)
    for k, (name, _, capability) in enumerate(build.gpus):
        if not _has_kernels(capability, build.architectures):
            yield (
                f"GPU {k}, {name}: expected kernels for its architecture sm_{capability[0]}{capability[1]}, got "
                f"{', '.join(build.architectures)} in torch {build.version} for CUDA {build.cuda}; choose another type "
                "of GPU, or another build of PyTorch"
            )
        elif k in failures:
            yield (
                f"GPU {k}, {name}: expected a test computation to succeed, got: {failures[k]}; restart or replace "
                "the node"
            )


def _has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Return whether a GPU can run kernels of these architectures, such as `sm_86` or, for later GPUs, `compute_90`.

    A binary runs on GPUs of its major version with the same or a higher minor one.
    """
    for name in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)", name)
        if match is None:
            continue
        built = int(match[2]), int(match[3])
        if built <= capability and (match[1] == "compute" or built[0] == capability[0]):
            return True
    return False


def folder_faults(folders: Sequence[Path]) -> list[str]:
    """Return a fault for each folder in which this user cannot create a file."""
    user, faults = getpass.getuser(), []
    for folder in folders:
        reason = why_not_writable(folder)
        remedy = "mount or create it"
        if os.path.isdir(folder):  # unlike Path.is_dir, it raises nothing
            is_owner = reason in map(os.strerror, (errno.EACCES, errno.EPERM))
            remedy = f"run: sudo chown {user} {shlex.quote(str(folder))}" if is_owner else "choose another folder"
        if reason:
            faults.append(f"{folder}: expected a folder in which {user} can create files, got: {reason}; {remedy}")
    return faults


def _cache(root: Path) -> tuple[str, list[str]]:
    """Return a description of the cache folder, and its faults."""
    try:
        folder = cache_dir()
    except StoreError as error:
        return "no cache", [str(error)]
    place, kind = mount_of(folder, root / "proc/mounts")
    free = f"cache on {place or folder}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free"
    slow = f" ({kind} is not a local disk; set {CACHE_VARIABLE} to a folder on a local disk)" if is_remote(kind) else ""
    return free + slow, []


def _describe(present: Sequence[str], driver: Driver, build: TorchBuild | None) -> str:
    if not present and not driver.gpus:
        return f"no NVIDIA GPU, torch {_installed()}"
    gpus = driver.gpus or tuple(gpu[:2] for gpu in (build.gpus if build else ()))
    words = [_describe_gpus(gpus) if gpus else f"{len(present)} NVIDIA GPU{'s' * (len(present) > 1)}"]
    cuda = f" (CUDA {driver.cuda})" if driver.cuda else ""
    words.append(f"driver {driver.version}{cuda}" if driver.version else "no driver")
    made_for = "" if build is None else f" for CUDA {build.cuda}" if build.cuda else " for CPUs"
    return ", ".join([*words, f"torch {build.version if build else _installed()}{made_for}"])


def _describe_gpus(gpus: Sequence[tuple[str, int]]) -> str:
    kinds = list(dict.fromkeys(gpus))
    return " and ".join(
        f"{gpus.count(kind)} {kind[0]}, {kind[1] / 1e9:.0f} GB{' each' if gpus.count(kind) > 1 else ''}"
        for kind in kinds
    )


def _installed() -> str:
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "not installed"


def _major(cuda: str) -> int:
    return int(cuda.partition(".")[0]) if cuda else 0
