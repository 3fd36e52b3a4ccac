"""Run the transfer stage of a prepared toy study on simulated nodes: a program, as one process joins one cluster.

Usage: transfer_on_nodes.py STUDY NUM_NODES [KILL_AFTER]: with KILL_AFTER the last node is taken away, ungracefully,
once that many score files are there, and another one joins.
"""

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ray.cluster_utils import Cluster

from raygrid.store.folder import StudyFolder, open_study
from raygrid.study.cluster import connected, read_resources
from raygrid.study.transfer import transfer_missing

POLL_S = 0.05


def main() -> None:
    zoo = open_study(Path(sys.argv[1]))
    num_nodes, kill_after = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None
    node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    added = [cluster.add_node(**node) for _ in range(num_nodes - 1)]
    cluster.wait_for_nodes()
    with connected(cluster.address) as ray, ThreadPoolExecutor(1) as pool:
        assert len([n for n in ray.nodes() if n["Alive"]]) == num_nodes
        # the stage runs beside: only a main thread can start nodes
        stage = pool.submit(transfer_missing, zoo, zoo.study.modalities[0], read_resources(ray, "cpu"))
        if kill_after is not None:
            wait_for_files(zoo, kill_after, stage)
            cluster.remove_node(added[-1], allow_graceful=False)
            print("a node was killed", flush=True)
            cluster.add_node(**node)
        print(f"{stage.result()} score files written by {num_nodes} nodes", flush=True)
    cluster.shutdown()


def wait_for_files(zoo: StudyFolder, count: int, stage: "Future[int]") -> None:
    while len(list(zoo.path.glob("scores/**/*.parquet"))) < count:
        assert not stage.done(), "the stage ended before a node could be killed"
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
