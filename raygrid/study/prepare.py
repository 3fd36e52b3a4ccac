"""The prepare stage: raw data sets to prepared samples, one Ray Data pipeline over all shards of all modalities."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from raygrid.data.datasets import Dataset, Index, Reject
from raygrid.data.splits.parse import content_hashes, missing_split_files, read_split_files
from raygrid.data.splits.resolve import splits_of
from raygrid.errors import DataError, MissingDataError, StoreError
from raygrid.io.files import SPACE_REMEDY, checksum, read_json, require_space, write_json, write_text
from raygrid.io.mirror import display_path, pull, to_portable
from raygrid.io.paths import make_folder
from raygrid.progress import Progress, tell
from raygrid.spec import MAX_REJECTED_SHARE, ModalitySpec, StudySpec
from raygrid.store.samples import IMAGE_FILES, samples_dir
from raygrid.store.signatures import samples_signature
from raygrid.study.cluster import ray_data
from raygrid.study.earlier_samples import (
    READING,
    READING_VERSION,
    notes_on_earlier_reading,
    notes_on_other_labels,
)
from raygrid.study.findings import findings_of, refuse_contradictions, write_findings
from raygrid.study.shards import image_bytes, is_done, open_with, prepare_in_task, report_path, shard_jobs

_SHOWN = 5  # rejects in an error message
_COMPRESSED = 0.4  # smallest size on disk of compressed photographs, as a share of their decoded bytes


@dataclass(frozen=True)
class PreparedModality:
    """A modality before its images are read: index, splits and signature.

    Attributes:
        table: the rows of the index, with `part` set to `development` or `test`, without the patients of no split.
    """

    modality: ModalitySpec
    dataset: Dataset
    index: Index
    table: pd.DataFrame
    splits: pd.DataFrame
    signature: str
    folder: Path

    @property
    def is_prepared(self) -> bool:
        """Whether the samples are complete."""
        return (self.folder / "manifest.json").exists()

    def jobs(self) -> list[dict[str, Any]]:
        """Return one job per shard (`raygrid.study.shards`)."""
        return shard_jobs(self.modality.dataset, self.index.labels, self.table, self.folder)


def survey(
    study: StudySpec, study_dir: Path, data_root: Path, max_rejected_share: float = MAX_REJECTED_SHARE
) -> list[PreparedModality]:
    """Return every modality with its index, splits and signature; no image is read.

    Raises MissingDataError, which lists the missing files of all data sets at once, and DataError if the label files
    alone rule out more than `max_rejected_share` of a modality's images.
    """
    datasets = [(modality, open_raw(modality, data_root)) for modality in study.modalities]
    missing: list[str] = []
    for modality, dataset in datasets:
        lines = [*dataset.missing(), *missing_split_files(modality.splits.files, data_root)]
        missing += [f"  {modality.name}:", *(f"    {line}" for line in lines)] if lines else []
    if missing:
        head = f"the study cannot start: files are missing below {display_path(data_root)} (--data-root)"
        raise MissingDataError(head, *missing)
    indexed = [(modality, dataset, with_division_note(dataset.index(), modality)) for modality, dataset in datasets]
    for modality, _, index in indexed:
        total = len(index.table) + len(index.rejects)
        refuse_many(modality.name, index.rejects, total, max_rejected_share, study_dir / "samples")
    return [
        survey_modality(study, modality, dataset, index, study_dir, data_root) for modality, dataset, index in indexed
    ]


def prepare_missing(
    prepared: Sequence[PreparedModality], data_root: Path, max_rejected_share: float = MAX_REJECTED_SHARE
) -> None:
    """Prepare every incomplete modality; finished shards stay, shards with rejects are read again.

    Raises DataError if more than `max_rejected_share` of a modality's images are rejected. Prepared shards stay.
    """
    todo = [p for p in prepared if not p.is_prepared]
    for one in (p for p in prepared if p.is_prepared):
        for note in notes_on_earlier_reading(read_json(one.folder / "manifest.json"), one.folder):
            tell(f"prepare: {one.modality.name}: {note}")
    for one in todo:
        for note in (*one.index.notes, *notes_on_other_labels(one.folder, one.modality.name, one.index.labels)):
            tell(f"prepare: {one.modality.name}: {note}")
    jobs = [job for p in todo for job in p.jobs()]
    open_jobs = [job for job in jobs if not is_done(job)]
    progress = Progress("prepare: shards", len(jobs), done=len(jobs) - len(open_jobs))
    progress.note("reading images", always=True)
    if open_jobs:
        folder = todo[0].folder.parent
        make_folder(folder)
        require_space(folder, _COMPRESSED * sum(map(image_bytes, open_jobs)), "the prepared images", SPACE_REMEDY)
        tasks = ray_data().from_items(open_jobs, override_num_blocks=len(open_jobs))
        for row in tasks.map(prepare_in_task, fn_args=(to_portable(data_root),)).iter_rows():
            if row["error"]:
                raise StoreError(*row["error"].split("\n"))
            progress.advance(f"{row['file']}, {row['rows']} images")
    for one in todo:
        pull(one.folder, without=IMAGE_FILES)  # reports of other nodes
        _finish(one, max_rejected_share)


def open_raw(modality: ModalitySpec, data_root: Path) -> Dataset:
    """Return the raw data set of a modality; a data set in object storage is copied to this node as a whole.

    Raises StoreError if the storage refuses or does not answer, and the errors of `open_dataset`.
    """
    for path in modality.splits.files.values():
        pull(data_root / path)
    return open_with(modality.dataset, data_root, pull)


def with_division_note(index: Index, modality: ModalitySpec) -> Index:
    """Return the index, with a note if the study draws a test part although the data set has one."""
    if modality.splits.test_fraction is None or not index.table["part"].isin(("development", "test")).any():
        return index
    note = "the data set's own division is not used: test_fraction draws the test patients among all of them"
    return replace(index, notes=(*index.notes, note))


def survey_modality(
    study: StudySpec, modality: ModalitySpec, dataset: Dataset, index: Index, study_dir: Path, data_root: Path
) -> PreparedModality:
    """Return one modality with its splits and signature. Raises DataError or SpecError for unusable splits."""
    files = read_split_files(modality.splits.files, data_root)
    hashes = content_hashes(files)
    signature = samples_signature(modality.dataset, modality.splits, study.seed, index.fingerprint(), hashes)
    splits, notes = splits_of(index, modality.splits, study.seed, files)
    for note in notes:
        tell(f"prepare: {modality.name}: {note}")
    part = index.table["patient_id"].map(splits.set_index("patient_id")["part"])
    table = index.table.assign(part=part)
    table = table[table["part"].isin(("development", "test"))].sort_values(["part", "image_id"], ignore_index=True)
    folder = samples_dir(study_dir, modality.name, signature)
    return PreparedModality(modality, dataset, index, table, splits, signature, folder)


def _finish(prepared: PreparedModality, max_rejected_share: float) -> None:
    """Write the splits and, last, the manifest.

    Raises DataError if too many images were rejected, or contradict the labels of an identical image.
    """
    reports = [read_json(report_path(job)) for job in prepared.jobs()]
    rejects = [*prepared.index.rejects, *(Reject(**reject) for report in reports for reject in report["rejects"])]
    total = len(prepared.table) + len(prepared.index.rejects)
    refuse_many(prepared.modality.name, rejects, total, max_rejected_share, prepared.folder.parent)
    usable = _usable(prepared, rejects)
    without = _patients_without_images(prepared, usable)
    found = findings_of(prepared.table, prepared.splits, prepared.index.labels, reports)
    notes = write_findings(found, prepared.folder)
    for note in notes:
        tell(f"prepare: {prepared.modality.name}: {note}")
    refuse_contradictions(prepared.modality.name, found, total, max_rejected_share, prepared.folder.parent)
    splits = prepared.folder / "splits.csv"
    write_text(splits, prepared.splits.to_csv(index=False))
    manifest = _manifest(prepared, usable, reports) | {
        READING: 1 if found.num_earlier else READING_VERSION,
        "patients_without_images": without,
        "notes": [*prepared.index.notes, *notes],
        "rejects": [asdict(reject) for reject in rejects],
    }
    write_json(prepared.folder / "manifest.json", manifest)
    if rejects:
        tell(
            f"prepare: {prepared.modality.name}: left out {len(rejects)} unusable images, listed in "
            f"{prepared.folder / 'manifest.json'}"
        )
    if without:
        tell(
            f"prepare: {prepared.modality.name}: some patients have no usable image, so d1 and d2 may differ in "
            f"patients: {'; '.join(without)}"
        )


def _manifest(prepared: PreparedModality, usable: pd.DataFrame, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of the manifest that follow from the data set and the reports of its shards."""
    sizes: Counter[str] = Counter()
    for report in reports:
        sizes.update(report["source_sizes"])
    return {
        "title": prepared.dataset.title,
        "phantom": prepared.dataset.phantom,
        "signature": prepared.signature,
        "labels": list(prepared.index.labels),
        "counts": _counts(usable, prepared.index.labels),
        "splits_sha256": checksum(prepared.folder / "splits.csv"),
        "unused_patients": int((prepared.splits["part"] == "unused").sum()),
        "source_sizes": dict(sizes.most_common()),
        "label_meanings": dict(prepared.index.meanings),
        "shards": [{key: r[key] for key in ("file", "part", "rows", "sha256")} for r in reports if r["rows"]],
    }


def refuse_many(modality: str, rejects: Sequence[Reject], total: int, permitted: float, folder: Path) -> None:
    """Raise DataError if more than the share `permitted` of `total` images is rejected.

    The error counts the rejects and shows the first; a CSV file in `folder` lists all of them.
    """
    if len(rejects) <= permitted * total:
        return
    listing = folder / f"{modality}-rejects.csv"
    write_text(listing, pd.DataFrame(list(rejects)).to_csv(index=False))
    raise DataError(
        f"{modality}: {len(rejects)} of {total} images cannot be used, more than the permitted {permitted:.1%}; "
        f"all are listed in {listing}, the first are",
        *(f"  {reject}" for reject in rejects[:_SHOWN]),
        "Repair or replace these files, or permit more with --max-rejected-share, and run again",
    )


def _usable(prepared: PreparedModality, rejects: Sequence[Reject]) -> pd.DataFrame:
    """Return the rows without rejects. Raises DataError if a part has none left."""
    rejected = {reject.image_id for reject in rejects}
    usable = prepared.table[~prepared.table["image_id"].astype(str).isin(rejected)]
    for part in ("development", "test"):
        if not (usable["part"] == part).any():
            raise DataError(
                f"{prepared.modality.name}: no image of the {part} part can be used; repair or re-download them"
            )
    return usable


def _counts(usable: pd.DataFrame, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the numbers of usable images, patients and positives per part."""
    return {
        str(part): {"images": len(rows), "patients": int(rows["patient_id"].nunique())}
        | {f"positive_{name}": int(rows[name].sum()) for name in labels}
        for part, rows in usable.groupby("part")
    }


def _patients_without_images(prepared: PreparedModality, usable: pd.DataFrame) -> list[str]:
    """Return, as "patient (split role)", the patients of the splits whose every image was rejected."""
    lost = set(prepared.table["patient_id"]) - set(usable["patient_id"])
    rows = prepared.splits[prepared.splits["patient_id"].isin(lost)]
    places = (rows["split"] + " " + rows["role"]).str.strip().where(rows["split"] != "", rows["part"])
    return [f"{patient} ({place})" for patient, place in zip(rows["patient_id"], places, strict=True)]
