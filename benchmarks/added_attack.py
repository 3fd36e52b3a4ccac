"""The cost of an attack added to a finished study: raygrid computes only its units.

A copy of a finished study (`make demo` leaves one) gets MI-FGSM at the largest ε of the study. The transfer stage runs,
then runs once more with nothing to do. The benchmark counts score files, gradients and seconds before and after. The
existing score files must stay the same.

    python benchmarks/added_attack.py studies/demo
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import write_result

from raygrid.spec import StudySpec, attack
from raygrid.store.folder import StudyFolder, open_study
from raygrid.store.scores import read_metadata
from raygrid.store.units import score_files
from raygrid.study.run import RunOptions, run_study


def main() -> None:
    """Add the attack to a copy, run, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    folder = parser.parse_args().study
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / folder.name
        shutil.copytree(folder, copy)
        zoo = open_study(copy)
        added = attack("mi_fgsm", max(a.epsilon for a in zoo.study.transfer.attacks))
        attacks = (*zoo.study.transfer.attacks, added)
        study = replace(zoo.study, transfer=replace(zoo.study.transfer, attacks=attacks))
        before = _files(zoo)
        seconds = [_run(study, copy) for _ in range(2)]
        after = _files(open_study(copy))
        new = [path for path in after if path not in before]
        assert all(after[path] == state for path, state in before.items()), "scores that were there were written again"
        result = {
            "study": study.name,
            "attack": added.key,
            "finished study": {"score files": len(before), **_sums(list(before))},
            "added": {"score files": len(new), **_sums(new), "whole command, s": seconds[0]},
            "nothing to do, s": seconds[1],
        }
    for what, value in result.items():
        print(f"{what}: {value}")
    write_result("added_attack", __doc__ or "", result)


def _run(study: StudySpec, folder: Path) -> float:
    begun = time.perf_counter()
    run_study(study, RunOptions(study_dir=folder, data_root=folder, only="transfer"))
    return round(time.perf_counter() - begun, 1)


def _files(zoo: StudyFolder) -> dict[Path, tuple[int, int]]:
    """Return every score file with what tells whether it was written again."""
    found: dict[Path, tuple[int, int]] = {}
    for modality in zoo.study.studied:
        for files in score_files(zoo.units(modality.name)):
            found |= {file.path: (file.path.stat().st_ino, file.path.stat().st_mtime_ns) for file in files}
    return found


def _sums(paths: list[Path]) -> dict[str, Any]:
    every = [read_metadata(path) for path in paths]
    return {
        "gradients, in batches": sum(int(one["num_gradients"]) for one in every),
        "seconds in actors": round(sum(float(one["seconds"]) for one in every), 1),
    }


if __name__ == "__main__":
    main()
