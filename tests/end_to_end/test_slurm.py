"""docs/how-to/slurm.sh on two nodes with Slurm: killed in each way that Slurm kills, it resumes to the same table."""

import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from lab import missing
from page_commands import commands_of
from slurm_cluster import PAGE, Cluster
from slurm_lab import NODES, SLURM

UNITS = 24  # of the study


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = missing(tmp_path_factory.mktemp("probe")) or missing(tmp_path_factory.mktemp("probe"), SLURM)
    if reason:
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.install()
        yield cluster
    finally:
        cluster.lab.close()


def auc_of(output: Path) -> pd.DataFrame:
    keys = ["modality", "condition", "surrogate", "target", "attack", "epsilon"]
    return pd.read_parquet(output / "results" / "auc.parquet").sort_values(keys, ignore_index=True)


def run_until(cluster: Cluster, units: int) -> int:
    """Submit the study and wait until it has `units` finished units and both nodes score; return the job."""
    job = cluster.submit()
    cluster.wait(job, lambda: cluster.units() >= units and cluster.are_scoring())
    assert cluster.units() < UNITS, "the study ended before its job could be killed"
    return job


def assert_nothing_left(cluster: Cluster) -> None:
    """Check that the nodes become clean: without cgroups, a killed script's driver ends only when it misses Ray."""
    deadline = time.monotonic() + 60
    while (left := cluster.left()) != dict.fromkeys(NODES, ""):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


@pytest.mark.slow
def test_a_study_whose_jobs_are_killed_gives_the_same_table(cluster: Cluster, finished: Path) -> None:
    # Slurm's scancel: SIGTERM for all processes of the job, and SIGKILL for those that are still there later
    job = run_until(cluster, 2)
    cluster.lab.run("one", commands_of(PAGE, "Stop it"))
    state, log = cluster.end_of(job)
    assert state == "CANCELLED", log
    assert_nothing_left(cluster)

    # The signal of --signal, two minutes before the time limit, goes to the script alone.
    job = run_until(cluster, 5)
    cluster.lab.run("one", f"scancel --batch --signal=TERM {job}")
    state, log = cluster.end_of(job)
    assert "stopped; run the same command again to continue" in log
    assert "slurm.sh:" not in log
    assert_nothing_left(cluster)

    job = run_until(cluster, 8)
    cluster.lab.run("one", "pkill -KILL -f slurm_scrip[t]", user="root")
    state, log = cluster.end_of(job)
    assert state == "FAILED", log
    assert_nothing_left(cluster)

    job = run_until(cluster, 11)
    cluster.lab.run("two", "pkill -KILL -f raylet/rayle[t]", user="root")
    state, log = cluster.end_of(job)
    assert state == "FAILED", log
    assert "slurm.sh: Ray ended on two, so the study stops" in log
    assert_nothing_left(cluster)

    job = cluster.submit()
    state, log = cluster.end_of(job)
    assert state == "COMPLETED", log
    assert "nothing is missing" in log
    assert_nothing_left(cluster)
    pd.testing.assert_frame_equal(auc_of(cluster.study), auc_of(finished), check_exact=True)


@pytest.mark.slow
def test_two_jobs_share_the_nodes(cluster: Cluster) -> None:
    names = ("first", "second")
    for name in names:
        changes = {"/shared/studies/paper": f"/shared/studies/{name}", "--device cpu": "--device cpu --only prepare"}
        cluster.write_recipe(f"{name}.sh", changes)
    jobs = [cluster.submit(f"cd ~/raygrid && sbatch docs/how-to/{name}.sh") for name in names]
    for job, name in zip(jobs, names, strict=True):
        state, log = cluster.end_of(job)
        assert state == "COMPLETED", log
        assert log.count("Ray runtime started") == len(NODES)
        assert list((cluster.shared / "studies" / name / "samples").iterdir())
        assert_nothing_left(cluster)
    starts, ends = zip(*((cluster.field(job, "StartTime"), cluster.field(job, "EndTime")) for job in jobs), strict=True)
    assert max(starts) < min(ends), "the jobs did not run at the same time"


@pytest.mark.slow
@pytest.mark.parametrize("node", NODES)
def test_a_node_that_does_not_start_ends_the_job(cluster: Cluster, node: str) -> None:
    next_job = cluster.submit("sbatch --wrap true --output /dev/null") + 1
    folder = f"/tmp/raygrid-{next_job}"
    cluster.lab.run(node, f"mkdir {folder}", user="root")
    job = cluster.submit()
    state, log = cluster.end_of(job)
    cluster.lab.run(node, f"rmdir {folder}", user="root")
    assert (job, state) == (next_job, "FAILED"), log
    assert f"install: cannot change permissions of '{folder}'" in log
    assert "slurm.sh: Ray did not start on a node" in log
    assert_nothing_left(cluster)
