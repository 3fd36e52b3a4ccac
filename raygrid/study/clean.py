"""What lies in a study folder that the study no longer uses: found by looking, deleted when asked.

Only what has a name such as raygrid gives is looked at: other things in the folder are somebody's own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raygrid.io.files import remove
from raygrid.io.mirror import num_bytes
from raygrid.io.paths import TEMPORARY_PREFIX
from raygrid.spec import EXTERNAL
from raygrid.store.folder import StudyFolder
from raygrid.store.units import score_files

_SIGNED = re.compile(r".+-[0-9a-f]{12}")
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{32}-.+")


@dataclass(frozen=True)
class Leftover:
    """A folder or a file, and why nothing needs it."""

    path: Path
    why: str

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, or in object storage."""
        return num_bytes(self.path)

    def delete(self) -> None:
        """Delete it."""
        remove(self.path)


def find_leftovers(folder: StudyFolder) -> list[Leftover]:
    """Return what the study no longer uses: samples, models and scores of other declarations.

    A study that is declared as it was would use them again. Nothing is said of scores while their samples are not
    prepared or a model behind them is not trained: which are its own is not known yet.
    """
    return [*_old_samples(folder), *_old_models(folder), *_old_scores(folder), *_old_answers(folder)]


def find_half_written(study_dir: Path) -> list[Leftover]:
    """Return halves of files. While a driver or its workers live they may be in the making."""
    found = [path for path in sorted(study_dir.rglob(f"{TEMPORARY_PREFIX}*")) if _TEMPORARY.fullmatch(path.name)]
    return [Leftover(path, "half a file, left by a process that was killed") for path in found]


def _old_samples(folder: StudyFolder) -> Iterator[Leftover]:
    used = {folder.samples_dir(name) for name in folder.sample_signatures}
    for path in _signed(folder.path / "samples"):
        if path not in used:
            yield Leftover(path, "samples prepared for another declaration of the data")


def _old_models(folder: StudyFolder) -> Iterator[Leftover]:
    used = {folder.model(model).path for model in folder.study.models}
    for modality in sorted((folder.path / "zoo").glob("*")):
        for path in _signed(modality):
            if path not in used:
                yield Leftover(path, "a model of another declaration, or of other samples")


def _old_scores(folder: StudyFolder) -> Iterator[Leftover]:
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
                        yield Leftover(plan, f"{kind} of other models, attacks or blocks")
        for unit, files in zip(units, score_files(units), strict=True):
            for file in files:
                if not set(file.tile.targets) & set(unit.wanted.targets):
                    yield Leftover(file.path, "scores of targets that are no more, or were trained anew")


def _old_answers(folder: StudyFolder) -> Iterator[Leftover]:
    """Yield the answers of targets that the study no longer names; of the others none: asking again costs money."""
    used = {folder.answers(target) for target in folder.study.targets}
    for path in sorted((folder.path / "answers").glob(f"*/{EXTERNAL}-*")):
        if path not in used:
            yield Leftover(path, "answers of a target that is no more; to have them again it must be asked again")


def _signed(parent: Path) -> Iterator[Path]:
    """Yield the folders that are named with a signature."""
    for path in sorted(parent.glob("*")):
        if path.is_dir() and not path.is_symlink() and _SIGNED.fullmatch(path.name):
            yield path
