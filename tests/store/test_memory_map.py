"""Training images: mapped once per node, complete and in order; the cache never keeps a partial file."""

import multiprocessing
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from raygrid.data.splits.draw import assign_splits
from raygrid.data.splits.rules import members
from raygrid.errors import StoreError
from raygrid.io.cache import cached_file
from raygrid.io.files import write_json, write_text
from raygrid.io.paths import CACHE_VARIABLE
from raygrid.spec import SplitSpec
from raygrid.store.memory_map import map_images
from raygrid.store.samples import SampleBatch, Samples, shard_rows, write_shard

Images = NDArray[np.uint8]

SHARDS = (70, 130, 1)  # rows; more and fewer than a row group


@pytest.fixture(scope="module")
def images() -> Images:
    return np.random.default_rng(2).integers(0, 256, (sum(SHARDS), 9, 7, 3), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def samples(tmp_path: Path, images: Images, cache: Path) -> Samples:
    """Image k is of patient k // 2 and has label k % 2. Both parts have all images, in three shards each."""
    ids = [f"i{k:03d}" for k in range(len(images))]
    patients = [f"p{k // 2:03d}" for k in range(len(images))]
    labels = (np.arange(len(images)) % 2).astype(np.uint8)[:, None]
    folder, shards, first = tmp_path / "samples", [], 0
    for number, rows in enumerate(SHARDS):
        part = slice(first, first + rows)
        batch = SampleBatch(tuple(ids[part]), tuple(patients[part]), labels[part], images[part])
        for name in ("development", "test"):
            write_shard(folder / f"{name}-{number}.parquet", ["finding"], batch)
            shards.append({"file": f"{name}-{number}.parquet", "part": name, "rows": rows})
        first += rows
    table = pd.DataFrame({"image_id": ids, "patient_id": patients, "part": "", "finding": labels[:, 0]})
    splits = assign_splits(table, ("finding",), SplitSpec(test_fraction=0.2, validation_fraction=0.3), 3)
    write_text(folder / "splits.csv", splits.to_csv(index=False))
    write_json(folder / "manifest.json", {"labels": ["finding"], "shards": shards})
    return Samples(folder)


@pytest.mark.parametrize(("split", "role"), [("d1", "train"), ("d2_half", "validation"), ("development", "train")])
def test_a_training_set_holds_the_images_of_its_patients(
    samples: Samples, images: Images, split: str, role: str
) -> None:
    chosen = samples.training_set(split, role)
    patients = members(samples.splits(), split, role)
    expected = [k for k in range(len(images)) if f"p{k // 2:03d}" in patients]
    assert chosen.image_ids == tuple(f"i{k:03d}" for k in expected)
    assert chosen.labels[:, 0].tolist() == [k % 2 for k in expected]
    some = np.array([5, 0, 3, 5])
    assert np.array_equal(chosen.images[some], images[expected][some])
    assert np.array_equal(chosen.images[2:9], images[expected][2:9])
    assert len(chosen) == len(chosen.images) == len(expected)


@pytest.mark.parametrize(("start", "stop"), [(0, 201), (60, 75), (63, 64), (130, 201), (200, 300)])
def test_a_test_block_is_cut_out_of_row_groups_and_shards(
    samples: Samples, images: Images, start: int, stop: int
) -> None:
    block = samples.test_block(start, stop)
    assert np.array_equal(block.images, images[start:stop])
    assert block.image_ids == tuple(f"i{k:03d}" for k in range(start, min(stop, len(images))))


def test_a_second_reader_decodes_nothing(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    first = samples.training_set("d1", "train")
    monkeypatch.setattr("raygrid.io.cache.atomic_path", lambda *_, **__: pytest.fail("decoded again"))
    again = samples.training_set("d1", "train")
    assert np.array_equal(first.images[:], again.images[:])


def test_a_truncated_file_and_the_remains_of_a_killed_writer_are_replaced(
    samples: Samples, images: Images, cache: Path
) -> None:
    samples.training_set("d1", "train")
    (path,) = cache.glob("*.uint8")
    path.write_bytes(path.read_bytes()[:1000])
    leftover = cache / f".writing-0123-{path.name}"
    leftover.write_bytes(b"half")
    stored = samples.training_set("development", "train").images.stored
    assert np.array_equal(stored, images)
    assert not leftover.exists()


def _write_slowly(counter: Path) -> None:
    def write(file: BinaryIO) -> None:
        with counter.open("a") as calls:
            calls.write("written\n")
        for _ in range(50):
            file.write(b"x" * 1000)
            file.flush()

    assert cached_file("shared", 50_000, write).read_bytes() == b"x" * 50_000


def test_one_of_several_processes_writes(cache: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    counter = tmp_path / "counter"
    processes = [context.Process(target=_write_slowly, args=(counter,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert counter.read_text() == "written\n"


def test_a_failed_write_leaves_no_file(cache: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        cached_file("broken", 100, write)
    assert [path.name for path in cache.iterdir()] == ["broken.lock"]


def test_too_little_free_space_is_an_error_before_anything_is_written(
    samples: Samples, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(StoreError, match=f"0.0 GB free.*set {CACHE_VARIABLE} to a folder"):
        samples.training_set("d1", "train")
    assert not list(cache.glob("*.uint8"))


def test_a_cache_of_another_user_is_refused(samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    owner = os.getuid()
    (tmp_path / f"raygrid-{owner + 1}").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(StoreError, match="belongs to another user"):
        samples.training_set("d1", "train")


def test_the_same_key_means_the_same_images(samples: Samples, images: Images) -> None:
    shards = [samples.folder / f"development-{k}.parquet" for k in range(3)]
    assert np.array_equal(map_images("one", shards), images)
    assert np.array_equal(map_images("two", shards[:1]), images[:70])


def test_shards_of_large_images_hold_fewer() -> None:
    assert shard_rows(40 * 40 * 3, 500) == 256
    assert shard_rows(40 * 40 * 3, 4001) == 1001
    assert shard_rows(40 * 40 * 3, 10**6) == 2048
    assert shard_rows(512 * 512 * 3, 10**6) == 85
    assert shard_rows(10**9, 1) == 1
