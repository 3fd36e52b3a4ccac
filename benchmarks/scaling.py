"""How many actors one driver keeps busy: the transfer stage's own pipeline with actors that only wait.

A unit takes as long as a real one on a GPU: a block of 32 images of 299 pixels through Inception-v3, 52 gradients
(three forward passes each) and 13 conditions to 12 targets, at 11.5 GFLOP a forward pass and 40 TFLOP per second, 60 %
of what an H100 gives in float32: about 3 s. The actors import no torch. Each block has the bytes of such images. Each
actor gets eight units; efficiency is the rate from when all actors are at work until the first of them finds nothing
left to do, against actors / seconds of a unit.

Then 64 actors with ever shorter units: where the driver no longer keeps up, which tells how many GPUs it could serve.
"""

import time
from typing import Any

import numpy as np
from common import write_result

from raygrid.cluster import Resources, connected
from raygrid.transfer import run_pipeline

BLOCK, SIDE, GRADIENTS, CASES, TARGETS = 32, 299, 52, 13, 12
FORWARD_FLOP, FLOP_PER_S = 11.5e9, 40e12
UNIT_S = BLOCK * (3 * GRADIENTS + CASES * TARGETS) * FORWARD_FLOP / FLOP_PER_S
BLOCK_BYTES = BLOCK * SIDE * SIDE * 3
UNITS_PER_ACTOR = 8
ACTORS = (1, 2, 4, 8, 16, 32, 64)
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
        num_cpus=max(ACTORS) + 1,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    with connected(None):
        result["actors"] = {str(n): _measure(n, UNIT_S) for n in ACTORS}
        result["64 actors, seconds of a unit"] = {
            str(round(UNIT_S / d, 3)): _measure(64, UNIT_S / d) for d in (2, 4, 8, 16)
        }
    ray.shutdown()
    write_result("scaling", __doc__ or "", result)


def _measure(actors: int, seconds: float) -> dict[str, float]:
    share = max(ACTORS) / actors  # so that the pool cannot grow
    resources = Resources("cpu", actors + 1, actors + 1, 0, actor_cpus=share, actor_gpus=0.0, num_actors=actors)
    count = round(actors * UNITS_PER_ACTOR * max(1, UNIT_S / seconds / 2))
    rows = list(run_pipeline([{"unit": k} for k in range(count)], read, Waiter, {"seconds": seconds}, resources))
    first: dict[str, float] = {}
    for row in rows:
        first[row["who"]] = min(first.get(row["who"], np.inf), row["ended"])
    ended = np.sort([row["ended"] for row in rows])
    # from when all were at work until when the first found nothing left to do: one unit before the end
    begin, end = max(first.values()), ended[-1] - seconds
    done = int(((ended > begin) & (ended <= end)).sum())
    measured = {
        "units": count,
        "actors at work": len(first),
        "seconds until all were": round(max(first.values()) - min(first.values()), 1),
        "units measured": done,
        "efficiency": round(done / (end - begin) * seconds / actors, 4),
    }
    print(actors, round(seconds, 3), measured, flush=True)
    return measured


if __name__ == "__main__":
    main()
