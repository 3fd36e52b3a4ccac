"""The stages of a study in order; each looks at what is there and does only what is missing.

Running the same command again is the resume: there is no other mechanism.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raygrid.errors import SpecError, StoreError, TrackingError, unknown_name
from raygrid.io.lease import lease
from raygrid.io.mirror import local_dir
from raygrid.progress import tell
from raygrid.spec import MAX_REJECTED_SHARE, StudySpec
from raygrid.store.folder import StudyFolder, open_study, refresh
from raygrid.store.log import run_log
from raygrid.store.provenance import provenance, write_record
from raygrid.store.target_identity import target_identity
from raygrid.store.units import missing_files
from raygrid.store.weight_sources import HUB
from raygrid.study.check_targets import require_scorable, try_targets
from raygrid.study.cluster import Resources, connected, read_resources
from raygrid.study.status import left_for_larger_budgets

DEVICES = ("auto", "cpu", "cuda")
STAGES = ("prepare", "targets", "train", "transfer", "report", "track")


@dataclass(frozen=True)
class RunOptions:
    """Where and how fast a study is computed; no result depends on it.

    Attributes:
        device: `cpu`, `cuda`, or `auto`: GPUs if the cluster has any.
        trials_per_gpu: trainings that share a GPU; None packs by the memory that each is estimated to need.
        max_rejected_share: share of a modality's images that may be unusable; more stop the study.
    """

    study_dir: Path
    data_root: Path
    address: str | None = None
    tracking_uri: str | None = None
    only: str | None = None
    num_cpus: int | None = None
    device: str = "auto"
    trials_per_gpu: int | None = None
    max_rejected_share: float = MAX_REJECTED_SHARE

    def __post_init__(self) -> None:
        # Ray's workers have working directories of their own
        object.__setattr__(self, "study_dir", local_dir(self.study_dir).absolute())
        object.__setattr__(self, "data_root", local_dir(self.data_root).absolute())
        if self.only is not None and self.only not in STAGES:
            raise SpecError(unknown_name("stage", self.only, STAGES))
        if self.device not in DEVICES:
            raise SpecError(
                f"unknown device {self.device!r}; expected cuda (GPUs), cpu, or auto (GPUs if the cluster has any)"
            )
        if self.trials_per_gpu is not None and self.trials_per_gpu < 1:
            raise SpecError(f"trials_per_gpu is {self.trials_per_gpu}; expected at least 1")
        if not 0 <= self.max_rejected_share < 1:
            raise SpecError(f"max_rejected_share is {self.max_rejected_share}; expected from 0 to below 1")

    def wants(self, stage: str) -> bool:
        """Whether this run is to do `stage`."""
        return self.only in (None, stage)


def run_study(study: StudySpec, options: RunOptions) -> None:
    """Bring a study folder up to date: prepare, try targets, train, transfer, report, track.

    Raises RaygridError with what is wrong; what was finished stays. A tracking store that does not answer stops nothing
    but the tracking; it is raised at the end.
    """
    with lease(options.study_dir), run_log(options.study_dir), ExitStack() as stack:
        folder = _compute(study, options, stack)
        if options.wants("report"):
            from raygrid.study.publish import publish

            publish(folder)
        _say_what_is_missing(folder, only=options.only)
        if options.wants("track"):
            track(folder, options.tracking_uri)


def missing_work(folder: StudyFolder) -> dict[str, int]:
    """Return how many models are not trained and how many units of each modality are not scored."""
    missing = {"models": len(folder.untrained())}
    for modality in folder.study.studied:
        if not folder.has_samples(modality.name):
            missing[f"samples of {modality.name}"] = 1
            continue
        missing[f"units of {modality.name}"] = len(missing_files(folder.units(modality.name)))
    return missing


def _compute(study: StudySpec, options: RunOptions, stack: ExitStack) -> StudyFolder:
    """Do the stages that need Ray, starting it only if one has work."""

    def cluster() -> Any:
        return stack.enter_context(connected(options.address, options.num_cpus))

    def resources() -> Resources:
        return read_resources(cluster(), options.device)

    if options.only in ("report", "track"):
        return open_study(options.study_dir)
    if options.only == "targets" and not study.targets:
        raise SpecError(f"study {study.name} declares no `targets`: the models of its zoo attack each other")
    for target in study.targets:
        target_identity(target)  # a file that is not there is named before anything is prepared
    refresh(options.study_dir)
    folder = _prepare(study, options, cluster)
    if study.targets and options.only != "prepare":
        scored = options.only in (None, "targets", "transfer")
        try_targets(folder, resources if scored else None, asked_for=options.only == "targets")
    if options.wants("train") and folder.untrained():
        there = resources()
        from raygrid.study.train import train_missing

        failed = train_missing(folder, there, provenance(), options.trials_per_gpu)
        for name, reason in failed.items():
            tell(f"train: {name} FAILED: {reason}")
        if options.wants("track"):
            try:
                track(folder, options.tracking_uri, results=False)  # those there are of the last run
            except TrackingError as error:  # asked again when all is done
                tell(str(error))
        if failed:
            raise StoreError(
                f"{len(failed)} of {len(study.models)} models could not be trained (see above); run again to retry them"
            )
    if options.wants("transfer"):
        _transfer(folder, resources)
    return folder


def _prepare(study: StudySpec, options: RunOptions, cluster: Any) -> StudyFolder:
    from raygrid.study.prepare import prepare_missing, survey

    surveyed = survey(study, options.study_dir, options.data_root, options.max_rejected_share)
    folder = StudyFolder(options.study_dir, study, {s.modality.name: s.signature for s in surveyed})
    _check_networks(folder, to_train=options.wants("train"))
    write_record(options.study_dir, study, folder.sample_signatures, phantom=any(s.dataset.phantom for s in surveyed))
    if any(not s.is_prepared for s in surveyed):
        if not options.wants("prepare"):
            raise StoreError(
                "the samples are not prepared yet; prepare them first, with raygrid prepare or --only prepare"
            )
        cluster()
        prepare_missing(surveyed, options.data_root, options.max_rejected_share)
    require_scorable(folder, only_told=options.only == "prepare")
    return folder


def _transfer(folder: StudyFolder, resources: Callable[[], Resources]) -> None:
    from raygrid.study.transfer import transfer_missing

    if folder.untrained():
        raise StoreError(
            f"{len(folder.untrained())} models are not trained yet; run without --only, or with --only train first"
        )
    if any(count for name, count in missing_work(folder).items() if name.startswith("units")):
        there = resources()
        for modality in folder.study.studied:
            transfer_missing(folder, modality, there)


def track(folder: StudyFolder, uri: str | None, *, results: bool = True) -> None:
    """Write to the tracking store what it lacks of a study folder, and say how to look at it.

    Args:
        results: the pairings too, as `results/` has them.

    Raises TrackingError if the store does not answer.
    """
    from raygrid.study.track import default_uri, upload_runs, without_password

    auc = folder.results.auc() if results and folder.results.has("auc") else pd.DataFrame()
    new = upload_runs(folder, auc, uri, phantom=folder.record.phantom)
    store = without_password(uri or default_uri(folder.path))
    where = (
        f"at {store}"
        if store.startswith("http")
        else f"with:\n  mlflow ui --host 127.0.0.1 --backend-store-uri {store}"
    )
    tell(f"mlflow: {new} new runs; compare them {where}")


def _check_networks(folder: StudyFolder, *, to_train: bool) -> None:
    """Find a misspelt architecture, and weights that cannot be had, before anything starts.

    Those of trained models were right. Raises SpecError or WeightsError.
    """
    untrained = folder.untrained()
    if not untrained:
        return
    from raygrid.models.architectures import build_pretrained, check_architecture

    for arch in sorted({m.arch for m in untrained}):
        check_architecture(arch)
    sources = {(m.arch, weights) for m in untrained if (weights := folder.study.weights_of(m)) is not None}
    for arch, weights in sorted(sources) if to_train else ():
        if weights.startswith(HUB):
            tell(f"weights: looking for those of {arch} on the hub, or in its cache")
        build_pretrained(arch, weights, channels=3, num_outputs=1, seed=0)


def _say_what_is_missing(folder: StudyFolder, *, only: str | None) -> None:
    missing = {name: count for name, count in missing_work(folder).items() if count}
    for sentence in left_for_larger_budgets(folder):
        tell(sentence)
    if missing:
        listed = ", ".join(f"{count} {name}" for name, count in missing.items())
        way = "run the same command" if only is None else "run the experiment file itself, without --only,"
        tell(f"still missing: {listed}; {way} to continue")
    else:
        tell("nothing is missing")
