"""The state of a study: finished and missing work, failures, pace."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raygrid.io.mirror import display_path
from raygrid.spec import ModalitySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.query_budget import allowance, limit_of
from raygrid.store.units import Unit, images_beyond_budgets, missing_files, score_files
from raygrid.study.clean import find_unused

_RECENT_S = 600  # the pace is that of the last ten minutes


@dataclass(frozen=True)
class Failure:
    """A model or unit that failed at the last attempt, and the file with its error."""

    what: str
    path: Path

    @property
    def reason(self) -> str:
        """The first line of the error."""
        return self.path.read_text(encoding="utf-8").strip().split("\n")[0]


def describe_status(folder: StudyFolder, *, whole: bool = False) -> str:
    """Return the state of a study as text for a terminal.

    Args:
        whole: show failures with their tracebacks.
    """
    study = folder.study
    sources = sum(len(study.models_of(m.name)) for m in study.modalities if m.source)
    beside = f", {sources} of them only for pre-training" if sources else ""
    lines = [f"study {study.name}: {len(study.models)} models{beside}; modalities: {len(study.studied)}"]
    lines += [f"  target {t.modality} {t.name}: {t.kind}, {t.source}" for t in study.targets]
    lines.append(f"  models: {len(study.models) - len(folder.untrained())} of {len(study.models)} trained")
    block = study.transfer.block_size
    lines.append(f"  a unit: {block} test images, clean or attacked through one surrogate, scored by all targets")
    units: list[Unit] = []
    for modality in study.studied:
        mine = _units(folder, modality)
        units += mine
        missing = {id(file.unit) for file in missing_files(mine)}
        prepared = f"{len(mine) - len(missing)} of {len(mine)} units scored" if mine else "samples not prepared yet"
        lines.append(f"  {modality.name}: {prepared}")
    missing_count = len(missing_files(units))
    lines += [f"  {sentence}" for sentence in left_for_larger_budgets(folder)]
    lines += [f"  no longer used: {display_path(unused.path)} ({unused.why})" for unused in find_unused(folder)]
    if not folder.untrained():  # until then the few clean scores of external targets do not show the pace
        lines += _pace([file.path for files in score_files(units) for file in files], missing_count)
    for failure in failures(folder, units):
        lines.append(f"  FAILED {failure.what}: {failure.reason}")
        lines.append(failure.path.read_text(encoding="utf-8") if whole else f"    details: {failure.path}")
    return "\n".join(lines)


def left_for_larger_budgets(folder: StudyFolder) -> list[str]:
    """Return a sentence for each endpoint whose budget does not cover all its images."""
    sentences = []
    for modality in folder.study.studied:
        limited = [t for t in folder.study.external_targets(modality.name) if limit_of(t)]
        units = _units(folder, modality) if limited else []
        beyond = images_beyond_budgets(units)
        for target in limited if units else ():
            plan = allowance(folder.study, target, max(unit.stop for unit in units))
            more = beyond.get(target.name, 0)
            unsent = plan.num_images_of_all - plan.num_images + more
            if unsent:
                sentences.append(
                    f"outside the query budget: {modality.name} {target.name}, {plan.num_asked} of {len(plan.cells)} "
                    "(surrogate, attack) cells are covered; for the rest, set "
                    f"max_images={plan.num_images_of_all + more} ({unsent:,} more images)"
                )
    return sentences


def failures(folder: StudyFolder, units: Sequence[Unit]) -> list[Failure]:
    """Return the failures of the last attempts: models, then units."""
    models = [Failure(f"model {m.modality}/{m.name}", folder.model(m).failure_path) for m in folder.untrained()]
    blocks = [Failure(f"unit {unit.modality}/{unit.label}", unit.failure_path) for unit in units]
    return [failure for failure in (*models, *blocks) if failure.path.exists()]


def _units(folder: StudyFolder, modality: ModalitySpec) -> list[Unit]:
    return folder.units(modality.name) if folder.has_samples(modality.name) else []


def _pace(paths: Sequence[Path], num_missing: int) -> list[str]:
    """Return a line with the recent score files per minute and the time left at that pace."""
    now = time.time()
    recent = sorted(t for t in (path.stat().st_mtime for path in paths) if now - t < _RECENT_S)
    if len(recent) < 2 or not num_missing:
        return []
    per_minute = 60 * (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3)
    return [
        f"  pace: {per_minute:.3g} score files a minute over the last {(now - recent[0]) / 60:.0f} minutes, "
        f"{num_missing} are missing: about {num_missing / per_minute:.0f} minutes"
    ]
