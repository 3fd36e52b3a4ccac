"""`raygrid check-node`: one line of facts about a machine, and one for each fault."""

import errno
import getpass
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from node_trees import A10G, FakeTorch, write_driver, write_gpu, write_smi

from raygrid.errors import ClusterError
from raygrid.study.check_node import check_node, folder_faults
from raygrid.study.node_facts import Driver, is_remote, mount_of, pci_gpus, read_driver, why_not_writable

OLD_DRIVER = "CUDA initialization: The NVIDIA driver on your system is too old (found version 12080)."
OLD_SUMMARY = "| NVIDIA-SMI 570.86.15     Driver Version: 570.86.15     CUDA Version: 12.8 |\n"
H100 = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 10**9, major=9, minor=0)
V100 = SimpleNamespace(name="Tesla V100-SXM2-16GB", total_memory=16 * 10**9, major=7, minor=0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a machine without GPUs, whose disks are those of this one."""
    (tmp_path / "machine/proc").mkdir(parents=True)
    (tmp_path / "machine/proc/mounts").write_text("/dev/root / ext4 rw 0 0\n")
    return tmp_path / "machine"


@pytest.fixture
def with_gpu(root: Path) -> Path:
    """Return the root of a machine with a GPU and a driver."""
    write_gpu(root)
    write_driver(root)
    return root


def faults_of(root: Path, smi: str = "no-such-program", torch: Any = None, **more: Any) -> str:
    """Return the message of the error for a machine, without the name of the node; "" if there is none."""
    try:
        check_node(root=root, smi=smi, import_torch=lambda: torch, **more)
    except ClusterError as error:
        return str(error).removeprefix(f"node {platform.node()}: ")
    return ""


def test_a_machine_without_a_gpu_passes_and_imports_no_pytorch(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gpu(root, vendor="0x1d0f", kind="0x030000")  # the emulated screen of a cloud machine
    write_gpu(root, kind="0x020000", address="0000:00:02.0")  # a network adapter by NVIDIA
    assert faults_of(root) == ""
    line = capsys.readouterr().out
    assert line.startswith(f"node {platform.node()}: no NVIDIA GPU, torch ")
    assert "; cache on /, " in line
    assert line.endswith(" GB free\n")


def test_a_loaded_driver_without_a_gpu_is_no_fault(root: Path, tmp_path: Path) -> None:
    write_driver(root)
    assert faults_of(root, write_smi(tmp_path, "No devices were found\n", status=6)) == ""


@pytest.mark.parametrize(("visible", "hidden"), [("", True), ("-1", True), ("0", False)])
def test_hidden_gpus_do_not_count(
    root: Path, visible: str, hidden: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gpu(root)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert ("expected NVIDIA's driver" in faults_of(root)) != hidden
    assert ("NVIDIA GPUs are hidden, torch " in capsys.readouterr().out) == hidden


def test_a_usable_gpu_is_described_in_one_line(
    with_gpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults_of(with_gpu, write_smi(tmp_path), FakeTorch()) == ""
    facts = "1 NVIDIA A10G, 24 GB, driver 580.65.06 (CUDA 13.0), torch 2.15.0 for CUDA 13.2; cache on /, "
    assert capsys.readouterr().out.startswith(f"node {platform.node()}: {facts}")


def test_gpus_of_one_kind_are_counted(with_gpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = "NVIDIA L4, 23034\nNVIDIA A10G, 23028\nNVIDIA L4, 23034\n"
    assert faults_of(with_gpu, write_smi(tmp_path, table), FakeTorch()) == ""
    assert "2 NVIDIA L4, 24 GB each and 1 NVIDIA A10G, 24 GB, driver" in capsys.readouterr().out


def test_without_nvidia_smi_pytorch_names_the_gpus(with_gpu: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults_of(with_gpu, torch=FakeTorch(gpus=[H100])) == ""
    assert "1 NVIDIA H100, 80 GB, driver 580.65.06, torch 2.15.0 for CUDA 13.2" in capsys.readouterr().out


def test_a_gpu_without_a_driver_is_a_fault(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gpu(root, kind="0x030000")
    assert faults_of(root) == (
        "NVIDIA GPU at PCI 0000:00:1e.0: expected NVIDIA's driver, got none; choose an image that has it, or install "
        "it and restart the node"
    )
    assert "1 NVIDIA GPU, no driver, torch" in capsys.readouterr().out


def test_a_failing_nvidia_smi_is_quoted(with_gpu: Path, tmp_path: Path) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.65\n"
    found = faults_of(with_gpu, write_smi(tmp_path, said, status=18), FakeTorch())
    assert found.startswith(
        "driver 580.65.06: expected nvidia-smi to list the GPUs, got: Failed to initialize NVML: Driver/library "
        "version mismatch; restart the node"
    )
    assert "\n" not in found


def test_an_nvidia_smi_that_prints_no_text_is_quoted(with_gpu: Path, tmp_path: Path) -> None:
    smi = Path(write_smi(tmp_path))
    smi.write_text("#!/bin/sh\nprintf '\\377\\033[31m'\nexit 3\n")
    found = faults_of(with_gpu, str(smi), FakeTorch())
    assert "expected nvidia-smi to list the GPUs, got: \ufffd\\x1b[31m; restart the node" in found


def test_a_torch_that_cannot_be_imported_is_a_fault(
    with_gpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Any:
        raise ImportError("libcudart.so.12: cannot open shared object file\nmore")

    with pytest.raises(ClusterError) as raised:
        check_node(root=with_gpu, smi=write_smi(tmp_path), import_torch=fail)
    expected = "expected `import torch` to succeed, got: ImportError: libcudart.so.12: cannot open shared object file;"
    assert expected in str(raised.value)
    assert "driver 580.65.06" in capsys.readouterr().out


def test_a_build_for_cpus_beside_a_gpu_is_a_fault(with_gpu: Path, tmp_path: Path) -> None:
    assert faults_of(with_gpu, write_smi(tmp_path), FakeTorch(cuda_version=None)).startswith(
        "torch 2.15.0: expected a build for CUDA beside an NVIDIA GPU, got one for CPUs; reinstall torch"
    )


def test_a_driver_older_than_the_build_is_a_fault(root: Path, tmp_path: Path) -> None:
    write_gpu(root)
    write_driver(root, "570.86.15")
    found = faults_of(root, write_smi(tmp_path, summary=OLD_SUMMARY), FakeTorch(warning=OLD_DRIVER))
    assert found == (
        "driver 570.86.15: expected driver 580.65 or later for torch 2.15.0, which is built for CUDA 13.2; got CUDA "
        "12.8; choose an image with a newer driver, or reinstall torch and torchvision with `uv pip install "
        "--torch-backend=auto --reinstall`"
    )


@pytest.mark.parametrize("built_for", ["12.6", "12.9"])
def test_a_driver_runs_every_build_of_its_major_version(root: Path, tmp_path: Path, built_for: str) -> None:
    write_gpu(root)
    write_driver(root, "570.86.15")
    assert faults_of(root, write_smi(tmp_path, summary=OLD_SUMMARY), FakeTorch(cuda_version=built_for)) == ""


def test_an_older_driver_with_which_pytorch_works_is_no_fault(root: Path, tmp_path: Path) -> None:
    write_gpu(root)
    write_driver(root, "570.86.15")  # with the package cuda-compat, PyTorch can use the GPU
    assert faults_of(root, write_smi(tmp_path, summary=OLD_SUMMARY), FakeTorch()) == ""


@pytest.mark.parametrize(
    ("torch", "reason"),
    [
        (FakeTorch(warning="CUDA unknown error"), "got: UserWarning: CUDA unknown error; check nvidia-smi"),
        (FakeTorch(gpus=[]), "got: torch.cuda.is_available() is False; check nvidia-smi"),
    ],
)
def test_a_gpu_that_pytorch_does_not_see_is_a_fault(
    with_gpu: Path, tmp_path: Path, torch: FakeTorch, reason: str
) -> None:
    found = faults_of(with_gpu, write_smi(tmp_path), torch)
    assert found.startswith("torch 2.15.0 for CUDA 13.2: expected a usable GPU, ")
    assert reason in found


def test_a_gpu_whose_architecture_the_build_lacks_is_a_fault(with_gpu: Path, tmp_path: Path) -> None:
    found = faults_of(with_gpu, write_smi(tmp_path), FakeTorch(gpus=[A10G, V100]))
    assert found == (
        "GPU 1, Tesla V100-SXM2-16GB: expected kernels for its architecture sm_70, got sm_75, sm_80, sm_86, "
        "sm_90, compute_120 in torch 2.15.0 for CUDA 13.2; choose another type of GPU, or another build of PyTorch"
    )


@pytest.mark.parametrize(
    ("architectures", "fits"),
    [
        (("sm_86",), True),
        (("sm_80",), True),  # a binary runs on later GPUs of its major version
        (("sm_89",), False),
        (("sm_75",), False),
        (("compute_75",), True),  # the driver compiles the portable form for later GPUs
        (("compute_90",), False),
        (("sm_90a",), False),
    ],
)
def test_architectures_that_run_on_a_gpu(
    with_gpu: Path, tmp_path: Path, architectures: tuple[str, ...], fits: bool
) -> None:
    found = faults_of(with_gpu, write_smi(tmp_path), FakeTorch(architectures=architectures))
    assert ("expected kernels for its architecture sm_86" in found) == (not fits)


@pytest.mark.parametrize(
    ("torch", "reason"),
    [
        (FakeTorch(error=RuntimeError("CUDA error: an illegal\nmore")), "RuntimeError: CUDA error: an illegal"),
        (FakeTorch(error=AssertionError("no kernel")), "AssertionError: no kernel"),
        (FakeTorch(total=7), "the sum of eight ones was 7"),
    ],
)
def test_a_computation_that_fails_is_a_fault(with_gpu: Path, tmp_path: Path, torch: FakeTorch, reason: str) -> None:
    assert faults_of(with_gpu, write_smi(tmp_path), torch) == (
        f"GPU 0, NVIDIA A10G: expected a test computation to succeed, got: {reason}; restart or replace the node"
    )


def test_the_version_of_the_driver_is_read_from_either_file(tmp_path: Path) -> None:
    for k, (module, proc) in enumerate([(True, False), (False, True), (True, True)]):
        write_driver(tmp_path / str(k), "550.144.03", module=module, proc=proc)
        assert read_driver(tmp_path / str(k), "no-such-program") == Driver("550.144.03")
    (tmp_path / "0/sys/module/nvidia/version").unlink()
    assert read_driver(tmp_path / "0", "no-such-program") == Driver("")


def test_gpus_are_found_by_vendor_and_class(root: Path) -> None:
    write_gpu(root, address="0000:01:00.0")
    write_gpu(root, kind="0x040300", address="0000:01:00.1")  # the audio device of the same GPU
    assert pci_gpus(root) == ["0000:01:00.0"]


def test_a_folder_that_is_absent_or_a_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert folder_faults([tmp_path]) == []
    absent, no_folder = folder_faults([tmp_path / "absent", tmp_path / "file"])
    expected = f"expected a folder in which {getpass.getuser()} can create files"
    assert absent == f"{tmp_path}/absent: {expected}, got: No such file or directory; mount or create it"
    assert no_folder == f"{tmp_path}/file: {expected}, got: not a folder; mount or create it"


def test_a_folder_that_refuses_files_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write everywhere, whatever the mode
    (fault,) = folder_faults([tmp_path])
    assert fault.endswith(f"got: Permission denied; run: sudo chown {getpass.getuser()} {tmp_path}")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_another_owner_is_no_remedy_for_a_full_or_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    (fault,) = folder_faults([tmp_path])
    assert fault.endswith(f"got: {os.strerror(number)}; choose another folder")


def test_a_name_that_the_system_refuses_is_a_fault(tmp_path: Path) -> None:
    (fault,) = folder_faults([tmp_path / ("x" * 300)])
    assert fault.endswith(f"got: {os.strerror(errno.ENAMETOOLONG)}; mount or create it")


def test_nothing_is_left_in_a_folder(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_several_faults_get_a_line_each(root: Path, tmp_path: Path) -> None:
    write_gpu(root)
    lines = faults_of(root, writable=[tmp_path / "absent"]).splitlines()
    assert lines[0] == f"node {platform.node()} has 2 faults:"
    assert [line.split(": ")[0] for line in lines[1:]] == ["  NVIDIA GPU at PCI 0000:00:1e.0", f"  {tmp_path}/absent"]


def test_a_cache_that_cannot_be_made_is_a_fault(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAYGRID_CACHE", str(tmp_path / "file/cache"))
    assert faults_of(root).endswith("; set RAYGRID_CACHE to a folder of your own")
    assert capsys.readouterr().out.endswith("; no cache\n")


@pytest.mark.parametrize(("kind", "slow"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), ("overlay", False)])
def test_a_cache_on_another_machines_disk_is_named(
    root: Path, kind: str, slow: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "proc/mounts").write_text(f"server:/ / {kind} rw 0 0\n")
    assert faults_of(root) == ""
    advice = f"({kind} is not a local disk; set RAYGRID_CACHE to a folder on a local disk)"
    assert (advice in capsys.readouterr().out) == slow
    assert is_remote(kind) == slow


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    (tmp_path / "my disk").mkdir()
    mounts = tmp_path / "mounts"
    escaped = str(tmp_path / "my disk").replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\n/dev/b {escaped} xfs rw 0 0\n/dev/c {tmp_path}/m btrfs rw 0 0\n")
    assert mount_of(tmp_path / "my disk/cache", mounts) == (str(tmp_path / "my disk"), "xfs")
    assert mount_of(tmp_path / "other", mounts) == ("/", "ext4")
    assert mount_of(tmp_path, tmp_path / "absent") == ("", "")


def test_the_command_prints_the_facts_and_stops_at_a_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raygrid.cli", "check-node", "--writable", str(tmp_path)]
    good = subprocess.run(command, capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith(f"node {platform.node()}: ")
    bad = subprocess.run([*command, "--writable", str(tmp_path / "absent")], capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stderr.startswith(f"error: node {platform.node()}: {tmp_path}/absent: expected a folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to put a simulated GPU into /sys")
def test_the_command_looks_at_the_machine_itself(tmp_path: Path) -> None:
    write_gpu(tmp_path)
    simulated = tmp_path / "sys/bus/pci/devices"
    check = f"mount --bind '{simulated}' /sys/bus/pci/devices && '{sys.executable}' -m raygrid.cli check-node"
    command = ["unshare", "--mount", "sh", "-c", f"test ! -e /proc/driver/nvidia || exit 77; {check}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this machine has NVIDIA's driver")
    assert done.returncode == 1
    assert f"node {platform.node()}: 1 NVIDIA GPU, no driver, torch" in done.stdout
    assert done.stderr.startswith(f"error: node {platform.node()}: NVIDIA GPU at PCI 0000:00:1e.0: expected NVIDIA's ")
