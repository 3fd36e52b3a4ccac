"""The transfer stage against the bare engine: the same units, models and images, with Ray Data and without.

Four small networks (test_resnet and test_efficientnet on d1 and d2) at 64 pixels, the paper's six attacks, blocks of 64
images of noise, one thread per worker; with one worker, and with two on two cores. Rates are units per second from the
first finished unit to the last, without loading, which is stated beside them.

bare:      processes that read each block, attack it, score it and forget it; no Ray;
pipeline:  the transfer stage: Ray, a reading stage, an actor per worker, score and perceptibility files, hashes,
           checks.

The order for each number of workers is bare, pipeline, bare, pipeline, bare. The pipeline runs for at least three
minutes. The ratio compares it with the faster of the bare runs before and after it, because other work on the machine
only slows them. The use of the CPUs stands beside the rates: two workers on two cores share them with Ray's own
processes and the driver; one worker leaves them a core.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import write_result
from noise_study import MODALITY, make_noise_study

from raygrid.models.zoo import load_frozen
from raygrid.store.folder import StudyFolder, open_study
from raygrid.store.units import Unit, score_files
from raygrid.study.cluster import _WORKER_ENVIRONMENT, connected, read_resources
from raygrid.study.transfer import transfer_missing

ARCHITECTURES, SIDE, BLOCK = ("test_resnet", "test_efficientnet"), 64, 64
SECONDS = 190  # of the pipeline, by the rate that the bare engine had
BARE_S = 60
ROUNDS = 2


def main() -> None:
    """Measure with one and two workers, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(json.dumps(_run_bare(arguments.bare)))
        return
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        small = make_noise_study(
            Path(name) / "small", archs=ARCHITECTURES, side=SIDE, num_test=40 * BLOCK, block_size=BLOCK
        )
        for workers in (1, 2):
            bare = [_bare(small.path, workers)]
            num_blocks = int(SECONDS * bare[0] / (len(small.study.models) + 0.02)) + 1  # clean units take no time
            pipeline = []
            for number in range(ROUNDS):
                folder = Path(name) / f"{workers} workers, {number}"
                zoo = make_noise_study(
                    folder, archs=ARCHITECTURES, side=SIDE, num_test=num_blocks * BLOCK, block_size=BLOCK
                )
                pipeline.append(_pipeline(zoo, workers))
                shutil.rmtree(folder)
                bare.append(_bare(small.path, workers))
            ratios = [
                run["attacked units per second"] / max(beside)
                for run, beside in zip(pipeline, pairwise(bare), strict=True)
            ]
            result[f"{workers} workers"] = {
                "bare, attacked units per second": [round(rate, 4) for rate in bare],
                "pipeline": pipeline,
                "ratio to bare": [round(ratio, 4) for ratio in ratios],
            }
            print(json.dumps(result[f"{workers} workers"]), flush=True)
    write_result("pipeline", __doc__ or "", result)


def _pipeline(zoo: StudyFolder, workers: int) -> dict[str, Any]:
    """Run the transfer stage; return its rate, how long it took to finish a first unit, and who had the CPUs."""
    watch = _CpuWatch()
    with connected(None, num_cpus=workers) as ray:
        begun = time.time()
        transfer_missing(zoo, zoo.study.modalities[0], read_resources(ray, "cpu"))
    watch.stop()
    done = sorted(
        file.path.stat().st_mtime
        for unit, files in zip(_units(zoo), score_files(_units(zoo)), strict=True)
        for file in files
        if unit.surrogate is not None
    )
    return {
        "attacked units": len(done),
        "seconds": round(done[-1] - done[0], 1),
        "seconds to the first": round(done[0] - begun, 1),
        "attacked units per second": round((len(done) - 1) / (done[-1] - done[0]), 4),
        **watch.used(done[0], done[-1]),
    }


class _CpuWatch:
    """Samples what CPU time the actors have had, and all processes of the machine (Linux), until it is stopped."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self._thread.join()

    def used(self, begun: float, ended: float) -> dict[str, float]:
        """Return how many CPUs the actors had between two times, and how many everything else."""
        inside = [sample for sample in self._samples if begun <= sample[0] <= ended]
        seconds, every, actors = (b - a for a, b in zip(inside[0], inside[-1], strict=True))
        return {
            "CPUs of the actors": round(actors / seconds, 3),
            "CPUs of all else": round((every - actors) / seconds, 3),
        }

    def _sample(self) -> None:
        tick = os.sysconf("SC_CLK_TCK")
        while not self._ended.wait(5):
            user, nice, system = (int(word) for word in Path("/proc/stat").read_text().split()[1:4])
            actors = 0
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if b"MapWorker" in (process / "cmdline").read_bytes():
                        actors += sum(
                            int(word) for word in (process / "stat").read_text().rpartition(")")[2].split()[11:13]
                        )
                except OSError:
                    continue  # it has ended meanwhile
            self._samples.append((time.time(), (user + nice + system) / tick, actors / tick))


def _bare(folder: Path, workers: int) -> float:
    """Return the units per second of processes that run beside each other."""
    command = [sys.executable, __file__, "--bare", str(folder)]
    environment = {**os.environ, **_WORKER_ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(workers)]
    return sum(float(json.loads(process.communicate()[0])) for process in processes)


def _run_bare(folder: Path) -> float:
    """Return the units per second of this process: a first unit is not counted."""
    from raygrid.models.numerics import set_numerics
    from raygrid.scoring.engine import score_attacked

    zoo = open_study(folder)
    set_numerics(threads=zoo.study.transfer.threads)
    models = {model.name: load_frozen(zoo, model) for model in zoo.study.models}
    samples = zoo.samples(MODALITY)
    units = [unit for unit in _units(zoo) if unit.surrogate is not None]
    units.sort(key=lambda unit: unit.block)  # all surrogates alike, however many blocks there is time for
    count, begun = -1, 0.0
    while count < 0 or count % len(models) or time.perf_counter() - begun < BARE_S:
        unit = units[(count + 1) % len(units)]
        assert unit.surrogate is not None  # clean ones were left out
        block = samples.test_block(unit.start, unit.stop)
        surrogate = models[unit.surrogate.name]
        score_attacked(surrogate, list(models.values()), block, zoo.study.transfer, seed=zoo.study.seed, device="cpu")
        count += 1
        begun = begun or time.perf_counter()
    return count / (time.perf_counter() - begun)


def _units(zoo: StudyFolder) -> list[Unit]:
    return zoo.units(MODALITY)


if __name__ == "__main__":
    main()
