"""What must hold before hours are spent on models: test images that tell something, targets that answer."""

from collections.abc import Callable

from raygrid.errors import DataError
from raygrid.progress import tell
from raygrid.spec import ModalitySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples
from raygrid.store.units import missing_files
from raygrid.study.cluster import Resources


def require_scorable(folder: StudyFolder, *, warn_only: bool) -> None:
    """Find test images of which no AUC could be told, before hours are spent on models.

    Raises DataError, unless it is to be told only: who prepares looks at the images next.
    """
    for modality in folder.study.studied:
        samples = _samples(folder, modality)
        if samples.scorable_labels:
            continue
        message = (
            f"{modality.name}: none of {list(samples.labels)} has images with it and without it among the "
            f"{samples.num_test} test images, so no AUC could be told; more patients, or a larger test_fraction"
        )
        if not warn_only:
            raise DataError(message)
        tell(f"warning: {message}")


def check_targets(folder: StudyFolder, resources: Callable[[], Resources] | None, *, report_all: bool = False) -> None:
    """Try the targets that raygrid did not train, and score clean images by them, before surrogates are trained.

    Those whose clean scores are complete were tried before, and are not asked again; one that is attacked through is
    tried as long as that is not done.

    Args:
        resources: of the cluster that scores, asked for only if there is something to score; None tries alone.
        report_all: whether nothing else is to be done: then those that were tried before are told of again.
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

            tell(f"targets: {modality.name}: trying {target.name}")
            verify_external(folder, target, samples)
        if lacking and resources is not None:
            score_external_clean(folder, modality, resources())
        if resources is not None:
            told = {t.name for t in external} if report_all else unscored
            _tell_clean(folder, modality, samples, told)


def _tell_clean(folder: StudyFolder, modality: ModalitySpec, samples: Samples, names: set[str]) -> None:
    if not names:
        return
    from raygrid.analysis.frames import external_clean

    for target, auc, low, high in external_clean(folder, modality.name, samples):
        if target.name in names:
            tell(
                f"targets: {target.name} has an AUC of {auc:.3f} ({low:.3f} to {high:.3f}) on the {samples.num_test} "
                f"clean test images of {modality.name}{_doubt(low, high)}"
            )


def _samples(folder: StudyFolder, modality: ModalitySpec) -> Samples:
    return folder.samples(modality.name)


def _doubt(low: float, high: float) -> str:
    """Return what an interval of a clean AUC makes one doubt, "" if nothing."""
    from raygrid.analysis.tables import LEARNED_BOUND

    if low > LEARNED_BOUND:
        return ""
    if high < 0.5:
        return "; below chance: its answers may be the wrong way round, see to their order or sign as declared"
    return "; so it may have learned little, or its input or answers are declared wrongly"
