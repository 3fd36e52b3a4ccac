"""The Ray Data pipeline of the transfer stage, its actors computing nothing: what becomes of rows and of errors."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle

from raygrid.errors import ClusterError
from raygrid.study import cluster
from raygrid.study.cluster import read_resources
from raygrid.study.transfer import run_pipeline, with_cluster_errors

Row = dict[str, Any]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


class Doubler:
    """An actor that answers, fails or hangs, as its rows say."""

    def __init__(self, job: Row) -> None:
        self._factor = job["factor"]

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if "hang" in batch["what"]:
            threading.Event().wait()
        if "fail" in batch["what"]:
            raise ValueError("a bad row")
        return {"number": batch["number"], "doubled": batch["block"] * self._factor}


def read(row: Row) -> Row:
    if row["what"] == "unreadable":
        raise OSError("no such block")
    return {**row, "block": row["number"]}


def run(ray: Any, whats: list[str], read: Any = read) -> Iterator[Row]:
    wanted = [{"number": number, "what": what} for number, what in enumerate(whats)]
    return with_cluster_errors(run_pipeline(wanted, read, Doubler, {"factor": 2}, read_resources(ray, "cpu")))


def test_with_an_actor_on_every_cpu_each_row_comes_out_once(ray_session) -> None:
    resources = read_resources(ray_session, "cpu")
    assert (resources.num_actors, resources.cpus) == (2, 2)
    rows = list(run(ray_session, ["fine"] * 40))
    assert sorted(row["number"] for row in rows) == list(range(40))
    assert all(row["doubled"] == 2 * row["number"] for row in rows)


@pytest.mark.parametrize(("what", "said"), [("fail", "a bad row"), ("unreadable", "no such block")])
def test_a_row_that_raises_is_never_dropped_in_silence(ray_session, what: str, said: str) -> None:
    with pytest.raises(ClusterError, match=f"(?s)Run the same command again to continue.*{said}"):
        list(run(ray_session, ["fine", what, "fine"]))


def test_a_worker_that_hangs_is_noticed(ray_session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "NO_PROGRESS_TIMEOUT_S", 10)
    with pytest.raises(ClusterError, match="Run the same command again to continue"):
        list(run(ray_session, ["fine", "hang"]))
    monkeypatch.undo()
    rows = list(run(ray_session, ["fine"] * 3))  # the cluster is of use afterwards: the one that hung is gone
    assert len(rows) == 3
