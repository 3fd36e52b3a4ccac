"""Files of a study folder that the study no longer uses.

Only files with names in raygrid's form count: other files in the folder belong to the user.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raygrid.io.mirror import num_bytes, remove
from raygrid.io.paths import TEMPORARY_PREFIX
from raygrid.spec import EXTERNAL
from raygrid.store.folder import StudyFolder
from raygrid.store.units import score_files

_SIGNED = re.compile(r".+-[0-9a-f]{12}")
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{32}-.+")


@dataclass(frozen=True)
class Unused:
    """A folder or a file, and the reason that the study does not need it."""

    path: Path
    why: str

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, or in object storage."""
        return num_bytes(self.path)

    def delete(self) -> None:
        """Delete it."""
        remove(self.path)


def find_unused(folder: StudyFolder) -> list[Unused]:
    """Return the samples, models, scores and answers of earlier declarations of the study.

    The earlier declaration would use them again. Scores are left out until their samples are prepared and all their
    models are trained, because only then is it known which ones the study uses.
    """
    return [*_old_samples(folder), *_old_models(folder), *_old_scores(folder), *_old_answers(folder)]


def find_half_written(study_dir: Path) -> list[Unused]:
    """Return half-written files. While a driver or a worker runs, they may still be in use."""
    found = [path for path in sorted(study_dir.rglob(f"{TEMPORARY_PREFIX}*")) if _TEMPORARY.fullmatch(path.name)]
    return [Unused(path, "half-written file of a killed process") for path in found]


def _old_samples(folder: StudyFolder) -> Iterator[Unused]:
    used = {folder.samples_dir(name) for name in folder.sample_signatures}
    for path in _signed(folder.path / "samples"):
        if path not in used:
            yield Unused(path, "samples prepared for another declaration of the data")


def _old_models(folder: StudyFolder) -> Iterator[Unused]:
    used = {folder.model(model).path for model in folder.study.models}
    for modality in sorted((folder.path / "zoo").glob("*")):
        for path in _signed(modality):
            if path not in used:
                yield Unused(path, "a model of another declaration or of other samples")


def _old_scores(folder: StudyFolder) -> Iterator[Unused]:
    for modality in folder.study.studied:
        if any(not folder.model(m).is_trained for m in folder.study.models_of(modality.name)):
            continue
        if not folder.has_samples(modality.name):
            continue
        units = folder.units(modality.name)
        used = {unit.folder.name for unit in units}
        for kind in ("scores", "perceptibility"):
            for surrogate in sorted((folder.path / kind / f"modality={modality.name}").glob("surrogate=*")):
                for plan in _signed(surrogate):
                    if plan.name not in used:
                        yield Unused(plan, f"{kind} of other models, attacks or blocks")
        for unit, files in zip(units, score_files(units), strict=True):
            for file in files:
                if not set(file.tile.targets) & set(unit.wanted.targets):
                    yield Unused(file.path, "scores of targets that were removed or trained again")


def _old_answers(folder: StudyFolder) -> Iterator[Unused]:
    """Yield the answers of targets that the study no longer names. All other answers stay: requests cost money."""
    used = {folder.answers(target) for target in folder.study.targets}
    for path in sorted((folder.path / "answers").glob(f"*/{EXTERNAL}-*")):
        if path not in used:
            yield Unused(path, "answers of a removed target; getting them again takes new requests")


def _signed(parent: Path) -> Iterator[Path]:
    """Yield the folders whose names end in a signature."""
    for path in sorted(parent.glob("*")):
        if path.is_dir() and not path.is_symlink() and _SIGNED.fullmatch(path.name):
            yield path
