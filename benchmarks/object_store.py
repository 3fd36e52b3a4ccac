"""Use of Ray's object store by the transfer stage: at the peak, and in all, for 2,000 to 40,000 test images.

The images are noise at 96 pixels in blocks of 64. There are one surrogate and two actors that take 0.5 s for a block
and compute nothing. Readers could run far ahead of the actors, and Ray stops them at a share of the store. The
benchmark samples the store ten times a second. Adversarial images never enter it. Each block enters it once on its way
from a reader to an actor, together with some bytes of bookkeeping per unit.
"""

import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result
from noise_study import MODALITY, make_noise_study

from raygrid.study.cluster import connected, read_resources
from raygrid.study.transfer import read_unit, run_pipeline

SIDE, BLOCK, UNIT_S, PERIOD_S = 96, 64, 0.5, 0.1


class Sleeper:
    """An actor that takes its time and says how many bytes it was given."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._seconds = job["seconds"]

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the unit and the size of its block."""
        time.sleep(self._seconds)
        return {"unit": batch["unit"], "bytes": np.array([len(block) for block in batch["block"]])}


def main() -> None:
    """Measure both sizes in one cluster and write the result."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, connected(None, num_cpus=2) as ray:
        result["store, MB"] = round(ray.cluster_resources()["object_store_memory"] / 1e6, 1)
        for num_images in (2_000, 20_000, 40_000):
            zoo = make_noise_study(
                Path(name) / str(num_images), archs=("test_resnet",), side=SIDE, num_test=num_images, block_size=BLOCK
            )
            folder = zoo.samples_dir(MODALITY)
            wanted = [
                {"unit": number, "start": start, "stop": min(start + BLOCK, num_images), "tile": ""}
                for number, start in enumerate(range(0, num_images, BLOCK))
            ]
            watch = _Watch(ray)
            read = partial(read_unit, samples_folder=str(folder))
            rows = list(run_pipeline(wanted, read, Sleeper, {"seconds": UNIT_S}, read_resources(ray, "cpu")))
            result[f"{num_images} images"] = {
                "units": len(rows),
                "image bytes handed to actors, MB": round(sum(int(row["bytes"]) for row in rows) / 1e6, 1),
                "largest block, MB": round(max(int(row["bytes"]) for row in rows) / 1e6, 2),
                **watch.stop(),
            }
            print(num_images, result[f"{num_images} images"], flush=True)
    write_result("object_store", __doc__ or "", result)


class _Watch:
    """Samples the object stores of the cluster until it is stopped."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._peak, self._samples, self._ended = ray, 0.0, 0, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """Return the peak, MB, and how often it was looked."""
        self._ended.set()
        self._thread.join()
        return {"peak in the store, MB": round(self._peak / 1e6, 1), "samples": self._samples}

    def _sample(self) -> None:
        name = "object_store_memory"
        while not self._ended.wait(PERIOD_S):
            used = self._ray.cluster_resources()[name] - self._ray.available_resources().get(name, 0.0)
            self._peak, self._samples = max(self._peak, used), self._samples + 1


if __name__ == "__main__":
    main()
