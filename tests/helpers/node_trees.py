"""Simulated machines for the check of a node: trees of /sys and /proc, an `nvidia-smi`, and a `torch`."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

SMI_TABLE = "NVIDIA A10G, 23028\n"
SMI_SUMMARY = "| NVIDIA-SMI 580.65.06     Driver Version: 580.65.06     CUDA Version: 13.0 |\n"
A10G = SimpleNamespace(name="NVIDIA A10G", total_memory=23028 * 2**20, major=8, minor=6)


def write_gpu(root: Path, *, vendor: str = "0x10de", kind: str = "0x030200", address: str = "0000:00:1e.0") -> None:
    """Add a PCI device to a tree: by default an NVIDIA GPU without a display output."""
    device = root / "sys/bus/pci/devices" / address
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


def write_driver(root: Path, version: str = "580.65.06", *, module: bool = True, proc: bool = True) -> None:
    """Add NVIDIA's driver to a tree, with or without the version in /sys."""
    if module:
        (root / "sys/module/nvidia").mkdir(parents=True)
        (root / "sys/module/nvidia/version").write_text(f"{version}\n")
    if proc:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (builder)\n"
        (root / "proc/driver/nvidia/version").write_text(line + "GCC version:  gcc version 12.3.0\n")


def write_smi(folder: Path, table: str = SMI_TABLE, summary: str = SMI_SUMMARY, status: int = 0) -> str:
    """Write a stand-in for `nvidia-smi` that prints the table for a query, else the summary; return its path."""
    for name, text in (("table", table), ("summary", summary)):
        (folder / name).write_text(text)
    smi = folder / "nvidia-smi"
    smi.write_text(
        f'#!/bin/sh\nif [ $# -gt 0 ]; then cat "{folder}/table"; else cat "{folder}/summary"; fi\nexit {status}\n'
    )
    smi.chmod(0o755)
    return str(smi)


@dataclass
class FakeTorch:
    """A stand-in for the module `torch` on a machine with GPUs: only the parts that the check uses.

    Attributes:
        cuda_version: that it was built for; None for CPUs.
        warning: that the first use of CUDA gives; "" if the GPUs can be used.
        error: of a computation on a GPU, None if it works.
        total: the sum that a GPU computes of eight ones.
    """

    cuda_version: str | None = "13.2"
    warning: str = ""
    error: Exception | None = None
    total: float = 8.0
    gpus: list[SimpleNamespace] = field(default_factory=lambda: [A10G])
    architectures: tuple[str, ...] = ("sm_75", "sm_80", "sm_86", "sm_90", "compute_120")

    __version__ = "2.15.0+made.up"

    @property
    def version(self) -> SimpleNamespace:
        """Return the versions of the build."""
        return SimpleNamespace(cuda=self.cuda_version)

    @property
    def cuda(self) -> SimpleNamespace:
        """Return what stands for the module `torch.cuda`."""
        return SimpleNamespace(
            is_available=self._is_available,
            get_arch_list=lambda: list(self.architectures),
            device_count=lambda: len(self.gpus),
            get_device_properties=self.gpus.__getitem__,
        )

    def ones(self, size: int, *, device: str) -> SimpleNamespace:
        """Return a tensor of which only the sum is known."""
        assert (size, device.split(":")[0]) == (8, "cuda")
        if self.error is not None:
            raise self.error
        return SimpleNamespace(sum=lambda: self.total)

    def _is_available(self) -> bool:
        if self.warning:
            warnings.warn(self.warning, stacklevel=2)
        return not self.warning and bool(self.gpus)
