"""The stages of a study in order. Each stage computes only the missing files.

A study resumes when the same command runs again; no other mechanism exists.
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
from raygrid.study.check_targets import check_targets, require_scorable
from raygrid.study.cluster import Resources, connected, read_resources
from raygrid.study.status import left_for_larger_budgets

DEVICES = ("auto", "cpu", "cuda")
STAGES = ("prepare", "targets", "train", "transfer", "report", "track")


@dataclass(frozen=True)
class RunOptions:
    """Where and how fast a study is computed. No result depends on it.

    Attributes:
        study_dir: study folder, or URL of one in object storage; it is created.
        data_root: folder of the raw data sets, or its URL.
        address: of a running Ray cluster, such as `auto` or `ray://host:10001`. None starts one on this machine.
        tracking_uri: of an MLflow tracking store. None uses SQLite in the study folder.
        only: one stage of `prepare`, `targets`, `train`, `transfer`, `report`, `track`. None runs all.
        num_cpus: CPUs of the cluster on this machine. None takes all.
        device: `cpu`, `cuda`, or `auto`: GPUs if the cluster has any.
        trials_per_gpu: trainings that share a GPU. None derives the number from an estimate of their memory.
        max_rejected_share: largest permitted share of unusable images of a modality, 0 to below 1.

    Raises SpecError for an unknown stage or device, or a number out of range.
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
        """Whether this run includes `stage`."""
        return self.only in (None, stage)


def run_study(study: StudySpec, options: RunOptions) -> None:
    """Run a study: prepare images, check targets, train, transfer, report, track.

    Files that exist are not computed again, so calling it again resumes a study that was stopped or failed:

        rg.run_study(study, rg.RunOptions(study_dir=Path("studies/mine"), data_root=Path("data")))

    Raises a subclass of RaygridError; finished work stays. StoreError: another driver holds the folder, or units or
    trainings failed. MissingDataError, DataError: raw data are absent or unusable. TrackingError: the tracking store
    does not answer; it is raised last, after all results are written.
    """
    with lease(options.study_dir), run_log(options.study_dir), ExitStack() as stack:
        folder = _compute(study, options, stack)
        if options.wants("report"):
            from raygrid.study.publish import write_results

            write_results(folder)
        _say_what_is_missing(folder, only=options.only)
        if options.wants("track"):
            track(folder, options.tracking_uri)


def missing_work(folder: StudyFolder) -> dict[str, int]:
    """Return the number of untrained models and, by modality, of units without scores."""
    missing = {"models": len(folder.untrained())}
    for modality in folder.study.studied:
        if not folder.has_samples(modality.name):
            missing[f"samples of {modality.name}"] = 1
            continue
        missing[f"units of {modality.name}"] = len(missing_files(folder.units(modality.name)))
    return missing


def _compute(study: StudySpec, options: RunOptions, stack: ExitStack) -> StudyFolder:
    """Run the stages that need Ray, which starts only if one of them has work."""

    def cluster() -> Any:
        return stack.enter_context(connected(options.address, options.num_cpus))

    def resources() -> Resources:
        return read_resources(cluster(), options.device)

    if options.only in ("report", "track"):
        return open_study(options.study_dir)
    if options.only == "targets" and not study.targets:
        raise SpecError(
            f"study {study.name} declares no `targets` to check; add a TargetSpec, or run the study without this check"
        )
    for target in study.targets:
        target_identity(target)  # an absent file is reported before anything is prepared
    refresh(options.study_dir)
    folder = prepare_samples(study, options, cluster)
    if study.targets and options.only != "prepare":
        scored = options.only in (None, "targets", "transfer")
        check_targets(folder, resources if scored else None, report_all=options.only == "targets")
    if options.wants("train") and folder.untrained():
        there = resources()
        from raygrid.study.train import train_missing

        failed = train_missing(folder, there, provenance(), options.trials_per_gpu)
        for name, reason in failed.items():
            tell(f"train: {name} FAILED: {reason}")
        if options.wants("track"):
            try:
                track(folder, options.tracking_uri, results=False)  # results are still those of the last run
            except TrackingError as error:  # retried at the end
                tell(*error.lines)
        if failed:
            raise StoreError(
                f"{len(failed)} of {len(study.models)} models could not be trained (see above); run again to retry them"
            )
    if options.wants("transfer"):
        _transfer(folder, resources)
    return folder


def prepare_samples(study: StudySpec, options: RunOptions, cluster: Any) -> StudyFolder:
    """Write study.json, prepare missing images, and return the study folder. `cluster` starts Ray if needed."""
    from raygrid.study.prepare import prepare_missing, survey

    surveyed = survey(study, options.study_dir, options.data_root, options.max_rejected_share)
    folder = StudyFolder(options.study_dir, study, {s.modality.name: s.signature for s in surveyed})
    _check_networks(folder, to_train=options.wants("train"))
    write_record(options.study_dir, study, folder.sample_signatures, phantom=any(s.dataset.phantom for s in surveyed))
    if any(not s.is_prepared for s in surveyed):
        if not options.wants("prepare"):
            raise StoreError("the samples are not prepared yet; run raygrid prepare, or the study with --only prepare")
        cluster()
        prepare_missing(surveyed, options.data_root, options.max_rejected_share)
    require_scorable(folder, warn_only=options.only == "prepare")
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
    """Upload missing runs of a study to the tracking store, and print the command that shows them.

    Args:
        results: upload the pairings in results/, too.

    Raises TrackingError if the store does not answer.
    """
    from raygrid.study.track import default_uri, upload_runs, without_password

    auc = folder.results.auc() if results and folder.results.has("auc") else pd.DataFrame()
    new = upload_runs(folder, auc, uri, phantom=folder.record.phantom)
    store = without_password(uri or default_uri(folder.path))
    where = (
        [f"at {store}"]
        if store.startswith("http")
        else ["with:", f"  mlflow ui --host 127.0.0.1 --backend-store-uri {store}"]
    )
    tell(f"mlflow: {new} new runs; compare them {where[0]}", *where[1:])


def _check_networks(folder: StudyFolder, *, to_train: bool) -> None:
    """Raise SpecError for an unknown architecture, WeightsError for unavailable weights, before anything starts.

    Trained models are skipped.
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
            tell(f"weights: looking for {arch} on the hub or in its cache")
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
