"""Half a billion scores to 50 AUCs with intervals: time, and peak memory (Linux).

There are 10 million images of a million patients, one finding, and 50 score sets in float32 (2 GB). The scores lie in a
file and are mapped, not read. This is the work of `raygrid.analysis.frames` for one surrogate, at a size far above any
study's. One process, one thread. Memory is the process's own, sampled ten times a second; the system can take back
pages of the mapped file.
"""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import write_result

from raygrid.analysis.auc import auc_with_influence, interval

IMAGES, PATIENTS, SETS = 10_000_000, 1_000_000, 50


def main() -> None:
    """Write the scores, reduce them, and write the result."""
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(PATIENTS), IMAGES // PATIENTS)
    labels = (generator.random(IMAGES) < 0.1).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scores.npy"
        scores = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(SETS, IMAGES, 1))
        for number in range(SETS):
            scores[number, :, 0] = generator.normal(size=IMAGES) + labels * (number / SETS)
        scores.flush()
        del scores
        mapped, watch = np.load(path, mmap_mode="r"), _MemoryWatch()
        begun = time.perf_counter()
        result = auc_with_influence(labels[:, None], mapped, clusters)
        counts = int(labels.sum()), int(IMAGES - labels.sum())
        bounds = [interval(a, i, degenerate_n=counts) for a, i in zip(result.auc, result.influence, strict=True)]
        seconds = time.perf_counter() - begun
        peak = watch.stop()
    assert all(low < auc < high for auc, (low, high) in zip(result.auc, bounds, strict=True))
    measured = {
        "scores": IMAGES * SETS,
        "seconds": round(seconds, 1),
        "million scores per second": round(IMAGES * SETS / seconds / 1e6, 2),
        "labels and patients, held all along, GB": round((labels.nbytes + clusters.nbytes) / 1e9, 2),
        "peak of the process's own memory, GB": peak,
        "of it influences, GB": round(result.influence.nbytes / 1e9, 2),
    }
    print(measured)
    write_result("reduction", __doc__ or "", measured)


class _MemoryWatch:
    """Samples the memory of this process that is not of a file, until it is stopped."""

    def __init__(self) -> None:
        self._peak, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> float:
        """Return the peak, GB."""
        self._ended.set()
        self._thread.join()
        return round(self._peak * 1024 / 1e9, 2)

    def _sample(self) -> None:
        while not self._ended.wait(0.1):
            lines = Path("/proc/self/status").read_text().splitlines()
            (own,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
            self._peak = max(self._peak, own)


if __name__ == "__main__":
    main()
