"""The number of actors that one driver keeps busy: the transfer stage's own pipeline with actors that only wait.

A unit takes as long as a real one on a GPU: a block of 32 images of 299 pixels through Inception-v3, 52 gradients
(three forward passes each) and 13 conditions to 12 targets, at 11.5 GFLOP a forward pass and 40 TFLOP per second, 60 %
of the float32 rate of an H100: about 3 s. The actors import no torch. Each block has the bytes of such images.
Efficiency is the share of the time between its first and its last unit that an actor was at work, over all actors. In
the rest of the time the actor waited for the driver.

Then 64 actors get units too short to keep them all at work. The rate over the middle half of the units is the most that
one driver can hand out, and so gives the number of GPUs it could serve. Driver, readers and actors share the cores of
this machine.
"""

import time
from collections import defaultdict
from typing import Any

import numpy as np
from common import write_result

from raygrid.study.cluster import Resources, connected
from raygrid.study.transfer import run_pipeline

BLOCK, SIDE, GRADIENTS, CASES, TARGETS = 32, 299, 52, 13, 12
FORWARD_FLOP, FLOP_PER_S = 11.5e9, 40e12
UNIT_S = BLOCK * (3 * GRADIENTS + CASES * TARGETS) * FORWARD_FLOP / FLOP_PER_S
BLOCK_BYTES = BLOCK * SIDE * SIDE * 3
UNITS_PER_ACTOR = 12
ACTORS = (1, 4, 16, 64)
READERS = 8
SHORTER = (16,)
UNITS_AT_LIMIT = 1024
STORE_BYTES = 8 * 1024**3  # one machine stands for eight and more nodes, each of which has a store of its own


class Waiter:
    """An actor that takes the time of a unit."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._seconds = job["seconds"]
        self._who = f"{time.time_ns()}-{id(self)}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return who waited, and until when."""
        time.sleep(self._seconds)
        return {"unit": batch["unit"], "who": np.array([self._who]), "ended": np.array([time.time()])}


def read(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a block of the size of real images."""
    return {**row, "block": bytes(BLOCK_BYTES)}


def main() -> None:
    """Measure both ladders and write the result."""
    result: dict[str, Any] = {"seconds of a unit": round(UNIT_S, 3), "block, MB": round(BLOCK_BYTES / 1e6, 2)}
    import ray

    ray.init(
        address="local",
        num_cpus=max(ACTORS) + READERS,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    with connected(None):
        result["actors"] = {str(n): _measure(n, UNIT_S) for n in ACTORS}
        result[f"{max(ACTORS)} actors, seconds of a unit"] = {
            str(round(UNIT_S / times, 3)): _measure_limit(UNIT_S / times) for times in SHORTER
        }
    ray.shutdown()
    write_result("scaling", __doc__ or "", result)


def _measure(actors: int, seconds: float) -> dict[str, float]:
    rows = _run(actors, seconds, actors * UNITS_PER_ACTOR)
    ended: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        ended[row["who"]].append(row["ended"])
    first = [min(times) for times in ended.values()]
    at_work = sum((len(times) - 1) * seconds for times in ended.values())
    there = sum(max(times) - min(times) for times in ended.values())
    measured = {
        "units": len(rows),
        "actors at work": len(ended),
        "seconds until all were": round(max(first) - min(first), 1),
        "efficiency": round(float(at_work / there), 4),
    }
    print(actors, measured, flush=True)
    return measured


def _measure_limit(seconds: float) -> dict[str, float]:
    ended = np.sort([row["ended"] for row in _run(max(ACTORS), seconds, UNITS_AT_LIMIT)])
    begin, end = len(ended) // 4, 3 * len(ended) // 4
    rate = (end - begin) / (ended[end] - ended[begin])
    measured = {
        "units": len(ended),
        "units per second": round(float(rate), 2),
        "units per second if all were at work": round(max(ACTORS) / seconds, 2),
        "GPUs it could keep at work": round(float(rate * UNIT_S), 1),
    }
    print(round(seconds, 3), measured, flush=True)
    return measured


def _run(actors: int, seconds: float, count: int) -> list[dict[str, Any]]:
    cpus = max(ACTORS) + READERS
    share = 0.99 * cpus / actors  # so that the pool cannot grow
    resources = Resources("cpu", cpus, cpus, 0, actor_cpus=share, actor_gpus=0.0, num_actors=actors)
    return list(run_pipeline([{"unit": k} for k in range(count)], read, Waiter, {"seconds": seconds}, resources))


if __name__ == "__main__":
    main()
