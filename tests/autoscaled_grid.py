"""The small grid on Ray's fake autoscaling cluster: a program of its own, since such a cluster is machine-wide.

    python tests/autoscaled_grid.py FOLDER

The head has no CPU, so every node that works was asked for by the autoscaler. One is killed in the transfer stage. In
the end the nodes have left again, and the AUC table equals that of the same study on one machine. Needs ray[default].
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

EXPERIMENT = Path(__file__).with_name("tiny_grid.py")
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # what the fake provider calls its head
PORT, MOST_NODES, IDLE_MINUTES = 6379, 2, 0.3
PATIENCE_S = 300
CONFIG = {
    "cluster_name": "fake",
    "max_workers": MOST_NODES,
    "idle_timeout_minutes": IDLE_MINUTES,
    "upscaling_speed": 1.0,
    "provider": {"type": "fake_multinode", "launch_multiple": True, "head_node_id": HEAD_ID},
    "available_node_types": {
        "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": 100 * 1024**2},
            "node_config": {},
            "min_workers": 0,
            "max_workers": MOST_NODES,
        },
    },
    "head_node_type": "ray.head.default",
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}
FAKE = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
}


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "fake.yaml"
    config.write_text(json.dumps(CONFIG))
    start = ["ray", "start", "--head", f"--port={PORT}", "--num-cpus=0", f"--autoscaling-config={config}"]
    subprocess.run([*start, "--include-dashboard=false"], check=True, env=os.environ | FAKE)
    try:
        seen = study_on_cluster(folder / "autoscaled")
    finally:
        subprocess.run(["ray", "stop", "--force"], check=True)
    subprocess.run(
        [sys.executable, EXPERIMENT, "--output", folder / "local", "--num-cpus", "2"], check=True, stdout=sys.stderr
    )
    pd.testing.assert_frame_equal(auc_of(folder / "autoscaled"), auc_of(folder / "local"), check_exact=True)
    print(f"nodes seen: {seen}; the AUC table is that of one machine")


def study_on_cluster(output: Path) -> list[int]:
    """Run the study, kill a node in its transfer stage, wait until all have left; return the numbers of nodes seen."""
    command = [sys.executable, EXPERIMENT, "--output", output, "--address", f"127.0.0.1:{PORT}"]
    seen, killed = [0], False
    with (output.parent / "study.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as study:
        while study.poll() is None:
            seen += [n for n in [len(workers())] if n != seen[-1]]
            if not killed and len(list(output.glob("scores/*/*/*/block-*.parquet"))) >= 2:
                os.kill(workers()[0], signal.SIGKILL)
                killed = True
                print("a node was killed", flush=True)
            time.sleep(0.5)
    assert study.returncode == 0, (output.parent / "study.log").read_text()
    assert killed, "the study ended before a node could be killed"
    wait_until(lambda: not workers(), "the nodes did not leave")
    return [*seen, 0]


def workers() -> list[int]:
    """The raylets of the nodes that the autoscaler brought, by process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "raylet/raylet " in command and "--head" not in command and HEAD_ID not in command:
            found.append(int(process.name))
    return found


def wait_until(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.5)


def auc_of(output: Path) -> pd.DataFrame:
    keys = ["modality", "condition", "surrogate", "target", "attack", "epsilon"]
    auc = pd.read_parquet(output / "results" / "auc.parquet").sort_values(keys, ignore_index=True)
    return auc.drop(columns="influence")


if __name__ == "__main__":
    main()
