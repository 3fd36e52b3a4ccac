"""The transfer stage as it runs against the bare engine: the same units, models and images, with Ray Data and without.

Four small networks (test_resnet and test_efficientnet on d1 and d2) at 64 pixels, the paper's six attacks, blocks of 64
images of noise, one thread per worker; with one worker and with two on two cores. Rates are units per second from the
first finished unit to the last, so loading is left out; it is stated beside them.

bare      processes that read each block, attack it, score it and forget it; no Ray
pipeline  the transfer stage: Ray, a reading stage, an actor per worker, score and perceptibility files, hashes, checks

For each number of workers: bare, pipeline, bare again; the pipeline runs for at least three minutes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import write_result
from noise_study import MODALITY, make_noise_study

from raygrid.cluster import _WORKER_ENVIRONMENT, connected, read_resources
from raygrid.samples import Samples, samples_dir
from raygrid.study import open_study
from raygrid.transfer import transfer_missing
from raygrid.units import Unit, plan_units, score_files
from raygrid.zoo import Zoo

ARCHITECTURES, SIDE, BLOCK = ("test_resnet", "test_efficientnet"), 64, 64
SECONDS = 190  # of the pipeline, by the rate that the bare engine had
BARE_S = 60


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
            before = _bare(small.study_dir, workers)
            num_blocks = int(SECONDS * before / (len(small.study.models) + 0.02)) + 1  # clean units take no time
            folder = Path(name) / f"with {workers}"
            zoo = make_noise_study(
                folder, archs=ARCHITECTURES, side=SIDE, num_test=num_blocks * BLOCK, block_size=BLOCK
            )
            pipeline = _pipeline(zoo, workers)
            shutil.rmtree(folder)
            after = _bare(small.study_dir, workers)
            bare = statistics.mean((before, after))
            result[f"{workers} workers"] = {
                "bare, attacked units per second": [round(before, 4), round(after, 4)],
                **pipeline,
                "ratio to bare": round(pipeline["attacked units per second"] / bare, 4),
            }
            print(json.dumps(result[f"{workers} workers"]), flush=True)
    write_result("pipeline", __doc__ or "", result)


def _pipeline(zoo: Zoo, workers: int) -> dict[str, Any]:
    """Run the transfer stage; return its rate and how long it took to finish a first unit."""
    with connected(None, num_cpus=workers) as ray:
        begun = time.time()
        transfer_missing(zoo, zoo.study.modalities[0], read_resources(ray, "cpu"))
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
    }


def _bare(folder: Path, workers: int) -> float:
    """Return the units per second of processes that run beside each other."""
    command = [sys.executable, __file__, "--bare", str(folder)]
    environment = {**os.environ, **_WORKER_ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(workers)]
    return sum(float(json.loads(process.communicate()[0])) for process in processes)


def _run_bare(folder: Path) -> float:
    """Return the units per second of this process: a first unit is not counted."""
    from raygrid.engine import score_attacked
    from raygrid.numerics import set_numerics

    zoo = open_study(folder)
    set_numerics(threads=zoo.study.transfer.threads)
    models = {model.name: zoo.load_frozen(model) for model in zoo.study.models}
    samples = Samples(samples_dir(folder, MODALITY, zoo.samples[MODALITY]))
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


def _units(zoo: Zoo) -> list[Unit]:
    return plan_units(zoo, MODALITY, Samples(samples_dir(zoo.study_dir, MODALITY, zoo.samples[MODALITY])).num_test)


if __name__ == "__main__":
    main()
