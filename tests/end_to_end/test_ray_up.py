"""`ray up cluster.yaml` on a small AWS: the life of one cluster, with the commands of docs/how-to/cluster.md as pasted.

The tests run in the order of this file: each fixture needs the one before.
"""

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from aws_api import BUCKET, ENDPOINT
from aws_lab import DEBIAN_TOOLS, HELPERS, ROOT, AwsLab
from lab import missing

GUIDE = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
AUC = "results/auc.parquet"
DASHBOARD = "http://127.0.0.1:8265"
KILL_AFTER = 3  # score files, of 84
READ_ONLY = "chown: changing ownership of '/shared': Read-only file system"
QUOTE = """cd ~/raygrid && .venv/bin/python -c '
from pathlib import Path
from raygrid.study.autoscaler_log import last_error
print(last_error(Path("/tmp/ray/session_latest/logs")))'"""
SCORERS = "pkill {} -f '[r]ay::MapWorker'"  # the processes that score; the pattern does not match its own command line


def commands(heading: str) -> list[str]:
    """Return the command lines of the first code block below a heading of the guide."""
    section = GUIDE.split(f"{heading}\n", 1)[1]
    block = re.search(r"^```bash\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert block is not None, heading
    return block[1].splitlines()


INSTALL = commands("### 4. Install Ray's launcher")[0]
START = "\n".join(commands("### 5. Start the cluster"))
RUN, STATUS, FETCH = commands("### 6. Run a first study")
COPY_DATA = commands("### 7. Run your study")[0]
LOOK = commands("### If a node does not start")[0]
STOP = commands("### 9. Stop the cluster")[0]


def table_of(path: Path) -> pd.DataFrame:
    keys = ["modality", "condition", "surrogate", "target", "attack", "epsilon"]
    return pd.read_parquet(path).sort_values(keys, ignore_index=True)


def is_score(name: str) -> bool:
    return re.fullmatch(r".*/scores/.*/block-[^/]*\.parquet", name) is not None


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsLab]:
    if reason := missing(tmp_path_factory.mktemp("probe"), DEBIAN_TOOLS):
        pytest.skip(reason)
    running = AwsLab(tmp_path_factory.mktemp("aws"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def started(lab: AwsLab) -> str:
    """The transcript of the first start, in the environment that the guide makes."""
    lab.laptop(f"uv venv -q --python 3.11\n. .venv/bin/activate\n{INSTALL}")
    return lab.laptop(START)


@pytest.mark.slow
def test_the_guide_starts_a_head_node(lab: AwsLab, started: str) -> None:
    assert "cluster.yaml: accepted by" in started
    assert "It is held by process" in started  # dpkg's lock, for which apt waited
    assert "Usage stats collection is disabled" in started
    assert lab.instances() == [lab.head()]
    assert lab.run(lab.head(), "stat -c %a ~/.ray/auth_token").stdout == "600\n"
    assert "1 head" in lab.laptop("ray exec cluster.yaml 'ray status'")


@dataclass(frozen=True)
class Survivor:
    """A study on the shared disk whose head node was lost in the transfer stage.

    Attributes:
        scored: time of each score file that was there.
        head: the instance that was lost.
        status: what the guide's second command printed at the end.
        look: what the guide's command for a node that does not start printed before, about the first worker.
        quoted: the line that an error about a missing GPU would have quoted then.
    """

    folder: Path
    scored: dict[Path, int]
    head: str
    status: str
    look: str
    quoted: str


@pytest.fixture(scope="module")
def survivor(lab: AwsLab, started: str) -> Survivor:
    folder, head = lab.shared / "studies" / "demo", lab.head()

    def scored() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("block-*.parquet") if is_score(str(path))}

    lab.laptop(RUN)
    lab.wait_for(lambda: len(scored()) >= KILL_AFTER, "score files of the first run")
    lab.run(head, SCORERS.format("-STOP"))
    look = str(lab.wait_for(lambda: failure_of_set_up(lab), "the failure of the first worker's set-up"))
    quoted = lab.run(head, QUOTE).stdout
    for worker in lab.workers():
        lab.run(worker, "mount -o remount,bind,rw /shared", user="root")
    lab.terminate(head)
    before = scored()
    assert not (folder / AUC).exists()
    lab.laptop(START)
    lab.laptop(RUN)
    lab.wait_for(lambda: "nothing is missing" in tail_of_log(folder), "the end of the study")
    return Survivor(folder, before, head, lab.laptop(STATUS), look, quoted)


def failure_of_set_up(lab: AwsLab) -> str:
    """Return what the guide's command prints, "" while the fault of the first worker is not in it."""
    look = lab.laptop(LOOK)
    return look if READ_ONLY in look else ""


def tail_of_log(folder: Path) -> str:
    log = folder / "log.jsonl"
    return log.read_text()[-20_000:] if log.exists() else ""


@pytest.mark.slow
def test_a_set_up_that_fails_on_a_worker_is_in_the_autoscalers_log(survivor: Survivor) -> None:
    assert READ_ONLY in survivor.look
    assert survivor.quoted == f"{READ_ONLY}\n"


@pytest.mark.slow
def test_the_head_node_is_lost_and_nothing_that_was_scored(lab: AwsLab, survivor: Survivor) -> None:
    assert survivor.head not in lab.instances()
    assert "models: 5 of 5 trained" in survivor.status
    assert {path: path.stat().st_mtime_ns for path in survivor.scored} == survivor.scored


@pytest.mark.slow
def test_the_results_come_to_the_laptop(lab: AwsLab, survivor: Survivor) -> None:
    lab.laptop(FETCH)
    assert (lab.project / "results" / "report.html").read_bytes() == (
        survivor.folder / "results" / "report.html"
    ).read_bytes()


@pytest.mark.slow
def test_the_data_come_to_the_shared_disk(lab: AwsLab, survivor: Survivor) -> None:
    (lab.project / "data" / "images").mkdir(parents=True)
    (lab.project / "data" / "images" / "one.png").write_bytes(b"pixels")
    lab.laptop(COPY_DATA)
    assert (lab.shared / "data" / "images" / "one.png").read_bytes() == b"pixels"


@dataclass(frozen=True)
class Stored:
    """A study in the bucket, whose first worker was lost while it scored.

    Attributes:
        by_worker: score files in the cache of the worker that was lost.
        by_replacement: the same, of the next worker.
        said: the output of the job.
    """

    by_worker: list[str]
    by_replacement: list[str]
    said: str


@pytest.fixture(scope="module")
def stored(lab: AwsLab, survivor: Survivor) -> Stored:
    """The head's own scorers stand still in between, so that the study cannot end before a worker came."""
    url = f"s3://{BUCKET}/studies/stored?endpoint_override={ENDPOINT}"
    study = f'cd ~/raygrid && python experiments/full_grid.py --address auto --output "{url}"'
    job = f"export RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS={DASHBOARD}; ray job"
    submit = f"{job} submit --no-wait --submission-id stored -- bash -c '{study}'"
    dashboard = lab.start("laptop", "cd ~/raygrid && exec ray dashboard cluster.yaml", stdout=subprocess.DEVNULL)
    try:
        lab.wait_for(lambda: "submitted successfully" in lab.laptop(submit, check=False), "the submission of the job")
        head = lab.head()
        lab.wait_for(lambda: sum(map(is_score, lab.objects())) >= KILL_AFTER, "score files in the bucket")
        lab.run(head, SCORERS.format("-STOP"))
        first, by_worker = scoring_worker(lab)
        lab.terminate(first)
        second, by_replacement = scoring_worker(lab)
        assert second != first
        lab.run(head, SCORERS.format("-CONT"))
        lab.wait_for(lambda: f"studies/stored/{AUC}" in lab.objects(), "the AUC table in the bucket")
        said = lab.wait_for(lambda: finished_output(lab, job), "the end of the job")
    finally:
        dashboard.terminate()
        dashboard.wait()
    return Stored(by_worker, by_replacement, said)


def finished_output(lab: AwsLab, job: str) -> str:
    ended = "Job 'stored' succeeded" in lab.laptop(f"{job} status stored")
    return lab.laptop(f"{job} logs stored") if ended else ""


def scoring_worker(lab: AwsLab) -> tuple[str, list[str]]:
    """Wait for a worker that has scored units; return its instance and the files."""

    def found() -> tuple[str, list[str]] | None:
        for worker in set(lab.workers()) & set(lab.boxes()):
            listed = lab.run(worker, "find /tmp/raygrid-* -name 'block-*.parquet'", check=False).stdout.splitlines()
            if files := [name for name in listed if is_score(name)]:
                return worker, files
        return None

    there: tuple[str, list[str]] = lab.wait_for(found, "a worker that scores units")
    return there


@pytest.mark.slow
def test_workers_join_and_score_and_one_is_lost(lab: AwsLab, stored: Stored) -> None:
    assert stored.by_worker
    assert stored.by_replacement
    assert "nothing is missing" in stored.said


@pytest.fixture(scope="module")
def local(lab: AwsLab, stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The AUC table of the same study on this machine alone."""
    folder = tmp_path_factory.mktemp("local")
    command = [sys.executable, str(HELPERS / "many_units_grid.py"), "--num-cpus", "2", "--output", str(folder)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=900)
    assert not done.returncode, done.stdout + done.stderr
    return table_of(folder / AUC)


@pytest.mark.slow
def test_the_tables_are_those_of_one_machine(
    lab: AwsLab, survivor: Survivor, stored: Stored, local: pd.DataFrame, tmp_path: Path
) -> None:
    pd.testing.assert_frame_equal(table_of(survivor.folder / AUC), local, check_exact=True)
    remote = lab.get(f"studies/stored/{AUC}", tmp_path / "auc.parquet")
    pd.testing.assert_frame_equal(table_of(remote), local, check_exact=True)


@pytest.mark.slow
def test_an_idle_worker_is_terminated(lab: AwsLab, local: pd.DataFrame) -> None:
    lab.wait_for(lambda: not lab.workers(), "the end of the idle worker")
    assert lab.instances() == [lab.head()]


@pytest.mark.slow
def test_attach_opens_a_shell_on_the_head(lab: AwsLab, stored: Stored) -> None:
    ours, theirs = pty.openpty()
    shell = lab.start("laptop", "cd ~/raygrid && ray attach cluster.yaml", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"echo here=$(hostname); exit\n")
    said = read_all(ours, timeout=60)
    assert f"here={lab.head()}" in said, said
    assert shell.wait(timeout=60) == 0


def read_all(terminal: int, timeout: float) -> str:
    """Return what a pseudo-terminal prints until its program ends."""
    said, deadline = b"", time.monotonic() + timeout
    os.set_blocking(terminal, False)
    while time.monotonic() < deadline:
        try:
            said += os.read(terminal, 65536)
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # EIO: the other side is closed
            break
    return said.decode(errors="replace")


@pytest.mark.slow
def test_a_set_up_command_that_fails_on_the_head_is_printed(lab: AwsLab, started: str) -> None:
    broken: dict[str, Any] = {**lab.config, "cluster_name": "broken"}
    broken["initialization_commands"] = ["echo this disk is full >&2; exit 3"]
    lab.write_config("broken.yaml", broken)
    said = lab.laptop("ray up -y broken.yaml; echo exit status $?")
    assert "this disk is full" in said
    assert "exit status 1" in said
    lab.laptop("ray down -y broken.yaml")


@pytest.mark.slow
def test_down_leaves_nothing(lab: AwsLab, stored: Stored) -> None:
    lab.laptop(STOP)
    assert lab.instances() == []
    lab.wait_for(lambda: lab.boxes() == ["laptop"], "the end of the boxes", timeout=30)
