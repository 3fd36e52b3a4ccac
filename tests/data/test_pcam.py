"""The loader of PatchCamelyon, on a small generated copy of its layout."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_data import make_pcam

from raygrid.data.datasets.pcam import PCam
from raygrid.errors import DataError, SpecError
from raygrid.spec import DatasetSpec


@pytest.fixture
def patches(tmp_path: Path) -> dict[str, np.ndarray]:
    return make_pcam(tmp_path)


def pcam(tmp_path: Path, size: int = 96, **options: object) -> PCam:
    return PCam(DatasetSpec(loader="pcam", image_size=size, channels=3, options=options), tmp_path)


def write_slides(tmp_path: Path, part: str, slides: list[str]) -> None:
    rows = "".join(f"{i},1,{slide}\n" for i, slide in enumerate(slides))
    (tmp_path / "pcam" / f"camelyonpatch_level_2_split_{part}_meta.csv").write_text(f",coord_x,wsi\n{rows}")


def test_pcam_reads_the_patch_its_row_names(patches, tmp_path):
    data = pcam(tmp_path)
    index = data.index()
    assert "each patch counts as its own patient" in index.notes[0]
    table = index.table.set_index("image_id")
    assert table["part"].value_counts().to_dict() == {"development": 8, "test": 4}
    assert (table["patient_id"] == table.index).all()
    assert table.loc["train-000003", "metastasis"] == 1
    assert table.loc["valid-000002", "metastasis"] == 0
    for name, part, number in (("train-000003", "train", 3), ("valid-000002", "valid", 2), ("test-000000", "test", 0)):
        assert np.array_equal(data.read(table.loc[name, "locator"]), patches[part][number])
    assert pcam(tmp_path, size=48).read("train/3").shape == (48, 48, 3)
    assert pcam(tmp_path, size=48).source_size("train/3") == (96, 96)


def test_pcam_survives_pickling_with_open_files(patches, tmp_path):
    data = pcam(tmp_path)
    first = data.read("train/1")
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy.read("train/1"), first)
    assert np.array_equal(data.read("train/2"), patches["train"][2])


def test_pcam_takes_slides_as_patients(patches, tmp_path):
    for part, slides in (("train", ["a", "a", "b", "b", "b"]), ("valid", ["c"] * 3), ("test", ["d", "d", "e", "e"])):
        write_slides(tmp_path, part, slides)
    index = pcam(tmp_path).index()
    assert index.notes == ()
    table = index.table.set_index("image_id")
    assert table.loc["train-000004", "patient_id"] == "b"
    assert table["patient_id"].nunique() == 5
    write_slides(tmp_path, "valid", ["c"] * 2)
    with pytest.raises(DataError, match=r"valid_meta\.csv: expected 3 rows"):
        pcam(tmp_path).index()
    (tmp_path / "pcam" / "camelyonpatch_level_2_split_valid_meta.csv").unlink()
    with pytest.raises(DataError, match=r"for all of .* got it for \['train', 'test'\]"):
        pcam(tmp_path).index()


def test_pcam_lists_absent_files(patches, tmp_path):
    gone = tmp_path / "pcam" / "camelyonpatch_level_2_split_valid_y.h5"
    gone.unlink()
    lines = pcam(tmp_path).missing()
    assert len(lines) == 2
    assert f"{gone}:" in lines[0]
    assert "github.com/basveeling/pcam" in lines[1]


def test_pcam_names_a_damaged_file(patches, tmp_path):
    path = tmp_path / "pcam" / "camelyonpatch_level_2_split_test_x.h5"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"test_x\.h5: expected an HDF5 file"):
        pcam(tmp_path).index()
    with pytest.raises(DataError, match=r"test_x\.h5: expected a readable patch 1.*basveeling/pcam"):
        pcam(tmp_path).read("test/1")


@pytest.mark.parametrize(
    ("kind", "name", "array", "message"),
    [
        ("x", "x", np.zeros((5, 64, 64, 3), np.uint8), r"train_x\.h5: expected 'x' of shape"),
        ("x", "images", np.zeros((5, 96, 96, 3), np.uint8), r"expected a dataset 'x'.*'images'"),
        ("y", "y", np.zeros((4, 1, 1, 1), np.uint8), r"train_y\.h5: expected 5 labels.*got 4"),
        ("y", "y", np.array([0, 1, 0, 7, 0], np.uint8), r"train_y\.h5, row 3: expected the label 0 or 1, got 7"),
    ],
)
def test_pcam_refuses_files_of_another_content(patches, tmp_path, kind, name, array, message):
    with h5py.File(tmp_path / "pcam" / f"camelyonpatch_level_2_split_train_{kind}.h5", "w") as file:
        file.create_dataset(name, data=array)
    with pytest.raises(DataError, match=message):
        pcam(tmp_path).index()


def test_pcam_refuses_a_patch_that_is_not_there(patches, tmp_path):
    with pytest.raises(DataError, match="expected a readable patch 99"):
        pcam(tmp_path).read("train/99")


def test_pcam_has_no_options(tmp_path):
    with pytest.raises(SpecError, match="unknown option 'findings'"):
        pcam(tmp_path, findings=["mass"])


def test_a_damaged_chunk_costs_only_its_own_patches(tmp_path: Path) -> None:
    path = tmp_path / "pcam" / "camelyonpatch_level_2_split_train_x.h5"
    path.parent.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (64, 96, 96, 3), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", data=images, chunks=(16, 96, 96, 3), compression="gzip")
        chunk = dataset.id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + 100)
        raw.write(bytes(5000))
    pcam = PCam(DatasetSpec(loader="pcam", image_size=96, channels=3), tmp_path)
    for number in (0, 15, 32, 63):
        assert np.array_equal(pcam.read(f"train/{number}"), images[number])
    for number in (16, 31):
        with pytest.raises(DataError, match=f"a readable patch {number}"):
            pcam.read(f"train/{number}")
