"""The set-up commands of the cluster files: wheels for the node's driver, and a check at the end."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "cluster.yaml", *sorted((ROOT / "docs" / "how-to").glob("cluster-*.yaml"))]
DRIVER = "/proc/driver/nvidia/version"
PINNED = "pip install -q --python .venv/bin/python -c constraints.txt -e .["
FOR_THE_DRIVER = "pip install -q --torch-backend=auto --python .venv/bin/python -c "


def run_install(path: Path, home: Path, *, has_driver: bool, has_build: bool = True) -> list[str]:
    """Run the command that installs raygrid in a home folder; return the arguments of each call of a stand-in for uv.

    Args:
        has_build: whether uv finds a build of PyTorch for the driver.
    """
    (command,) = (c for c in yaml.safe_load(path.read_text())["setup_commands"] if "uv pip install" in c)
    driver, uv = home / "version", home / ".uv/bin/uv"
    if has_driver:
        driver.touch()
    uv.parent.mkdir(parents=True)
    refuse = "" if has_build else 'case "$*" in *torch-backend*) exit 1;; esac\n'
    uv.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> ~/arguments\n{refuse}')
    uv.chmod(0o755)
    (home / "raygrid").symlink_to(ROOT)
    shown = command.replace(DRIVER, str(driver))
    assert shown != command
    subprocess.run(["bash", "-c", shown], env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    return (home / "arguments").read_text().splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_without_a_driver_every_version_is_pinned(path: Path, tmp_path: Path) -> None:
    (arguments,) = run_install(path, tmp_path, has_driver=False)
    assert arguments.startswith(PINNED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_with_a_driver_uv_chooses_the_build_of_pytorch(path: Path, tmp_path: Path) -> None:
    (arguments,) = run_install(path, tmp_path, has_driver=True)
    assert arguments.startswith(f"{FOR_THE_DRIVER}{tmp_path}/.uv/constraints.txt -e .[")
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    left = (tmp_path / ".uv/constraints.txt").read_text().splitlines()
    free = set(pinned) - set(left)
    assert left == [pin for pin in pinned if pin not in free]
    assert {pin.split("-")[0] for pin in free} == {"cuda", "nvidia"}  # the packages of one CUDA version
    assert any(pin.startswith("torch==") for pin in left)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_without_a_build_for_the_driver_the_pinned_one_is_left_to_the_check(path: Path, tmp_path: Path) -> None:
    tried, installed = run_install(path, tmp_path, has_driver=True, has_build=False)
    assert tried.startswith(FOR_THE_DRIVER)
    assert installed.startswith(PINNED)
    assert tried.split(" -e ")[1] == installed.split(" -e ")[1]  # the same extras


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_set_up_of_every_node_ends_with_its_check(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert config["setup_commands"][-1].endswith("~/raygrid/.venv/bin/raygrid check-node --writable /shared")
    caches = re.findall(r"RAYGRID_CACHE=[^\s;]+", str(config["worker_start_ray_commands"]))
    assert caches == re.findall(r"RAYGRID_CACHE=[^\s;]+", config["setup_commands"][-1])
    assert len(caches) == 1
