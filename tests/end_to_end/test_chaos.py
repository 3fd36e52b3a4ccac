"""Trainings whose workers are killed every few seconds, and whose driver is killed once, end with the weights that one
process without Ray gives.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import family

from raygrid.io.files import read_json
from raygrid.models.training import train
from raygrid.store.folder import open_study

EXPERIMENT = Path(__file__).parents[1] / "helpers" / "chaos_grid.py"
NUM_MODELS = 8
NUM_KILLS = 8
PAUSE_S = (1.0, 5.0)  # between an epoch that was written and the next kill: anywhere in the epochs that follow


def start(output: Path, stage: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(EXPERIMENT), "--output", str(output), "--num-cpus", "2", "--only", stage]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: "subprocess.Popen[bytes]") -> None:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text.decode()


def train_alone(study_dir: Path) -> None:
    """Train the models of a study in this process, one after the other."""
    zoo = open_study(study_dir)
    samples = zoo.samples("pathology")
    for model in zoo.untrained():
        train(zoo, model, samples)


def weights_of(output: Path) -> dict[str, str]:
    cards = [read_json(path) for path in output.glob("zoo/*/*/card.json")]
    return {card["name"]: card["weights_sha256"] for card in cards}


def written_by(output: Path) -> set[tuple[Path, int]]:
    """Return every finished epoch's and model's file, with its time: it differs as soon as a trial gets further."""
    files = (path for name in ("resume.pt", "card.json") for path in output.glob(f"zoo/*/*/{name}"))
    return {(path, stat.st_mtime_ns) for path in files if (stat := stat_of(path))}


def stat_of(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # its trial ended meanwhile
        return None


def workers_of(driver: int) -> Iterator[int]:
    """Yield the processes below `driver` that train."""
    for process in family(driver):
        try:
            name = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if name.startswith("ray::") and "train" in name:
            yield process


@pytest.mark.slow
def test_killed_workers_and_a_killed_driver_change_no_weight(tmp_path: Path) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    finish(start(disturbed, "prepare"))
    shutil.copytree(disturbed, undisturbed)
    train_alone(undisturbed)
    expected = weights_of(undisturbed)
    assert len(expected) == NUM_MODELS

    choose, kills = random.Random(4), 0
    driver, killed_driver, at_last_kill = start(disturbed, "train"), False, written_by(disturbed)
    deadline = time.monotonic() + 900
    while driver.poll() is None:
        assert time.monotonic() < deadline, f"{len(weights_of(disturbed))} of {NUM_MODELS} models after 15 minutes"
        time.sleep(choose.uniform(*PAUSE_S))
        if written_by(disturbed) == at_last_kill:
            continue  # a slow machine is still starting workers: killing those would show nothing but patience
        if not killed_driver and len(weights_of(disturbed)) >= NUM_MODELS // 3:
            os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
            driver, killed_driver = start(disturbed, "train"), True
        elif kills < NUM_KILLS and (victims := sorted(workers_of(driver.pid))):
            os.kill(choose.choice(victims), signal.SIGKILL)
            kills += 1
        at_last_kill = written_by(disturbed)
    driver.communicate()
    assert killed_driver
    assert kills >= 3, "too few workers were killed for this to show anything"
    if driver.returncode != 0 or len(weights_of(disturbed)) < NUM_MODELS:  # a trial died too often: run again, as told
        finish(start(disturbed, "train"))
    assert weights_of(disturbed) == expected
