"""Prepared images of one modality: their folder, how to write it and how to read it.

STUDY/samples/<modality>-<signature>/
    splits.csv                    one row per patient: part, split, role, d2_half, d1_tenth
    development-00000.parquet ... image_id, patient_id, a 0/1 column per label, image (bytes;
                                  raygrid.data.images.parquet)
    test-00000.parquet ...        the same, sorted by image_id
    manifest.json                 written last: counts, rejects, labels, signature
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raygrid.data.images.parquet import images_of, with_images
from raygrid.data.splits.rules import members
from raygrid.errors import RaygridError, StoreError
from raygrid.hashing import digest
from raygrid.io.files import atomic_path, checksum, read_json
from raygrid.store.memory_map import MappedImages, map_images

IMAGE_FILES = ("*.parquet",)  # files of images, most of the bytes of a folder
DEVELOPMENT_FILES, TEST_FILES = ("development*.parquet",), ("test*.parquet",)
_SHARD_BYTES = 64 * 2**20  # of decoded images; a worker uses a few times as much memory while it writes a shard
_FEWEST_SHARDS = 4  # several workers can read even a small data set
_FEWEST_SHARD_ROWS, _MOST_SHARD_ROWS = 256, 2048  # passing a shard to a worker takes as long as reading 300 patches
_ROW_GROUP = 64  # images decompressed together: about one block of the transfer stage


@dataclass(frozen=True)
class SampleBatch:
    """Images with their ids and labels.

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

    def to_bytes(self) -> bytes:
        """Return the batch as one value: Ray Data may cut or join rows, but never a value."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            image_ids=np.array(self.image_ids),
            patient_ids=np.array(self.patient_ids),
            labels=self.labels,
            images=self.images,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "SampleBatch":
        """Return the batch from the bytes of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(
                image_ids=tuple(arrays["image_ids"].tolist()),
                patient_ids=tuple(arrays["patient_ids"].tolist()),
                labels=arrays["labels"],
                images=arrays["images"],
            )


@dataclass(frozen=True)
class TrainingSet:
    """The images of one training or validation part, in the order of their ids; indexing reads them from disk.

    Attributes:
        image_ids: (n,) names.
        labels: (n, num_labels) uint8, 0 or 1.
        images: indexing by positions or a slice gives uint8 (k, height, width, channel).
    """

    image_ids: tuple[str, ...]
    labels: NDArray[np.uint8]
    images: MappedImages

    def __len__(self) -> int:
        return len(self.image_ids)


def samples_dir(study_dir: Path, modality: str, signature: str) -> Path:
    """Return the folder of the samples with this signature."""
    return study_dir / "samples" / f"{modality}-{signature[:12]}"


def shard_rows(image_bytes: int, num_images: int) -> int:
    """Return the number of images, of `image_bytes` each, per shard of a part of `num_images`."""
    wanted = min(max(math.ceil(num_images / _FEWEST_SHARDS), _FEWEST_SHARD_ROWS), _MOST_SHARD_ROWS)
    return max(1, min(wanted, _SHARD_BYTES // image_bytes))


def write_shard(path: Path, label_names: Sequence[str], batch: SampleBatch) -> None:
    """Write one shard atomically, readable by any Parquet reader."""
    columns: dict[str, Any] = {"image_id": pa.array(batch.image_ids), "patient_id": pa.array(batch.patient_ids)}
    columns |= {name: pa.array(batch.labels[:, i]) for i, name in enumerate(label_names)}
    with atomic_path(path) as temporary:
        table = with_images(columns, batch.images)
        pq.write_table(table, temporary, compression="zstd", row_group_size=_ROW_GROUP, use_dictionary=list(columns))


@dataclass(frozen=True)
class Samples:
    """Prepared samples of one modality, opened for reading. Raises StoreError if the folder has no manifest."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "manifest.json").exists():
            raise StoreError(
                f"{self.folder} has no manifest.json: its images are not prepared yet; "
                "run `raygrid prepare FILE`, or the study, again"
            )

    @cached_property  # the file is written once, and almost every method needs it
    def manifest(self) -> dict[str, Any]:
        """The manifest: title, phantom, labels, counts, rejects, shards, signature."""
        manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        return manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the model outputs, in order."""
        return tuple(self.manifest["labels"])

    @property
    def label_meanings(self) -> Mapping[str, str]:
        """Label -> what a 1 stands for, where the data set says more than the name; old samples have none."""
        return dict(self.manifest.get("label_meanings", {}))

    @property
    def scorable_labels(self) -> list[str]:
        """The labels with both classes among the test images; others have no AUC."""
        counts = self.manifest["counts"].get("test", {"images": 0})
        return [label for label in self.labels if 0 < counts.get(f"positive_{label}", 0) < counts["images"]]

    def splits(self) -> pd.DataFrame:
        """Return the split table, one row per patient (columns: `raygrid.data.splits.rules`)."""
        path = self.folder / "splits.csv"
        found = checksum(path)
        if self.manifest.get("splits_sha256", found) != found:
            raise self._damaged("splits.csv is not the file that the manifest describes")
        return pd.read_csv(path, dtype={"patient_id": str}, keep_default_na=False)

    def training_set(self, split: str, role: str) -> TrainingSet:
        """Return the images of one role (`train` or `validation`) of a split.

        Raises StoreError if the disk of the node's cache has too little free space for the decoded images.
        """
        patients = members(self.splits(), split, role)
        with self._undamaged():
            shards = self._files("development")
            table = self._rows("development")
            rows = np.flatnonzero(table["patient_id"].isin(patients))
            rows = rows[np.argsort(table["image_id"].to_numpy(dtype=str)[rows], kind="stable")]
            chosen = table.iloc[rows]
            return TrainingSet(
                image_ids=tuple(chosen["image_id"]),
                labels=chosen[list(self.labels)].to_numpy(dtype=np.uint8, copy=True),  # PyTorch needs it writable
                images=MappedImages(map_images(f"{self.folder.name}-{digest(self.manifest)[:12]}", shards), rows),
            )

    def test_block(self, start: int, stop: int) -> SampleBatch:
        """Return the test images from position `start` up to `stop` in the order of their ids.

        Only the row groups with these images are decompressed.
        """
        parts, first = [], 0  # position of the first image of the current row group
        with self._undamaged():
            for path in self._files("test"):
                file = pq.ParquetFile(path)
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    low, high = max(start - first, 0), min(stop - first, rows)
                    if low < high:
                        parts.append(file.read_row_group(group).slice(low, high - low))
                    first += rows
            return self._batch(pa.concat_tables(parts))

    def table(self) -> pd.DataFrame:
        """Return ids, patients, labels and `part` of all images, in the order of the shards."""
        with self._undamaged():
            tables = [self._rows(part).assign(part=part) for part in ("development", "test")]
        return pd.concat(tables, ignore_index=True)

    def spread(self, count: int) -> SampleBatch:
        """Return about `count` images, evenly spaced over all images, development first."""
        parts, first = [], 0
        with self._undamaged():
            files = [*self._files("development"), *self._files("test")]
            lengths = [pq.read_metadata(path).num_rows for path in files]
            wanted = np.unique(np.linspace(0, sum(lengths) - 1, count).round().astype(int))
            for path, rows in zip(files, lengths, strict=True):
                here = wanted[(wanted >= first) & (wanted < first + rows)] - first
                if len(here):
                    parts.append(pq.read_table(path).take(here))
                first += rows
            return self._batch(pa.concat_tables(parts))

    def test_table(self) -> pd.DataFrame:
        """Return ids, patients and labels of all test images, in the order of their ids."""
        with self._undamaged():
            return self._rows("test")

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return sum(int(s["rows"]) for s in self.manifest["shards"] if s["part"] == "test")

    def _files(self, part: str) -> list[Path]:
        """Return the shards of one part, in the order of their images."""
        return [self.folder / shard["file"] for shard in self.manifest["shards"] if shard["part"] == part]

    def _rows(self, part: str) -> pd.DataFrame:
        columns = ["image_id", "patient_id", *self.labels]
        tables = [pq.read_table(path, columns=columns) for path in self._files(part)]
        rows: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return rows

    def _batch(self, table: pa.Table) -> SampleBatch:
        return SampleBatch(
            image_ids=tuple(table["image_id"].to_pylist()),
            patient_ids=tuple(table["patient_id"].to_pylist()),
            labels=np.stack([table[name].to_numpy() for name in self.labels], axis=1).astype(np.uint8),
            images=images_of(table),
        )

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        """Raise StoreError in place of the errors of pyarrow and pandas for absent or damaged files."""
        try:
            yield
        except RaygridError:
            raise
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from error

    def _damaged(self, how: str) -> StoreError:
        return StoreError(
            f"the samples in {self.folder} are damaged ({how}); delete this folder and run the study again"
        )
