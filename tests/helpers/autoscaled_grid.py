"""Run a small grid on Ray's autoscaler with fake nodes, and compare it with the same grid on this machine.

A program of its own, of some minutes: `python tests/helpers/autoscaled_grid.py FOLDER`; it needs `ray[default]`. The
cluster starts with its head alone; work makes the autoscaler add nodes, one of which is killed. Prints what was seen,
and ends with 1 if no nodes came or the tables differ. It also prints how many are left some minutes after the work: Ray
2.60's first autoscaler never sees a fake node as ready, so it takes none away, and the second one lacks a file of its
wheel.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

GRID = Path(__file__).with_name("chaos_grid.py")
MOST_WORKERS, IDLE_MINUTES, PATIENCE_S, POLL_S = 2, 0.2, 180, 0.5
_NODE_ID = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"  # how Ray names its fake nodes, in the environment of their processes


def main(folder: Path) -> int:
    """Run the grid twice; return the exit status."""
    local = [sys.executable, str(GRID), "--num-cpus", "2", "--output", str(folder / "local")]
    subprocess.run(local, check=True)
    os.environ["RAY_AUTH_MODE"] = "token"  # the local run has made one, and `ray start` takes what it finds
    with _cluster(folder) as address:
        seen = _run_and_watch(address, folder / "scaled")
    same = _auc(folder / "local").equals(_auc(folder / "scaled"))
    print(f"{seen}; the AUC tables are {'equal' if same else 'NOT equal'}")
    return 0 if same and seen["most nodes"] == MOST_WORKERS + 1 and seen["killed"] else 1


def _run_and_watch(address: str, output: Path) -> dict[str, int | str]:
    """Run the grid on the cluster; kill a node once two have come; wait until all have left."""
    import ray  # not before the mode of its authentication is set

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    most, killed = 1, ""
    driver = subprocess.Popen([sys.executable, str(GRID), "--address", address, "--output", str(output)])
    while driver.poll() is None:
        workers = _workers(ray)
        most = max(most, len(workers) + 1)
        scored = list(output.glob("scores/*/*/*/block-*.parquet"))
        if len(workers) == MOST_WORKERS and scored and not killed:
            killed = workers[0]
            _kill_all_with(_NODE_ID, killed)
            print(f"killed node {killed[-5:]} with {len(scored)} score files there")
        time.sleep(POLL_S)
    if driver.returncode:
        raise SystemExit(f"the grid ended with {driver.returncode}")
    deadline = time.monotonic() + PATIENCE_S
    while _workers(ray) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    left = len(_workers(ray)) + 1
    ray.shutdown()
    return {"most nodes": most, "killed": killed[-5:], "nodes at the end": left}


def _workers(ray: object) -> list[str]:
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

    nodes = ray.nodes()  # type: ignore[attr-defined]
    return sorted(n["NodeID"] for n in nodes if n["Alive"] and n["NodeID"] != FAKE_HEAD_NODE_ID)


def _kill_all_with(variable: str, value: str) -> None:
    """Kill the processes that have an environment variable of this value (Linux)."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{variable}={value}".encode() in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:  # ended meanwhile, or somebody else's
            continue


@contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    """Yield the address of a cluster with an autoscaler, whose processes all end with the block."""
    from ray.util import get_node_ip_address

    with socket.socket() as free:
        free.bind(("", 0))
        address = f"{get_node_ip_address()}:{free.getsockname()[1]}"
    config = folder / "autoscaler.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(_config(address)))
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--include-dashboard=false"]
    command += [f"--autoscaling-config={config}", f"--port={address.partition(':')[2]}"]
    command += ["--num-cpus=1", "--object-store-memory=200000000"]
    environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAYGRID_AUTOSCALED": address}
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_for(address, head)
        yield address
    finally:
        _kill_all_with("RAYGRID_AUTOSCALED", address)  # the fake nodes are nobody's children
        head.wait()


def _config(address: str) -> dict[str, object]:
    worker = {"resources": {"CPU": 1, "object_store_memory": 200_000_000}, "node_config": {}}
    return {
        "cluster_name": "fake",
        "max_workers": MOST_WORKERS,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            # nodes on this machine are neither set up nor looked after by SSH
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
            "worker_liveness_check": False,
            "worker_rpc_drain": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "worker": {**worker, "min_workers": 0, "max_workers": MOST_WORKERS},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "docker": {},
        "auth": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
    }


def _wait_for(address: str, head: "subprocess.Popen[bytes]") -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and head.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(POLL_S)
    raise SystemExit("the cluster did not start")


def _auc(study: Path) -> pd.DataFrame:
    return pd.read_parquet(study / "results" / "auc.parquet").drop(columns="influence")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
