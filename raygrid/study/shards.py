"""One shard of prepared images: the job that makes it, and its report, which marks it as done.

A report has the keys

    file, part, rows    name of the Parquet file, part of the study, number of its images
    rejects             images that cannot be used, with the reason
    source_sizes        "height x width" -> number of source images
    pixels              image id -> digest of its prepared pixels (absent in reports of earlier versions)
    suspects            images that were read but are suspect, with the observation (absent likewise)
    sha256              checksum of the Parquet file
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raygrid.data.damage import suspicions
from raygrid.data.datasets import Dataset, Reject, open_dataset
from raygrid.data.identical import is_blank, pixel_digest
from raygrid.errors import DataError, RaygridError
from raygrid.io.files import checksum, read_json, write_json
from raygrid.io.mirror import exists, from_portable, pull, to_portable
from raygrid.spec import DatasetSpec
from raygrid.store.samples import SampleBatch, shard_rows, write_shard

BLANK = "blank: every prepared pixel has the same value"
_pull_once = cache(pull)  # in a process that prepares many shards: listing raw data can take seconds


def open_with(spec: DatasetSpec, data_root: Path, bring: Callable[[Path], None]) -> Dataset:
    """Return the raw data set; `bring` gets the folder with its files, which can be in object storage."""
    dataset = open_dataset(spec, data_root)
    if not dataset.phantom:
        bring(data_root if spec.loader == "table" else data_root / spec.loader)  # a table may name any file
    return dataset


def shard_jobs(spec: DatasetSpec, labels: Sequence[str], table: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Return one job per shard, of plain values, so that Ray can send it to any worker.

    Args:
        labels: names of the label columns.
        table: the rows of the index, sorted, with `part` set to `development` or `test`.
        folder: the folder of the samples.
    """
    jobs = []
    for part, rows in table.groupby("part", sort=True):
        step = shard_rows(spec.image_size**2 * spec.channels, len(rows))
        for number, start in enumerate(range(0, len(rows), step)):
            chunk = rows.iloc[start : start + step]
            jobs.append(
                {
                    "file": f"{part}-{number:05d}.parquet",
                    "part": str(part),
                    "folder": to_portable(folder),
                    "dataset": {"loader": spec.loader, "image_size": spec.image_size, "channels": spec.channels},
                    "options": dict(spec.options),
                    "label_names": list(labels),
                    "image_ids": chunk["image_id"].tolist(),
                    "patient_ids": chunk["patient_id"].tolist(),
                    "locators": chunk["locator"].tolist(),
                    "labels": chunk[list(labels)].to_numpy(dtype=np.uint8).tolist(),
                }
            )
    return jobs


def image_bytes(job: dict[str, Any]) -> int:
    """Return the size of a shard's decoded images in bytes."""
    return len(job["image_ids"]) * int(job["dataset"]["image_size"]) ** 2 * int(job["dataset"]["channels"])


def report_path(job: dict[str, Any]) -> Path:
    """Return the path of a shard's report."""
    return from_portable(job["folder"]) / "shards" / f"{job['file']}.json"


def is_done(job: dict[str, Any]) -> bool:
    """Return whether a shard is complete; one with rejects is not, because its files may have been repaired."""
    path = report_path(job)
    if not path.exists():
        return False
    report = read_json(path)
    return not report["rejects"] and exists(from_portable(job["folder"]) / job["file"])


def prepare_in_task(job: dict[str, Any], data_root: str) -> dict[str, Any]:
    """Prepare a shard; an error returns as text, because Ray would hide it in a long traceback of its own."""
    try:
        return {**_prepare_shard(job, data_root), "error": ""}
    except RaygridError as error:
        return {"file": str(job["file"]), "rows": 0, "error": str(error)}


def _prepare_shard(job: dict[str, Any], data_root: str) -> dict[str, Any]:
    """Read, prepare and write the images of one shard; unreadable images become rejects."""
    spec = DatasetSpec(**job["dataset"], options=job["options"])
    dataset = open_with(spec, from_portable(data_root), _pull_once)
    images, kept, rejects, suspects = [], [], [], []
    pixels: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    with suspicions() as found:  # around all images: each block makes Python show repeated warnings again
        for position, (name, locator) in enumerate(zip(map(str, job["image_ids"]), job["locators"], strict=True)):
            found.clear()
            try:
                height, width = dataset.source_size(str(locator))
                images.append(dataset.read(str(locator)))
            except DataError as error:
                rejects.append(asdict(Reject(name, str(error))))
                continue
            kept.append(position)
            sizes[f"{height} x {width}"] += 1
            suspects += [{"image_id": name, "observation": text} for text in _observations(found, str(locator))]
            if is_blank(images[-1]):
                suspects.append({"image_id": name, "observation": BLANK})
            pixels[name] = pixel_digest(images[-1])
    report: dict[str, Any] = {"file": job["file"], "part": job["part"], "rows": len(kept)}
    report |= {"rejects": rejects, "source_sizes": sizes, "pixels": pixels, "suspects": suspects}
    if kept:
        batch = SampleBatch(
            image_ids=tuple(str(job["image_ids"][i]) for i in kept),
            patient_ids=tuple(str(job["patient_ids"][i]) for i in kept),
            labels=np.asarray(job["labels"], dtype=np.uint8)[kept],
            images=np.stack(images),
        )
        path = from_portable(job["folder"]) / job["file"]
        write_shard(path, list(job["label_names"]), batch)
        report["sha256"] = checksum(path)  # identifies a cached shard by its pixels
    write_json(report_path(job), report)
    return {"file": f"{from_portable(job['folder']).name}/{job['file']}", "rows": len(kept)}


def _observations(messages: Sequence[str], locator: str) -> Iterator[str]:
    """Yield each observation once, without the path at the start of the message."""
    for message in dict.fromkeys(messages):  # the header and the pixels can give the same one
        _, _, observation = message.partition(f"{locator}: ")
        yield observation or message.partition(": ")[2] or message
