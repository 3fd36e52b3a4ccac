"""A whole small study in object storage: the table of a local one, and no work lost with the machine of the driver."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from s3_server import BUCKET, KEY, SECRET, S3Server, s3_server

from raygrid.io.mirror import local_dir
from raygrid.io.paths import CACHE_VARIABLE

EXPERIMENT = Path(__file__).parents[1] / "helpers" / "storage_grid.py"
STATUS = "import sys; from raygrid.cli.commands import main; main(['status', sys.argv[1]])"
KILL_AFTER = 3  # score files, of 24


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


def start(output: str, cache: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXPERIMENT), "--output", output, "--num-cpus", "2", *options]
    environment = {**os.environ, CACHE_VARIABLE: str(cache)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def run(output: str, cache: Path, *options: str) -> str:
    process = start(output, cache, *options)
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    return text


def table_of(path_or_data: Any) -> pd.DataFrame:
    keys = ["modality", "condition", "surrogate", "target", "attack", "epsilon"]
    return pd.read_parquet(path_or_data).sort_values(keys, ignore_index=True)


def fetched(server: S3Server, key: str, folder: Path) -> Path:
    path = folder / Path(key).name
    path.write_bytes(server.get(key))
    return path


def score_names(server: S3Server, folder: str) -> list[str]:
    return [name for name in server.objects(folder) if re.fullmatch(r"scores/.*/block-.*\.parquet", name)]


@pytest.fixture(scope="module")
def local(finished: Path) -> pd.DataFrame:
    """The AUC table of the study on this machine's disk."""
    return table_of(finished / "results" / "auc.parquet")


@dataclass(frozen=True)
class Survivor:
    """A study in object storage whose driver, and its whole machine, were lost in the transfer stage, then finished.

    Attributes:
        killed: process of the driver that was lost.
        before: the objects, with checksum and time, when it was.
        refused: what another machine was told while the dead driver's claim was fresh.
        said: what it said when it finished the study.
    """

    folder: str
    killed: int
    before: dict[str, tuple[str, Any]]
    refused: str
    said: str


@pytest.fixture(scope="module")
def remote(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Survivor:
    url = server.url("whole")
    driver = start(url, tmp_path_factory.mktemp("lost machine"))
    deadline = time.monotonic() + 300
    while len(score_names(server, "whole")) < KILL_AFTER:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, "no score file appeared"
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    before = server.objects("whole")
    other = tmp_path_factory.mktemp("other machine")
    early = start(url, other)
    refused, _ = early.communicate(timeout=300)
    assert early.returncode == 1
    return Survivor("whole", driver.pid, before, refused, run_when_free(url, other))


@pytest.mark.slow
def test_a_study_in_object_storage_gives_the_table_of_a_local_one(
    local: pd.DataFrame, remote: Survivor, server: S3Server, tmp_path: Path
) -> None:
    assert "nothing is missing" in remote.said
    table = table_of(fetched(server, f"{remote.folder}/results/auc.parquet", tmp_path))
    pd.testing.assert_frame_equal(table, local, check_exact=True)
    there = server.objects(remote.folder)
    assert {"study.json", "mlflow.db", "results/report.html"} <= set(there)
    assert [name for name in there if "resume.pt" in name or name.startswith(("driver", "tune"))] == []


@pytest.mark.slow
def test_the_machine_of_the_driver_is_lost_and_nothing_that_was_scored(remote: Survivor, server: S3Server) -> None:
    before, after = remote.before, server.objects(remote.folder)
    assert "driver.json" in before
    assert "results/auc.parquet" not in before
    assert f'is in use by another driver: {{"host": "{os.uname().nodename}", "pid": {remote.killed}' in remote.refused
    scored = score_names(server, remote.folder)
    assert len(scored) > sum(name in before for name in scored)  # not too late
    kept = [name for name in before if name.startswith(("samples/", "zoo/", "scores/", "perceptibility/"))]
    kept = [name for name in kept if name in after]  # a training's checkpoint goes when it ends
    assert len(kept) > KILL_AFTER
    assert [name for name in kept if after[name] != before[name]] == []
    assert [name for name in before if name not in after] == ["driver.json"]


@pytest.mark.slow
def test_no_credential_is_printed_or_stored(remote: Survivor, server: S3Server) -> None:
    said = remote.refused + remote.said
    assert SECRET not in said
    assert KEY not in said
    for name in server.objects(remote.folder):
        data = server.get(f"{remote.folder}/{name}")
        assert SECRET.encode() not in data, name
        assert KEY.encode() not in data, name


@pytest.mark.slow
def test_another_machine_finds_a_finished_study_finished(remote: Survivor, server: S3Server, tmp_path: Path) -> None:
    folder = remote.folder
    before = server.objects(folder)
    said = run(server.url(folder), tmp_path / "other")
    assert "nothing has changed" in said
    assert "mlflow: 0 new runs" in said
    changed = {name for name, state in server.objects(folder).items() if before.get(name) != state}
    assert changed <= {"log.jsonl", "mlflow.db"}  # a run more; artefacts lie elsewhere on this machine


def run_when_free(output: str, cache: Path) -> str:
    """Run the study, again and again as a person would, until the dead driver's claim is old."""
    deadline = time.monotonic() + 300
    while True:
        process = start(output, cache)
        said, _ = process.communicate(timeout=600)
        if "is in use by another driver" not in said:
            assert process.returncode == 0, said
            return said
        assert time.monotonic() < deadline, said


@pytest.mark.slow
def test_commands_take_the_url(
    remote: Survivor, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    server.put(f"{remote.folder}/zoo/pathology/old-0123456789ab/card.json", b"{}")
    url = server.url(remote.folder)
    said = subprocess.run([sys.executable, "-c", STATUS, url], capture_output=True, text=True, timeout=120, check=True)
    assert "models: 5 of 5 trained" in said.stdout
    assert f"no longer used: s3://{BUCKET}/{remote.folder}/zoo/pathology/old-0123456789ab" in said.stdout
    clean = STATUS.replace("'status'", "'clean', '--delete'")
    subprocess.run([sys.executable, "-c", clean, url], capture_output=True, text=True, timeout=120, check=True)
    assert not [name for name in server.objects(remote.folder) if "old-0123456789ab" in name]
    assert not list(local_dir(url).glob("zoo/pathology/old-*"))


@pytest.mark.slow
def test_nodes_that_share_no_disk_work_on_one_study(server: S3Server, tmp_path: Path) -> None:
    put_images(server, "data/clinic")
    program, caches = EXPERIMENT.with_name("storage_on_nodes.py"), tmp_path / "caches"
    command = [sys.executable, str(program), server.url("nodes"), server.url("data"), str(caches)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "nothing is missing" in said.stdout
    cards = [path.parts[-3:] for path in caches.glob("*/raygrid-mirrors/*/zoo/*/*/card.json")]
    weights = caches.glob("*/raygrid-mirrors/*/zoo/clinic/*/model.safetensors")
    assert {path.relative_to(caches).parts[0] for path in weights} == {"driver", "head", "worker"}  # all had work
    assert len(set(cards)) == 4
    assert not list(caches.glob("driver/raygrid-mirrors/*/zoo/*/*/resume.pt"))
    assert len(score_names(server, "nodes")) == 4 * 3  # clean and three surrogates, 3 blocks


def put_images(server: S3Server, folder: str) -> None:
    """Make a raw data set of 60 grey images in the bucket."""
    rows = ["image,patient,bright"]
    for number in range(60):
        buffer = io.BytesIO()
        Image.fromarray(np.full((40, 40, 3), 60 + 100 * (number % 2) + number, dtype=np.uint8)).save(buffer, "png")
        server.put(f"{folder}/images/{number}.png", buffer.getvalue())
        rows.append(f"images/{number}.png,p{number},{number % 2}")
    server.put(f"{folder}/table.csv", "\n".join(rows).encode())
