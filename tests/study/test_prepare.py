"""Preparation through Ray: rejects are named and counted, nothing is done twice, a kill changes no byte."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raygrid.data.datasets import Index
from raygrid.errors import DataError, StoreError
from raygrid.io.files import read_json, write_json
from raygrid.spec import DatasetSpec, ModalitySpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid
from raygrid.store.samples import Samples
from raygrid.study.earlier_samples import READING
from raygrid.study.inspect_data import split_counts
from raygrid.study.prepare import PreparedModality, prepare_missing, survey, with_division_note

NUM_PATIENTS = 20


def study(size: int = 32) -> StudySpec:
    modality = ModalitySpec(
        name="ophthalmology",
        dataset=DatasetSpec(loader="kaggle_dr", image_size=size, channels=3),
        splits=SplitSpec(test_fraction=0.3, validation_fraction=0.3),
        recipe=Recipe(epochs=1),
    )
    return StudySpec(
        name="toy", seed=3, modalities=(modality,), models=(), transfer=TransferSpec(attacks=attack_grid((0.02,)))
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with 40 small fundus photographs of 20 patients, all in the training part but two."""
    generator = np.random.default_rng(0)
    rows = {"train": ["image,level"], "test": ["image,level"]}
    for patient in range(NUM_PATIENTS):
        part = "test" if patient == 0 else "train"
        for eye in ("left", "right"):
            path = tmp_path / "data" / "kaggle_dr" / part / f"{patient}_{eye}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(60, 200, (40, 48, 3)).astype(np.uint8)).save(path)
            rows[part].append(f"{patient}_{eye},{patient % 4}")
    for part, name in (("train", "trainLabels.csv"), ("test", "retinopathy_solution.csv")):
        (tmp_path / "data" / "kaggle_dr" / name).write_text("\n".join(rows[part]) + "\n")
    return tmp_path / "data"


def prepare(root: Path, *, share: float = 0.001, size: int = 32) -> PreparedModality:
    surveyed = survey(study(size), root.parent / "study", root, share)
    prepare_missing(surveyed, root, share)
    return surveyed[0]


def damage(root: Path, name: str = "3_left") -> Path:
    """Cut an image in half; its header stays readable."""
    path = root / "kaggle_dr" / "train" / f"{name}.jpeg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_reject_is_named_and_left_out_of_all_counts(root, ray_session, capsys):
    path = damage(root)
    done = prepare(root, share=0.05)
    manifest = Samples(done.folder).manifest
    assert [reject["image_id"] for reject in manifest["rejects"]] == ["3_left"]
    assert str(path) in manifest["rejects"][0]["reason"]
    assert sum(part["images"] for part in manifest["counts"].values()) == 39
    assert sum(shard["rows"] for shard in manifest["shards"]) == 39
    assert manifest["source_sizes"] == {"40 x 48": 39}
    assert "left out 1 unusable images" in capsys.readouterr().out


def test_the_meaning_of_a_label_is_kept_and_another_name_of_it_told(root, ray_session, capsys):
    old = root.parent / "study" / "samples" / "ophthalmology-0123456789ab"
    write_json(old / "manifest.json", {"labels": ["positive"]})
    done = prepare(root)
    assert Samples(done.folder).label_meanings == {"referable": "diabetic retinopathy of grade 2 or more"}
    assert Samples(old).label_meanings == {}
    told = (
        "prepare: ophthalmology: the study has samples with the labels (positive); the data set now gives (referable)"
    )
    assert told in capsys.readouterr().out


def test_too_many_rejects_stop_and_lose_nothing(root, ray_session):
    path = damage(root)
    with pytest.raises(DataError) as caught:
        prepare(root)
    message = str(caught.value)
    assert "1 of 40 images cannot be used, more than the permitted 0.1%" in message
    assert f"\n  {path}: expected a complete" in message
    assert message.count("3_left") == 1  # named once, by its path
    assert "--max-rejected-share" in message
    listing = root.parent / "study" / "samples" / "ophthalmology-rejects.csv"
    assert str(listing) in message
    assert pd.read_csv(listing)["image_id"].tolist() == ["3_left"]
    folder = survey(study(), root.parent / "study", root)[0].folder
    untouched = {p: p.stat().st_mtime_ns for p in folder.glob("test-*.parquet")}
    assert untouched  # the damaged image is a development image
    assert not (folder / "manifest.json").exists()
    prepare(root, share=0.05)
    assert (folder / "manifest.json").exists()
    assert {p: p.stat().st_mtime_ns for p in folder.glob("test-*.parquet")} == untouched


def test_the_permitted_share_is_exact(root, ray_session):
    damage(root)
    with pytest.raises(DataError, match="1 of 40"):
        prepare(root, share=0.0249)
    assert prepare(root, share=0.025).is_prepared


def test_a_second_run_reads_nothing(root, ray_session, capsys):
    done = prepare(root)
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")}
    capsys.readouterr()
    prepare(root)
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")} == before


def test_files_and_signature_do_not_depend_on_when_and_where(root, ray_session, tmp_path):
    done = prepare(root)
    first = hashes(done.folder)
    labels = root / "kaggle_dr" / "trainLabels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *reversed(rows)]))
    surveyed = survey(study(), tmp_path / "elsewhere", root)
    prepare_missing(surveyed, root)
    assert surveyed[0].signature == done.signature
    assert hashes(surveyed[0].folder) == first


@pytest.mark.parametrize("change", ["image", "label", "size"])
def test_the_signature_sees_every_change_of_the_input(root, change):
    before = survey(study(), root.parent / "study", root)[0].signature
    if change == "image":
        damage(root)
    if change == "label":
        labels = root / "kaggle_dr" / "trainLabels.csv"
        labels.write_text(labels.read_text().replace("3_left,3", "3_left,0"))
    assert survey(study(48 if change == "size" else 32), root.parent / "study", root)[0].signature != before


def test_counts_per_split_are_those_of_the_patients(root, ray_session):
    samples = Samples(prepare(root).folder)
    table = split_counts(samples).set_index(["split", "role"])
    splits = samples.splits()
    for split in ("d1", "d2"):
        for role in ("train", "validation"):
            patients = int(((splits["split"] == split) & (splits["role"] == role)).sum())
            assert table.loc[(split, role), "patients"] == patients
            assert table.loc[(split, role), "images"] == 2 * patients
    assert table.loc[("test", ""), "patients"] == 6
    images = samples.table()
    test = images[images["part"] == "test"]
    assert table.loc[("test", ""), "referable"] == pytest.approx(test["referable"].mean())


def test_patients_without_any_image_are_named(root, ray_session, capsys):
    for eye in ("left", "right"):
        damage(root, f"3_{eye}")
    done = prepare(root, share=0.05)
    (named,) = Samples(done.folder).manifest["patients_without_images"]
    assert named.startswith("3 (d")
    assert (
        f"some patients have no usable image, so d1 and d2 may differ in patients: {named}" in capsys.readouterr().out
    )


def test_an_error_inside_a_task_comes_out_as_it_was(root, ray_session, monkeypatch):
    surveyed = survey(study(), root.parent / "study", root)
    surveyed[0].folder.mkdir(parents=True)
    (surveyed[0].folder / "shards").write_text("in the way of the done-markers")
    with pytest.raises(StoreError, match="cannot be written"):
        prepare_missing(surveyed, root)


def test_a_shard_that_is_gone_is_made_again(root, ray_session):
    done = prepare(root)
    before = hashes(done.folder)
    (done.folder / "manifest.json").unlink()
    next(done.folder.glob("development-*.parquet")).unlink()
    prepare(root)
    assert hashes(done.folder) == before


def test_samples_of_an_earlier_version_are_used_and_told(root, ray_session, capsys):
    path = prepare(root).folder / "manifest.json"
    prepare(root)
    assert "earlier version" not in capsys.readouterr().out
    earlier = {name: value for name, value in read_json(path).items() if name != READING}
    write_json(path, earlier)
    prepare(root)
    assert f"delete {path.parent} to prepare them again" in capsys.readouterr().out
    assert read_json(path) == earlier


@pytest.mark.parametrize("name", ["test-00000.parquet", "development-00000.parquet", "splits.csv"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_damaged_samples_are_named(root, ray_session, name, how):
    samples = Samples(prepare(root).folder)
    path = samples.folder / name
    if how == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    with pytest.raises(StoreError, match=rf"{samples.folder}.* (delete|run the study again)"):
        samples.test_table() if name.startswith("test") else samples.training_set("d1", "train")


def test_a_division_that_is_not_used_is_said(tmp_path, capsys):
    index = Index(
        ("x",),
        pd.DataFrame({"image_id": ["a"], "patient_id": "a", "part": "test", "locator": "", "content": "", "x": 0}),
    )
    modality = study().modalities[0]
    assert "test_fraction draws the test patients" in with_division_note(index, modality).notes[0]
    official = dataclasses.replace(modality, splits=SplitSpec())
    assert with_division_note(index, official).notes == ()


EXPERIMENT = Path(__file__).parents[1] / "helpers" / "tiny_grid.py"


def start(output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXPERIMENT), "--output", str(output), "--num-cpus", "2", "--only", "prepare"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(output: Path) -> None:
    process = start(output)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text


@pytest.mark.slow
def test_a_killed_preparation_ends_with_the_same_files(finished: Path, tmp_path: Path) -> None:
    process = start(tmp_path / "killed")
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed" / "samples").glob("*/shards/*.json")):
        assert process.poll() is None, "the preparation ended before it could be killed"
        assert time.monotonic() < deadline, "no shard was finished"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list((tmp_path / "killed" / "samples").glob("*/manifest.json"))) < 2
    finish(tmp_path / "killed")
    assert hashes(tmp_path / "killed" / "samples") == hashes(finished / "samples")
