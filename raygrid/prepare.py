"""Raw data sets to prepared samples: one Ray Data pipeline over all shards of all modalities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raygrid.cluster import ray_data
from raygrid.datasets import Dataset, open_dataset
from raygrid.errors import DataError, MissingDataError
from raygrid.files import read_json, write_json, write_text
from raygrid.progress import Progress
from raygrid.samples import SHARD_ROWS, SampleBatch, samples_dir, write_shard
from raygrid.signatures import samples_signature
from raygrid.spec import DatasetSpec, ModalitySpec, StudySpec
from raygrid.split_files import splits_of
from raygrid.split_lists import content_hashes, read_split_files

MAX_REJECTED_SHARE = 0.001


@dataclass(frozen=True)
class PreparedModality:
    """What is known of a modality before its images are read.

    Attributes:
        table: the index, with `part` set to `development` or `test`; patients that no split uses are left out.
    """

    modality: ModalitySpec
    dataset: Dataset
    labels: tuple[str, ...]
    table: pd.DataFrame
    splits: pd.DataFrame
    signature: str
    folder: Path

    @property
    def is_prepared(self) -> bool:
        """Whether the samples are complete."""
        return (self.folder / "manifest.json").exists()


def survey(study: StudySpec, study_dir: Path, data_root: Path) -> list[PreparedModality]:
    """Return every modality with its index, splits and signature; nothing is read or written yet.

    Raises MissingDataError, listing the missing files of all data sets at once.
    """
    datasets = [(modality, open_dataset(modality.dataset, data_root)) for modality in study.modalities]
    missing = [line for _, dataset in datasets for line in dataset.missing()]
    if missing:
        raise MissingDataError("\n".join(["the study cannot start, files of its data sets are missing:", *missing]))
    return [_survey_one(study, modality, dataset, study_dir, data_root) for modality, dataset in datasets]


def prepare_missing(prepared: Sequence[PreparedModality], data_root: Path) -> None:
    """Prepare every modality that is not complete; finished shards are kept.

    Raises DataError if more than the permitted share of images is rejected.
    """
    todo = [p for p in prepared if not p.is_prepared]
    jobs = [job for p in todo for job in _jobs(p)]
    open_jobs = [job for job in jobs if not _report_path(job).exists()]
    progress = Progress("prepare: shards", len(jobs), done=len(jobs) - len(open_jobs))
    progress.note("reading images", always=True)
    if open_jobs:
        tasks = ray_data().from_items(open_jobs, override_num_blocks=len(open_jobs))
        for row in tasks.map(_prepare_shard, fn_args=(str(data_root),)).iter_rows():
            progress.advance(f"{row['file']}, {row['rows']} images")
    for one in todo:
        _finish(one)


def _survey_one(
    study: StudySpec, modality: ModalitySpec, dataset: Dataset, study_dir: Path, data_root: Path
) -> PreparedModality:
    index = dataset.index()
    files = read_split_files(modality.splits.files, data_root)
    hashes = content_hashes(files)
    signature = samples_signature(modality.dataset, modality.splits, study.seed, index.fingerprint(), hashes)
    splits = splits_of(index, modality.splits, study.seed, files)
    part = index.table["patient_id"].map(splits.set_index("patient_id")["part"])
    table = index.table.assign(part=part)
    table = table[table["part"].isin(("development", "test"))].sort_values(["part", "image_id"], ignore_index=True)
    folder = samples_dir(study_dir, modality.name, signature)
    return PreparedModality(modality, dataset, index.labels, table, splits, signature, folder)


def _jobs(prepared: PreparedModality) -> list[dict[str, Any]]:
    """One job per shard; plain values, so that Ray ships them to any worker."""
    spec = prepared.modality.dataset
    jobs = []
    for part, rows in prepared.table.groupby("part", sort=True):
        for number, start in enumerate(range(0, len(rows), SHARD_ROWS)):
            chunk = rows.iloc[start : start + SHARD_ROWS]
            jobs.append(
                {
                    "file": f"{part}-{number:05d}.parquet",
                    "part": str(part),
                    "folder": str(prepared.folder),
                    "dataset": {"loader": spec.loader, "image_size": spec.image_size, "channels": spec.channels},
                    "options": dict(spec.options),
                    "label_names": list(prepared.labels),
                    "image_ids": chunk["image_id"].tolist(),
                    "patient_ids": chunk["patient_id"].tolist(),
                    "locators": chunk["locator"].tolist(),
                    "labels": chunk[list(prepared.labels)].to_numpy(dtype=np.uint8).tolist(),
                }
            )
    return jobs


def _prepare_shard(job: dict[str, Any], data_root: str) -> dict[str, Any]:
    """Read, prepare and write the images of one shard; images that cannot be read are rejected by name."""
    dataset = open_dataset(DatasetSpec(**job["dataset"], options=job["options"]), Path(data_root))
    images, kept, rejects = [], [], []
    for position, locator in enumerate(job["locators"]):
        try:
            images.append(dataset.read(str(locator)))
            kept.append(position)
        except DataError as error:
            rejects.append({"image_id": str(job["image_ids"][position]), "reason": str(error)})
    report = {"file": job["file"], "part": job["part"], "rows": len(kept), "rejects": rejects}
    if kept:
        batch = SampleBatch(
            image_ids=tuple(str(job["image_ids"][i]) for i in kept),
            patient_ids=tuple(str(job["patient_ids"][i]) for i in kept),
            labels=np.asarray(job["labels"], dtype=np.uint8)[kept],
            images=np.stack(images),
        )
        write_shard(Path(job["folder"]) / job["file"], list(job["label_names"]), batch)
    write_json(_report_path(job), report)
    return {"file": f"{Path(job['folder']).name}/{job['file']}", "rows": len(kept)}


def _report_path(job: dict[str, Any]) -> Path:
    """The shard's done-marker: its counts and rejects."""
    return Path(job["folder"]) / "shards" / f"{job['file']}.json"


def _finish(prepared: PreparedModality) -> None:
    reports = [read_json(_report_path(job)) for job in _jobs(prepared)]
    rejects = [reject for report in reports for reject in report["rejects"]]
    share = len(rejects) / len(prepared.table)
    if share > MAX_REJECTED_SHARE:
        first = "\n".join(f"  {r['image_id']}: {r['reason']}" for r in rejects[:5])
        raise DataError(
            f"{prepared.modality.name}: {len(rejects)} of {len(prepared.table)} images cannot be used, more than "
            f"the permitted {MAX_REJECTED_SHARE:.1%}; the first are\n{first}\n"
            f"Mend or remove them, delete {prepared.folder} and run again"
        )
    write_text(prepared.folder / "splits.csv", prepared.splits.to_csv(index=False))
    counts = {
        str(part): {"images": len(rows), "patients": int(rows["patient_id"].nunique())}
        | {f"positive_{name}": int(rows[name].sum()) for name in prepared.labels}
        for part, rows in prepared.table.groupby("part")
    }
    manifest = {
        "title": prepared.dataset.title,
        "phantom": prepared.dataset.phantom,
        "signature": prepared.signature,
        "labels": list(prepared.labels),
        "counts": counts,
        "unused_patients": int((prepared.splits["part"] == "unused").sum()),
        "rejects": rejects,
        "shards": [{"file": r["file"], "part": r["part"], "rows": r["rows"]} for r in reports if r["rows"]],
    }
    write_json(prepared.folder / "manifest.json", manifest)
