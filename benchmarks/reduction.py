"""Half a billion scores to 50 AUCs with intervals: time, and the most memory that was resident.

10 million images of a million patients, one finding, 50 score sets in float32 (2 GB) that lie in a file and are mapped,
not read: what `raygrid.results` does for one surrogate, at a size far above any study's. One process, one thread.
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from common import write_result

from raygrid.metrics import auc_with_influence, interval

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
        mapped, before = np.load(path, mmap_mode="r"), _peak_gb()
        begun = time.perf_counter()
        result = auc_with_influence(labels[:, None], mapped, clusters)
        counts = int(labels.sum()), int(IMAGES - labels.sum())
        bounds = [interval(a, i, degenerate_n=counts) for a, i in zip(result.auc, result.influence, strict=True)]
        seconds = time.perf_counter() - begun
    assert all(low < auc < high for auc, (low, high) in zip(result.auc, bounds, strict=True))
    measured = {
        "scores": IMAGES * SETS,
        "seconds": round(seconds, 1),
        "million scores per second": round(IMAGES * SETS / seconds / 1e6, 2),
        "peak resident before, GB": before,
        "peak resident, GB": _peak_gb(),
        "of it influences, GB": round(result.influence.nbytes / 1e9, 2),
    }
    print(measured)
    write_result("reduction", __doc__ or "", measured)


def _peak_gb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


if __name__ == "__main__":
    main()
