"""Doubtful images: identical under two patients or labels, and suspect; counted, listed, in the manifest's notes."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raygrid.data.damage import SuspectImageWarning
from raygrid.errors import DataError
from raygrid.spec import DatasetSpec, ModalitySpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid
from raygrid.store.samples import Samples
from raygrid.study import shards
from raygrid.study.findings import LISTING, SUSPECTS, findings_of, refuse_contradictions, write_findings
from raygrid.study.prepare import PreparedModality, prepare_missing, survey

GREY = np.random.default_rng(2).integers(0, 256, (40, 32, 32)).astype(np.uint8)
SPEC = DatasetSpec(loader="table", image_size=32, channels=1, options={"table": "t.csv", "labels": ["mass"]})


def write_table(root: Path, rows: list[tuple[str, str, int, str]]) -> None:
    """Write a table of (image, patient, label, split); an image file that exists is kept."""
    root.mkdir(exist_ok=True)
    for number, (name, *_) in enumerate(rows):
        if not (root / name).exists():
            Image.fromarray(GREY[number]).save(root / name)
    (root / "t.csv").write_text("image,patient,mass,split\n" + "".join(f"{','.join(map(str, r))}\n" for r in rows))


def ordinary() -> list[tuple[str, str, int, str]]:
    """Return eleven images of eleven patients, three of them for testing; none is unused."""
    return [(f"{n}.png", f"P{n}", n % 2, "test" if n < 3 else "train") for n in range(11)]


def prepare(root: Path, share: float = 0.001) -> PreparedModality:
    modality = ModalitySpec(name="clinic", dataset=SPEC, splits=SplitSpec(), recipe=Recipe(epochs=1))
    transfer = TransferSpec(attacks=attack_grid((0.02,)))
    study = StudySpec(name="toy", seed=3, modalities=(modality,), models=(), transfer=transfer)
    surveyed = survey(study, root.parent / "study", root, share)
    prepare_missing(surveyed, root, share)
    return surveyed[0]


def copy(root: Path, source: str, target: str) -> None:
    (root / target).write_bytes((root / source).read_bytes())


def test_a_test_image_in_development_is_told_first_and_listed(tmp_path, ray_session, capsys):
    root = tmp_path / "data"
    write_table(root, ordinary())
    copy(root, "4.png", "0.png")  # both are negative
    (root / "1.png").unlink()
    (root / "1.png").symlink_to("5.png")  # both are positive
    done = prepare(root)
    notes = Samples(done.folder).manifest["notes"]
    assert notes[0].startswith("2 of 3 test images are also in development, under another patient: ")
    assert notes[1].startswith("4 images are identical to an image of another patient, 4 of them across d1, d2 and")
    assert len(notes) == 2
    out = capsys.readouterr().out
    assert f"prepare: clinic: {notes[0]}" in out
    listed = pd.read_csv(done.folder / LISTING)
    assert {frozenset(rows["image_id"]) for _, rows in listed.groupby("group")} == {
        frozenset(("0.png", "4.png")),
        frozenset(("1.png", "5.png")),
    }
    assert set(listed["place"][listed["image_id"].isin(("0.png", "1.png"))]) == {"test"}


def test_labels_that_identical_images_contradict_stop_the_run(tmp_path, ray_session, capsys):
    root = tmp_path / "data"
    write_table(root, ordinary())
    copy(root, "4.png", "5.png")
    copy(root, "4.png", "0.png")
    with pytest.raises(DataError) as caught:
        prepare(root, share=0.27)
    message = str(caught.value)
    assert "clinic: 3 of 11 images contradict the labels of an identical image, more than the permitted 27.0%" in (
        message
    )
    assert "\n  0.png of patient P0 has mass 0, the identical 5.png of patient P5 has mass 1\n" in message
    listing = tmp_path / "study" / "samples" / "clinic-contradictions.csv"
    assert str(listing) in message
    assert pd.read_csv(listing)["image_id"].tolist() == ["0.png", "4.png", "5.png"]
    assert "1 of 3 test images are also in development" in capsys.readouterr().out  # told before the run stops
    done = prepare(root, share=0.28)
    assert any(note.startswith("3 images contradict the labels") for note in Samples(done.folder).manifest["notes"])


class Doubtful:
    """A data set that warns about some of its images, as a decoder does."""

    phantom = True  # nothing to bring

    def source_size(self, locator: str) -> tuple[int, int]:
        if locator == "a: b.png":
            warnings.warn(SuspectImageWarning(f"/data/{locator}: range 3 to 17: odd"), stacklevel=2)
        return (32, 32)

    def read(self, locator: str) -> np.ndarray:
        if locator == "gone.png":
            warnings.warn(SuspectImageWarning(f"/data/{locator}: unseen"), stacklevel=2)
            raise DataError(f"/data/{locator}: damaged")
        if locator == "a: b.png":
            warnings.warn(SuspectImageWarning(f"/data/{locator}: range 3 to 17: odd"), stacklevel=2)
        if locator == "c.png":
            warnings.warn(SuspectImageWarning(f"/data/{locator}: range 5 to 9: odd"), stacklevel=2)
            warnings.warn(SuspectImageWarning(f"/data/{locator}: far from round"), stacklevel=2)
            warnings.warn("something else", DeprecationWarning, stacklevel=2)
        if locator.startswith("blank"):
            return np.full((32, 32, 1), 7, np.uint8)
        return GREY[sum(locator.encode()) % 40][..., None]


@pytest.fixture
def doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, list[dict]]:
    """Return the table and the shard reports of a `Doubtful` data set of six patients."""
    monkeypatch.setattr(shards, "open_dataset", lambda spec, root: Doubtful())
    names = ["a: b.png", "blank1.png", "blank2.png", "c.png", "gone.png", "ok.png"]
    table = pd.DataFrame({"image_id": names, "patient_id": [f"P{n}" for n in range(6)], "locator": names, "mass": 0})
    table["mass"] = np.arange(6, dtype=np.uint8) % 2
    table["part"] = ["development"] * 5 + ["test"]
    jobs = shards.shard_jobs(SPEC, ["mass"], table, tmp_path / "samples")
    with pytest.warns(DeprecationWarning, match="something else"):
        assert [shards.prepare_in_task(job, str(tmp_path))["error"] for job in jobs] == ["", ""]
    return table, [json.loads(shards.report_path(job).read_text()) for job in jobs]


def findings(table: pd.DataFrame, reports: list[dict]):
    splits = pd.DataFrame({"patient_id": table["patient_id"], "split": ["d1", "d1", "d2", "d2", "d2", ""]})
    return findings_of(table, splits, ["mass"], reports)


def test_suspect_images_are_counted_per_observation(doubtful, tmp_path):
    found = findings(*doubtful)
    assert found.suspects.to_numpy().tolist() == [
        ["a: b.png", "range 3 to 17: odd"],
        ["blank1.png", shards.BLANK],
        ["blank2.png", shards.BLANK],
        ["c.png", "range 5 to 9: odd"],
        ["c.png", "far from round"],
    ]
    notes = write_findings(found, tmp_path)
    assert [note.partition(" (all")[0] for note in notes] == [
        "2 images are suspect: range 3 to 17: odd; the first is a: b.png",
        "2 images are suspect: blank: every prepared pixel has the same value; the first is blank1.png",
        "1 images are suspect: far from round; the first is c.png",
    ]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / SUSPECTS), found.suspects)
    assert not (tmp_path / LISTING).exists()  # blank images are no copies, although their labels differ


def test_blank_images_of_unlike_labels_are_no_contradiction(doubtful, tmp_path):
    refuse_contradictions("clinic", findings(*doubtful), 6, 0.0, tmp_path)


def test_shards_of_an_earlier_version_are_told_and_not_compared(doubtful, tmp_path):
    table, reports = doubtful
    for key in ("pixels", "suspects"):
        del reports[0][key]
    (note,) = write_findings(findings(table, reports), tmp_path / "clinic-0123")
    assert note.startswith("1 shards are from an earlier version of raygrid: their images were not compared")
    assert "delete clinic-0123/" in note


def test_many_kinds_of_observation_are_summed_up(doubtful, tmp_path):
    table, reports = doubtful
    reports[0]["suspects"] += [{"image_id": f"{n}.png", "observation": f"kind {'abcdefgh'[n]}"} for n in range(8)]
    notes = write_findings(findings(table, reports), tmp_path)
    assert len(notes) == 6, notes
    assert notes[-1] == f"6 more observations, about 6 images, are in {SUSPECTS}"
