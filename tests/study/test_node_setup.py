"""The set-up commands of the cluster files: wheels for the node's driver, and a check at the end."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "cluster.yaml", ROOT / "docs" / "how-to" / "cluster-gcp.yaml"]
DRIVER = "/proc/driver/nvidia/version"


def install_commands(path: Path) -> list[str]:
    """Return the commands that write the constraints and install raygrid."""
    commands = yaml.safe_load(path.read_text())["setup_commands"]
    return [command for command in commands if ".uv/constraints.txt" in command]


def run_install(path: Path, home: Path, *, has_driver: bool) -> str:
    """Run the commands in a home folder, with a stand-in for uv; return its arguments."""
    driver, uv = home / "version", home / ".uv/bin/uv"
    if has_driver:
        driver.touch()
    uv.parent.mkdir(parents=True)
    uv.write_text('#!/bin/sh\nprintf "%s\\n" "$*" > ~/arguments\n')
    uv.chmod(0o755)
    (home / "raygrid").symlink_to(ROOT)
    for command in install_commands(path):
        shown = command.replace(DRIVER, str(driver))
        assert shown != command
        subprocess.run(["bash", "-c", shown], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    return (home / "arguments").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_without_a_driver_every_version_is_pinned(path: Path, tmp_path: Path) -> None:
    arguments = run_install(path, tmp_path, has_driver=False)
    assert arguments.startswith(f"pip install -q --python .venv/bin/python -c {tmp_path}/.uv/constraints.txt -e .[")
    assert (tmp_path / ".uv/constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_with_a_driver_uv_chooses_the_build_of_pytorch(path: Path, tmp_path: Path) -> None:
    arguments = run_install(path, tmp_path, has_driver=True)
    assert arguments.startswith("pip install -q --torch-backend=auto --python .venv/bin/python -c ")
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    left = (tmp_path / ".uv/constraints.txt").read_text().splitlines()
    free = set(pinned) - set(left)
    assert left == [pin for pin in pinned if pin not in free]
    assert {pin.split("-")[0] for pin in free} == {"cuda", "nvidia"}  # the packages of one CUDA version
    assert any(pin.startswith("torch==") for pin in left)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_set_up_of_every_node_ends_with_its_check(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert config["setup_commands"][-1].endswith("~/raygrid/.venv/bin/raygrid check-node --writable /shared")
    caches = re.findall(r"RAYGRID_CACHE=\S+", str(config["worker_start_ray_commands"]))
    assert re.findall(r"RAYGRID_CACHE=[^\s;]+", config["setup_commands"][-1]) == [cache.rstrip(";") for cache in caches]
