"""Checks before hours of training: the test images allow an AUC, and the targets answer."""

from collections.abc import Callable

from raygrid.errors import DataError
from raygrid.progress import tell
from raygrid.spec import ModalitySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples
from raygrid.store.units import missing_files
from raygrid.study.cluster import Resources


def require_scorable(folder: StudyFolder, *, warn_only: bool) -> None:
    """Check that the test images of every modality allow an AUC.

    Args:
        warn_only: print a warning instead, as after a preparation alone.

    Raises DataError if no label has both positive and negative test images.
    """
    for modality in folder.study.studied:
        samples = _samples(folder, modality)
        if samples.scorable_labels:
            continue
        message = (
            f"{modality.name}: none of {list(samples.labels)} has positive and negative images among the "
            f"{samples.num_test} test images, so no AUC is defined; add patients, or raise test_fraction"
        )
        if not warn_only:
            raise DataError(message)
        tell(f"warning: {message}")


def check_targets(folder: StudyFolder, resources: Callable[[], Resources] | None, *, report_all: bool = False) -> None:
    """Check the targets that raygrid did not train, and score clean images with them, before surrogates are trained.

    A target with complete clean scores has passed and is not queried again, unless attacks through it are missing.

    Args:
        resources: of the cluster that scores, called only if clean scores are missing; None skips the scoring.
        report_all: print the clean AUC of every target, not only of those that are scored now.
    """
    from raygrid.study.transfer import missing_external_clean, score_external_clean

    for modality in folder.study.studied:
        samples = _samples(folder, modality)
        units = folder.units(modality.name)
        lacking = missing_external_clean(folder.study, units)
        unscored = {name for file in lacking for name in file.tile.names}
        through = {file.unit.surrogate for file in missing_files(units)}
        external = folder.study.external_targets(modality.name)
        for target in (t for t in external if t.name in unscored or t in through):
            from raygrid.scoring.networks import verify_external

            tell(f"targets: {modality.name}: checking {target.name}")
            verify_external(folder, target, samples)
        if lacking and resources is not None:
            score_external_clean(folder, modality, resources())
        if resources is not None:
            reported = {t.name for t in external} if report_all else unscored
            _tell_clean(folder, modality, samples, reported)


def _tell_clean(folder: StudyFolder, modality: ModalitySpec, samples: Samples, names: set[str]) -> None:
    if not names:
        return
    from raygrid.analysis.frames import external_clean

    for target, auc, low, high in external_clean(folder, modality.name, samples):
        if target.name in names:
            tell(
                f"targets: {target.name} has an AUC of {auc:.3f} ({low:.3f} to {high:.3f}) on the {samples.num_test} "
                f"clean test images of {modality.name}{clean_auc_warning(low, high)}"
            )


def _samples(folder: StudyFolder, modality: ModalitySpec) -> Samples:
    return folder.samples(modality.name)


def clean_auc_warning(low: float, high: float) -> str:
    """Return a warning about the interval of a clean AUC; empty for a good one."""
    from raygrid.analysis.tables import LEARNED_BOUND

    if low > LEARNED_BOUND:
        return ""
    if high < 0.5:
        return "; below chance: its answers may be reversed, check their declared order and sign"
    return "; so it may have learned little, or its input or answers are declared wrongly"
