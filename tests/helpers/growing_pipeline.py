"""Run the pipeline of the transfer stage on one simulated node that a second one joins: a program, as is its cluster.

Prints how many nodes the actors stood on, and how often each row came out.
"""

import time
from collections import Counter
from typing import Any

import numpy as np
from ray.cluster_utils import Cluster

from raygrid.study.cluster import connected, read_resources
from raygrid.study.transfer import run_pipeline

NUM_ROWS, ROW_S = 80, 0.5


class Waiter:
    """An actor that takes its time and tells its node."""

    def __init__(self, job: dict[str, Any]) -> None:
        import ray

        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(ROW_S)
        return {"unit": batch["unit"], "node": np.array([self._node])}


def read(row: dict[str, Any]) -> dict[str, Any]:
    return row


def main() -> None:
    node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    with connected(cluster.address) as ray:
        resources = read_resources(ray, "cpu")
        assert resources.num_actors == 1
        wanted = [{"unit": k} for k in range(NUM_ROWS)]
        rows = run_pipeline(wanted, read, Waiter, {}, resources)
        first = next(rows)  # one actor is at work on one node
        cluster.add_node(**node)
        done = [first, *rows]
    cluster.shutdown()
    counts = Counter(int(row["unit"]) for row in done)
    print(f"{len({row['node'] for row in done})} nodes, {len(counts)} rows, each {set(counts.values())} times")


if __name__ == "__main__":
    main()
