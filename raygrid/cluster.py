"""The Ray cluster of a run: started or joined only when there is work, and asked first what it has."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raygrid.errors import ClusterError

_OBJECT_STORE_BYTES = 512 * 1024 * 1024
_TRIALS_PER_GPU = 4
_NO_PROGRESS_TIMEOUT_S = 3600  # one unit of large networks on a CPU takes half an hour


@dataclass(frozen=True)
class Resources:
    """What one trial and one transfer actor ask of Ray, and how many of them run at once.

    Only speed depends on it, never a result, so it is no part of a signature.
    """

    trial_cpus: float
    trial_gpus: float
    max_trials: int
    actor_cpus: float
    actor_gpus: float
    num_actors: int

    @property
    def device(self) -> str:
        """Device of trials and actors."""
        return "cuda" if self.trial_gpus > 0 else "cpu"


@contextmanager
def connected(address: str | None, num_cpus: int | None = None) -> Iterator[Any]:
    """Yield `ray` connected to a cluster, and disconnect at the end; a connection that is there already is used.

    Args:
        address: an existing cluster (`auto`, `ray://host:10001`, ...); None starts one on this machine.
        num_cpus: CPUs of the cluster that is started; None takes all.

    Raises ClusterError if the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    _start(ray, address, num_cpus)
    try:
        yield ray
    finally:
        ray.shutdown()


def ray_data() -> Any:
    """Return the module `ray.data`, set up for raygrid; its import takes seconds, so only work calls this."""
    import ray.data

    # The import sets a level of its own. Errors are raised too: logged, they are pages that hide the one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0  # any other value drops whole blocks with no more than a log line
    context.execution_no_progress_timeout_s = _NO_PROGRESS_TIMEOUT_S
    return ray.data


def plan_resources(total: dict[str, float]) -> Resources:
    """Return how trials and actors share a cluster with these resources (`ray.cluster_resources()`).

    On CPUs the transfer actors together ask for one CPU less than there are: actors on every CPU leave none for the
    reading stage, and the pipeline hangs (ray-project/ray issue 44687).
    """
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    if cpus < 1:
        raise ClusterError(f"the cluster offers {cpus} CPUs; at least 1 is needed")
    if gpus >= 1:
        count = int(gpus) * _TRIALS_PER_GPU
        return Resources(1, 1 / _TRIALS_PER_GPU, min(count, int(cpus)), 0.5, 1, int(gpus))
    actors = int(cpus)
    return Resources(1, 0, int(cpus), (max(cpus - 1, 0.5)) / actors, 0, actors)


def _start(ray: Any, address: str | None, num_cpus: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is None:
        # "local" and not nothing: without an address Ray joins any cluster that it finds on the machine
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        options |= {"num_cpus": num_cpus or os.cpu_count()}
    else:
        options["address"] = address
    try:
        try:
            ray.init(**options)
        except RuntimeError:
            if address is not None:
                raise
            ray.init(**options)  # a busy machine can outlast Ray's fixed 30 s for its own start
    except (RuntimeError, ConnectionError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise ClusterError(f"no Ray cluster {where}: {error}") from error
