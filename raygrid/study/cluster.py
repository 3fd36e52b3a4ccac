"""The Ray cluster of a run: started or joined when there is work, and its resources."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from raygrid.errors import ClusterError, in_one_line
from raygrid.interrupts import preserve_handlers
from raygrid.progress import tell
from raygrid.study.autoscaler_log import last_error, logs_here
from raygrid.study.ray_threads import end_pipelines

_OBJECT_STORE_BYTES = 512 * 1024 * 1024
_ACTOR_CPUS = 0.95
_LOOPBACK = "127.0.0.1"  # of the cluster that raygrid starts; no node can join it
JOIN_TIMEOUT_S = 30
_JOIN_PAUSE_S = 1  # between attempts: a head that starts sends no signal
_CLIENT_PORT = 10001  # of ray:// addresses without a port
_ANY_GPU = 0.01  # a share that fits beside all tasks but those that take a whole GPU
_GPU_TIMEOUT_S = 900  # a spot instance takes minutes to come
# Without these the C library returns the memory of large tensors to the system and maps it again, page by page: a
# quarter of the time of a gradient of EfficientNet-Lite0 at 96 pixels
_WORKER_ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(32 * 1024**3)}
NO_PROGRESS_TIMEOUT_S = 3600  # one unit of large networks on a CPU takes half an hour


@dataclass(frozen=True)
class Resources:
    """The resources of a cluster, and the share of each transfer actor.

    They change the speed, never a result, so they are in no signature.

    Attributes:
        device: of trials and actors, `cpu` or `cuda`.
        cpus: of all nodes.
        node_cpus: CPUs of the largest node with the device, the most that one trial can use.
        gpu_bytes: memory of the smallest GPU; 0 where the device is `cpu`.
        may_grow: whether nodes may join. An autoscaler adds nodes only for work that waits.
    """

    device: str
    cpus: float
    node_cpus: float
    gpu_bytes: int
    actor_cpus: float
    actor_gpus: float
    num_actors: int
    may_grow: bool = False


@contextmanager
def connected(address: str | None, num_cpus: int | None = None) -> Iterator[Any]:
    """Yield `ray` connected to a cluster, and disconnect at the end. An existing connection is reused.

    Args:
        address: an existing cluster (`auto`, `ray://host:10001`, ...); None starts one on this machine.
        num_cpus: CPUs of a cluster on this machine; None takes all.

    Raises ClusterError if the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    # Tune's handler ends the trials at Ctrl-C, not the study, and stays installed after them
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray would start a cluster, without raygrid's precautions, for any call after the run
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    with preserve_handlers():
        start_or_join(ray, address, num_cpus)
    try:
        yield ray
    finally:
        try:
            end_pipelines()
        finally:
            ray.shutdown()


def ray_data() -> Any:
    """Return the module `ray.data`, configured for raygrid; its import takes seconds."""
    import ray.data

    # The import sets its own level. Errors are raised as well; their log pages would hide the one line that helps.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0  # any other value drops whole blocks with only a log line
    context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
    return ray.data


def read_resources(ray: Any, device: str = "auto") -> Resources:
    """Return the resources of the connected cluster.

    Args:
        device: `cpu`, `cuda`, or `auto`: GPUs if there are any. With `cuda` this waits for the first GPU of a cluster
            that grows on demand.

    Raises ClusterError if the cluster has no CPU, or no GPU joins within 15 minutes.
    """
    total = ray.cluster_resources()
    if device == "auto":
        device = "cuda" if total.get("GPU", 0.0) >= 1 else "cpu"
    gpu_bytes = _smallest_gpu(ray) if device == "cuda" else 0
    total = ray.cluster_resources()
    able = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if device == "cuda":
        able = [there for there in able if there.get("GPU", 0.0) >= 1]
    nodes = [there.get("CPU", 0.0) for there in able]
    shared = share_resources(total, device=device, node_cpus=max(nodes, default=0.0), gpu_bytes=gpu_bytes)
    return replace(shared, may_grow=any(node["NodeManagerAddress"] != _LOOPBACK for node in ray.nodes()))


def share_resources(total: dict[str, float], *, device: str, node_cpus: float, gpu_bytes: int) -> Resources:
    """Return the resources of a cluster (`ray.cluster_resources()`) with the share of each transfer actor.

    On CPUs an actor takes a little less than one. Actors that take all CPUs leave none for the reading stage, and the
    pipeline hangs (ray-project/ray issue 44687).
    """
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    if cpus < 1:
        raise ClusterError(
            f"expected a cluster with at least 1 CPU, got {cpus:g}; start a node that has CPUs, such as a worker with "
            "min_workers: 1"
        )
    if device == "cuda":
        actors, actor_cpus, actor_gpus = max(1, int(gpus)), 0.5, 1.0
    else:
        actors, actor_cpus, actor_gpus = int(cpus), _ACTOR_CPUS, 0.0
    return Resources(device, cpus, node_cpus, gpu_bytes, actor_cpus, actor_gpus, actors)


def _smallest_gpu(ray: Any) -> int:
    """Return the memory of the smallest GPU of the cluster, in bytes."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def memory() -> int:
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)

    measure = ray.remote(num_cpus=0, num_gpus=_ANY_GPU)(memory)
    try:
        sizes = [ray.get(measure.remote(), timeout=_GPU_TIMEOUT_S)]
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
        there = [NodeAffinitySchedulingStrategy(node, soft=True) for node in nodes]
        sizes += ray.get([measure.options(scheduling_strategy=s).remote() for s in there], timeout=_GPU_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(_no_gpu(ray)) from error
    except ray.exceptions.RayTaskError as error:
        raise ClusterError(
            f"PyTorch cannot use a GPU of the cluster: {in_one_line(error.cause)}; install a PyTorch that fits its "
            "driver, or use --device cpu"
        ) from error
    return int(min(sizes))


def _no_gpu(ray: Any) -> str:
    there = ray.cluster_resources().get("GPU", 0.0)
    if there >= 1:
        return (
            f"expected a free GPU within {_GPU_TIMEOUT_S / 60:.0f} minutes, got none: other work uses all {there:g} "
            "of the cluster; wait until it ends, which `ray status` on the head node shows, or use --device cpu"
        )
    logs = logs_here(ray)
    found = last_error(logs) if logs else ""
    quoted = f"; the last error in the autoscaler's log is: {found}" if found else ""
    return (
        f"expected a GPU in the cluster within {_GPU_TIMEOUT_S / 60:.0f} minutes, got none{quoted}; run `ray status` "
        "on the head node to list the nodes, and ray exec cluster.yaml "
        "'tail -n 100 /tmp/ray/session_latest/logs/monitor*' to see the errors of their set-up; or use --device cpu"
    )


def start_or_join(ray: Any, address: str | None, num_cpus: int | None) -> None:
    """Start `ray` on this machine, or join the cluster at an address. Raises ClusterError if that fails."""
    address = None if address == "local" else address
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    options["runtime_env"] = {"env_vars": _WORKER_ENVIRONMENT}
    try:
        if address is None:
            _start_here(ray, options | {"num_cpus": num_cpus or os.cpu_count()})
        else:
            _wait_for(address)
            ray.init(**options, address=address)
    except ClusterError:
        raise
    except Exception as error:  # Ray raises a bare Exception where its own start takes too long
        where = "on this machine" if address is None else f"at {address}"
        hint = _token_hint(error) or (_slow_start_hint(error) if address is None else "")
        reason = " ".join(str(error).split())
        raise ClusterError(f"no Ray cluster {where}: {reason}{hint}") from error


def _start_here(ray: Any, options: dict[str, Any]) -> None:
    # not None: without an address Ray joins any cluster that it finds on the machine
    options |= {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    with _on_loopback(), private_token():
        try:
            ray.init(**options)
        except Exception as error:  # a busy machine can outlast Ray's fixed 30 s for its own start
            tell(f"cluster: Ray did not start ({_first_line(error)}); retrying once")
            ray.init(**options)


def _wait_for(address: str) -> None:
    """Wait until a server answers at the address of a cluster. Ray itself would try for minutes without a message.

    Raises ClusterError if none answers within 30 s, ConnectionError if `auto` finds no cluster.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
    place = urlsplit(found if "://" in found else f"gcs://{canonicalize_bootstrap_address(found)}")
    typed = place.netloc if place.netloc in address else f"{address} ({place.netloc})"
    error, deadline = _refusal(place), time.monotonic() + JOIN_TIMEOUT_S
    if error is not None:
        tell(f"cluster: waiting for {typed}")
    while error is not None:
        if time.monotonic() > deadline:
            own = "; auto may have found the private cluster of another run, which cannot be joined"
            raise ClusterError(
                f"no Ray cluster at {typed}: no answer ({error}); check that its head node runs, and that the network "
                f"lets this machine connect{own if address == 'auto' else ''}"
            ) from error
        time.sleep(_JOIN_PAUSE_S)
        error = _refusal(place)


def _refusal(place: SplitResult) -> OSError | None:
    """Return the error of a connection to a host and port, None if it succeeds."""
    try:
        socket.create_connection((place.hostname or "", place.port or _CLIENT_PORT), timeout=5).close()
    except OSError as error:
        return error
    return None


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Restrict a Ray that starts in the block to the loopback interface: anyone who reaches its ports can run code.

    Even with the address 127.0.0.1 Ray replaces it by the machine's outward address and listens on all interfaces,
    unless clusters are switched off, as they are on macOS. The switch is also an environment variable
    (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER), but Ray reads that at import, and child processes would inherit it.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def private_token() -> Iterator[None]:
    """Make a token that Ray creates in the block readable only by this user; Ray leaves that to the umask."""
    token = Path.home() / ".ray" / "auth_token"
    is_new = not token.exists()
    try:
        yield
    finally:
        if is_new and token.exists():
            token.chmod(0o600)


def _slow_start_hint(error: BaseException) -> str:
    """Return the remedy for a start that outlasted Ray's fixed time limit, "" for any other failure."""
    if "timed out" not in str(error):
        return ""
    return (
        "; Ray allows its processes 30 s to start, and the second attempt failed too: wait until this machine is less "
        "busy, or give raygrid fewer CPUs with --num-cpus, and run the same command again"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _token_hint(error: BaseException) -> str:
    """Return the remedy if the cluster requires a token, else "". With an address Ray sends no token by default."""
    causes = [error, error.__cause__, error.__context__]
    if not any(type(cause).__name__ == "AuthenticationError" for cause in causes):
        return ""
    return "; the cluster requires a token: set RAY_AUTH_MODE=token, and copy its ~/.ray/auth_token to this machine"
