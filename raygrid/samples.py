"""Prepared images of one modality: where they lie, how they are written, how they are read.

STUDY/samples/<modality>-<signature>/
    splits.csv                    one row per patient: part, split, role, d2_half, d1_tenth
    development-00000.parquet ... image_id, patient_id, a 0/1 column per label, image (uint8, height x width x channel)
    test-00000.parquet ...        the same, sorted by image_id
    manifest.json                 written last: counts, rejects, labels, signature
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raygrid.errors import StoreError
from raygrid.files import atomic_path, read_json
from raygrid.splits import members

SHARD_ROWS = 512


@dataclass(frozen=True)
class SampleBatch:
    """Images with what is known of them.

    Attributes:
        image_ids: (n,) names.
        patient_ids: (n,) names.
        labels: (n, num_labels) uint8, 0 or 1.
        images: (n, height, width, channel) uint8.
    """

    image_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    labels: NDArray[np.uint8]
    images: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.image_ids)


def samples_dir(study_dir: Path, modality: str, signature: str) -> Path:
    """Return the folder of the samples with this signature."""
    return study_dir / "samples" / f"{modality}-{signature[:12]}"


def write_shard(path: Path, label_names: Sequence[str], batch: SampleBatch) -> None:
    """Write one shard atomically, in a form that any Parquet reader opens."""
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(batch.images))
    columns: dict[str, Any] = {"image_id": pa.array(batch.image_ids), "patient_id": pa.array(batch.patient_ids)}
    columns |= {name: pa.array(batch.labels[:, i]) for i, name in enumerate(label_names)}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table({**columns, "image": tensor}), temporary, compression="zstd", row_group_size=64)


@dataclass(frozen=True)
class Samples:
    """Prepared samples of one modality, opened for reading. Raises StoreError where they are not complete."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "manifest.json").exists():
            raise StoreError(f"{self.folder} has no manifest: its preparation is not finished, run the study again")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest: title, phantom, labels, counts, rejects, shards, signature."""
        manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        return manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the model outputs, in order."""
        return tuple(self.manifest["labels"])

    def splits(self) -> pd.DataFrame:
        """Return the split table, one row per patient (see `raygrid.splits.assign_splits`)."""
        return pd.read_csv(self.folder / "splits.csv", dtype={"patient_id": str}, keep_default_na=False)

    def load(self, split: str, role: str) -> SampleBatch:
        """Return all images of one role (`train` or `validation`) of a split, in the order of their ids."""
        patients = pa.array(sorted(members(self.splits(), split, role)))
        tables = []
        for shard in self.manifest["shards"]:
            if shard["part"] == "development":
                tables.append(
                    pq.read_table(self.folder / shard["file"], filters=pa.compute.field("patient_id").isin(patients))
                )
        return self._batch(pa.concat_tables(tables).sort_by("image_id"))

    def test_block(self, start: int, stop: int) -> SampleBatch:
        """Return the test images from position `start` up to `stop` in the order of their ids."""
        parts, position = [], 0
        for shard in self.manifest["shards"]:
            if shard["part"] != "test":
                continue
            first, last = max(start - position, 0), min(stop - position, shard["rows"])
            if first < last:
                parts.append(pq.read_table(self.folder / shard["file"]).slice(first, last - first))
            position += shard["rows"]
        return self._batch(pa.concat_tables(parts))

    def test_table(self) -> pd.DataFrame:
        """Return ids, patients and labels of all test images, in the order of their ids."""
        columns = ["image_id", "patient_id", *self.labels]
        files = [self.folder / s["file"] for s in self.manifest["shards"] if s["part"] == "test"]
        table: pd.DataFrame = pa.concat_tables([pq.read_table(f, columns=columns) for f in files]).to_pandas()
        return table

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return sum(int(s["rows"]) for s in self.manifest["shards"] if s["part"] == "test")

    def _batch(self, table: Any) -> SampleBatch:
        labels = np.stack([table[name].to_numpy() for name in self.labels], axis=1).astype(np.uint8)
        images = table["image"].combine_chunks()
        if isinstance(images, pa.ChunkedArray):
            images = images.chunk(0)
        return SampleBatch(
            image_ids=tuple(table["image_id"].to_pylist()),
            patient_ids=tuple(table["patient_id"].to_pylist()),
            labels=labels,
            images=images.to_numpy_ndarray(),
        )
