"""A toy zoo's scores, computed as the transfer stage does, without Ray."""

import json
from dataclasses import replace

import numpy as np

from raygrid.scoring.scorer import Scorer
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples
from raygrid.store.units import ScoreFile, Unit, missing_files
from raygrid.study.transfer import read_unit


def opened(zoo: StudyFolder) -> Samples:
    return zoo.samples("toy")


def scorer_of(zoo: StudyFolder) -> Scorer:
    job = {"study": zoo.study.to_dict(), "study_dir": str(zoo.path), "samples": dict(zoo.sample_signatures)}
    names = [m.name for m in (*zoo.study.models, *zoo.study.targets)]
    names += [target.surrogate_key for target in zoo.study.targets if target.attacked_through]
    return Scorer({**job, "modality": "toy", "device": "cpu", "names": names})


def as_row(zoo: StudyFolder, file: ScoreFile) -> dict[str, np.ndarray]:
    """Return the row that the reading stage passes to the actor."""
    row = {"unit": units_of(zoo).index(file.unit), "start": file.unit.start, "stop": file.unit.stop}
    read = read_unit({**row, "tile": json.dumps(file.tile.to_dict())}, str(opened(zoo).folder))
    return {name: np.array([value], dtype=object) for name, value in read.items()}


def units_of(zoo: StudyFolder) -> list[Unit]:
    return zoo.units("toy")


def run_missing(zoo: StudyFolder) -> list[ScoreFile]:
    """Score all missing files of a study with one actor; return the files written."""
    scorer, missing = scorer_of(zoo), missing_files(units_of(zoo))
    for file in missing:
        assert not scorer(as_row(zoo, file))["error"][0]
    assert not missing_files(units_of(zoo))
    return missing


def changed(zoo: StudyFolder, **changes: object) -> StudyFolder:
    return StudyFolder(zoo.path, replace(zoo.study, **changes), zoo.sample_signatures)
