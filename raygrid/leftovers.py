"""What lies in a study folder that the study no longer uses: found by looking, deleted when asked."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raygrid.files import TEMPORARY_PREFIX
from raygrid.samples import Samples, samples_dir
from raygrid.units import plan_units
from raygrid.zoo import Zoo


@dataclass(frozen=True)
class Leftover:
    """A folder or a file, and why nothing needs it."""

    path: Path
    why: str

    @property
    def num_bytes(self) -> int:
        """Bytes on disk."""
        files = [self.path] if self.path.is_file() else [p for p in self.path.rglob("*") if p.is_file()]
        return sum(file.stat().st_size for file in files)

    def delete(self) -> None:
        """Delete it."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def find_leftovers(zoo: Zoo) -> list[Leftover]:
    """Return what the study no longer uses: samples, models and scores of other declarations, halves of killed writes.

    A study that is declared as it was would use them again. Nothing is said of the scores of a modality whose samples
    are not prepared: which are its own is not known yet.
    """
    return [*_old_samples(zoo), *_old_models(zoo), *_old_scores(zoo), *_half_written(zoo.study_dir)]


def _old_samples(zoo: Zoo) -> Iterator[Leftover]:
    used = {samples_dir(zoo.study_dir, name, signature) for name, signature in zoo.samples.items()}
    for folder in sorted(zoo.study_dir.glob("samples/*")):
        if folder.is_dir() and folder not in used:
            yield Leftover(folder, "samples prepared for another declaration of the data")


def _old_models(zoo: Zoo) -> Iterator[Leftover]:
    used = {zoo.folder(model) for model in zoo.study.models}
    for folder in sorted(zoo.study_dir.glob("zoo/*/*")):
        if folder.is_dir() and folder not in used:
            yield Leftover(folder, "a model of another declaration, or of other samples")


def _old_scores(zoo: Zoo) -> Iterator[Leftover]:
    known = {m.name: samples_dir(zoo.study_dir, m.name, zoo.samples[m.name]) for m in zoo.study.studied}
    for modality, folder in known.items():
        if not (folder / "manifest.json").exists():
            continue
        used = {unit.folder.name for unit in plan_units(zoo, modality, Samples(folder).num_test)}
        for plan in sorted(zoo.study_dir.glob(f"*/modality={modality}/surrogate=*/plan-*")):
            if plan.name not in used:
                yield Leftover(plan, f"{plan.relative_to(zoo.study_dir).parts[0]} of other models, attacks or blocks")


def _half_written(study_dir: Path) -> Iterator[Leftover]:
    for path in sorted(study_dir.rglob(f"{TEMPORARY_PREFIX}*")):
        yield Leftover(path, "half a file, left by a process that was killed")
