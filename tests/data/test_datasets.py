"""Loaders of the official layouts, each made small from generated arrays."""

import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from small_data import ENTRIES, fundus, make_chest, make_kaggle, make_pcam, save, write_entries

from raygrid.data.datasets.chestxray14 import FINDINGS, ChestXray14
from raygrid.data.datasets.kaggle_dr import KaggleDR
from raygrid.data.datasets.pcam import PCam
from raygrid.data.images.crop import crop_field_of_view, crop_middle
from raygrid.data.images.decode import decode_image
from raygrid.data.images.intensity import resize_square
from raygrid.data.splits.draw import assign_splits
from raygrid.errors import DataError, MissingDataError, SpecError
from raygrid.spec import DatasetSpec, SplitSpec

RNG = np.random.default_rng(0)


def spec(loader: str, size: int = 32, channels: int = 3, **options: object) -> DatasetSpec:
    return DatasetSpec(loader=loader, image_size=size, channels=channels, options=options)


# Kaggle diabetic retinopathy


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    return make_kaggle(tmp_path)


def kaggle_dr(root: Path) -> KaggleDR:
    return KaggleDR(spec("kaggle_dr"), root.parent)


def test_kaggle_merges_both_parts_despite_bom_and_crlf(kaggle):
    data = kaggle_dr(kaggle)
    assert data.missing() == []
    index = data.index()
    table = index.table.set_index("image_id")
    assert index.labels == ("referable",)
    assert table["referable"].to_dict() == {
        "10_left": 0, "10_right": 0, "13_left": 1, "13_right": 1, "1_left": 1, "1_right": 0,
    }  # fmt: skip
    assert table["referable"].dtype == np.uint8
    assert table["patient_id"].to_dict()["13_right"] == "13"
    assert set(table["part"]) == {""}
    size = (kaggle / "test" / "1_left.jpeg").stat().st_size
    assert f"{size} bytes" in table.loc["1_left", "content"]
    image = data.read(table.loc["1_left", "locator"])
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert image[16, 1:31, 0].min() > 40  # the disc fills the width once its border is gone


def test_kaggle_fingerprint_sees_a_changed_image(kaggle):
    before = kaggle_dr(kaggle).index().fingerprint()
    save(fundus(80, 120, (40, 60), 37), kaggle / "test" / "1_left.jpeg")
    assert kaggle_dr(kaggle).index().fingerprint() != before


def test_kaggle_says_what_is_missing_and_where_to_get_it(tmp_path):
    lines = kaggle_dr(tmp_path / "kaggle_dr").missing()
    for name, line in zip(("train", "trainLabels.csv", "test", "retinopathy_solution.csv"), lines[:4], strict=True):
        assert f"{tmp_path / 'kaggle_dr' / name}:" in line
    assert "diabetic-retinopathy-detection" in lines[4]
    assert "docs/how-to/data-sets.md" in lines[4]
    assert len(lines) == 5
    with pytest.raises(MissingDataError, match=r"trainLabels\.csv: not found"):
        kaggle_dr(tmp_path / "kaggle_dr").index()


def test_kaggle_rejects_absent_and_empty_images_by_name(kaggle):
    (kaggle / "train" / "13_left.jpeg").unlink()
    (kaggle / "test" / "1_right.jpeg").write_bytes(b"")
    index = kaggle_dr(kaggle).index()
    assert list(index.table["image_id"]) == ["10_left", "10_right", "13_right", "1_left"]
    first, second = index.rejects
    assert first.image_id == "13_left"
    assert f"{kaggle / 'train' / '13_left.jpeg'}: expected an image file, got no such file" in first.reason
    assert "www.kaggle.com/c/diabetic-retinopathy-detection" in first.reason  # the advice, once
    assert second.image_id == "1_right"
    assert "got an empty file (0 bytes); extract the file again from its archive" in second.reason


def test_kaggle_without_any_image_is_missing(kaggle):
    for file in kaggle.glob("*/*.jpeg"):
        file.unlink()
    with pytest.raises(MissingDataError, match=r"none of the 6 images .*10_left, (.|\n)*www\.kaggle\.com"):
        kaggle_dr(kaggle).index()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("image,level,Usage\n1_left,3,Private\n1_right,x,Public\n", r"solution\.csv, row 3: expected a grade.*'x'"),
        ("image,level,Usage\n1_left,-1,Private\n", r"row 2: expected a grade.*'-1'"),
        ("image,grade\n1_left,3\n", r"row 1: expected the columns .*lacking \['level'\]"),
        ("image,level\n1_left\n", r"row 2: expected 2 values, got 1"),
        ("image,level\nleft_1,0\n", r"row 2: expected an image name such as '10_left'.*'left_1'"),
        ("image,level\n1_left,0\n10_left,0\n", r"row 3: image '10_left' was graded before"),
        ("", r"row 1: expected the columns"),
    ],
)
def test_kaggle_names_file_and_row_of_a_bad_label(kaggle, labels, message):
    (kaggle / "retinopathy_solution.csv").write_text(labels)
    with pytest.raises(DataError, match=message):
        kaggle_dr(kaggle).index()


def test_labels_that_are_no_text_are_a_data_error(kaggle):
    (kaggle / "trainLabels.csv").write_bytes(b"image,level\n\xff\xfe\x00,0\n")
    with pytest.raises(DataError, match=r"trainLabels\.csv: expected a CSV file in UTF-8"):
        kaggle_dr(kaggle).index()


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_an_unreadable_image_is_named(kaggle, content):
    path = kaggle / "train" / "10_left.jpeg"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    message = r"10_left\.jpeg: expected a complete PNG, JPEG.*, got .*; extract the file again from its archive"
    with pytest.raises(DataError, match=message):
        kaggle_dr(kaggle).read("train/10_left.jpeg")


def test_specs_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(SpecError, match="channels is 1, expected 3"):
        KaggleDR(spec("kaggle_dr", channels=1), tmp_path)
    with pytest.raises(SpecError, match="channels is 3, expected 1"):
        ChestXray14(spec("chestxray14"), tmp_path)
    with pytest.raises(SpecError, match="did you mean 'findings'"):
        ChestXray14(spec("chestxray14", channels=1, finding=["mass"]), tmp_path)
    with pytest.raises(SpecError, match="unknown option 'findings'"):
        PCam(spec("pcam", findings=["mass"]), tmp_path)


# The field of view


@pytest.mark.parametrize(("centre", "radius"), [((150, 200), 120), ((140, 260), 100), ((150, 200), 60)])
def test_the_field_of_view_is_found_to_two_pixels(centre, radius):
    cropped = crop_field_of_view(fundus(300, 400, centre, radius))
    disc = cropped[..., 0] > 30  # the noise of the border ends at 4, the disc begins at 72
    for axis in (0, 1):
        inside = np.flatnonzero(disc.any(axis=axis))
        assert abs(len(inside) - (2 * radius + 1)) <= 2  # nothing of the field is lost
        assert inside[0] <= 2
        assert cropped.shape[1 - axis] - 1 - inside[-1] <= 2


def test_a_field_cut_off_at_the_frame_keeps_its_proportions():
    cropped = crop_field_of_view(fundus(200, 400, (100, 200), 130))
    assert cropped.shape[0] == 200
    assert abs(cropped.shape[1] - 261) <= 4
    square = resize_square(cropped, 130)
    assert square[:10].max() <= 1  # padded, not stretched
    assert square[60:70, 20:110, 0].min() > 50


def test_the_middle_of_the_field_is_a_window_of_its_longer_side():
    image = np.arange(100 * 80, dtype=np.uint32).astype(np.uint8).reshape(100, 80, 1).repeat(3, axis=2)
    middle = crop_middle(image, 0.6)
    assert middle.shape == (60, 60, 3)
    assert np.array_equal(middle, image[20:80, 10:70])
    assert crop_middle(image, 0.9).shape == (90, 80, 3)  # no further than the image
    assert np.array_equal(crop_middle(image, 1.0), image)


@pytest.mark.parametrize("share", [0.1, 1.2, "half"])
def test_a_central_field_that_is_no_share_is_refused(share, tmp_path):
    spec = DatasetSpec(loader="kaggle_dr", image_size=32, channels=3, options={"central_field": share})
    with pytest.raises(SpecError, match=r"central_field.*expected a share"):
        KaggleDR(spec, tmp_path)


def test_specks_and_lettering_on_the_border_are_not_the_field():
    image = fundus(300, 400, (150, 200), 100)
    image[5:12, 5:20] = 255
    image[290, 399] = 255
    image[5:60, 100:103] = 255  # a scratch that reaches the rows of the field
    assert np.abs(np.array(crop_field_of_view(image).shape[:2]) - 201).max() <= 2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 60, 3), np.uint8),
        np.full((50, 60, 3), 200, np.uint8),
        RNG.integers(80, 200, (50, 60, 3)).astype(np.uint8),
    ],
)
def test_an_image_without_border_stays_whole(image):
    assert np.array_equal(crop_field_of_view(image), image)


def test_a_cropped_image_is_cropped_no_further():
    once = crop_field_of_view(fundus(300, 400, (150, 200), 120))
    assert np.abs(np.array(crop_field_of_view(once).shape) - once.shape).max() <= 1


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((256, 256, 1), np.uint8)
    stripes[:, ::2] = 200
    small = resize_square(stripes, 32)
    assert small.shape == (32, 32, 1)
    assert np.abs(small[4:-4, 4:-4].astype(int) - 100).max() <= 3


# ChestX-ray14


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    return make_chest(tmp_path)


def xray(root: Path, **options: object) -> ChestXray14:
    return ChestXray14(spec("chestxray14", channels=1, **options), root.parent)


def test_chestxray_indexes_only_what_the_lists_name(chest):
    index = xray(chest).index()
    table = index.table.set_index("image_id")
    assert index.labels == FINDINGS
    assert len(FINDINGS) == 14
    assert list(table.index) == ["00000001_000.png", "00000001_001.png", "00000002_000.png"]
    assert list(table["part"]) == ["development", "development", "test"]
    assert list(table["patient_id"]) == ["1", "1", "2"]
    assert table.loc["00000001_001.png", list(FINDINGS)].sum() == 2
    assert table.loc["00000001_001.png", ["cardiomegaly", "pleural_thickening"]].tolist() == [1, 1]
    assert table.loc["00000002_000.png", list(FINDINGS)].sum() == 0
    assert xray(chest).read(table["locator"].iloc[0]).shape == (32, 32, 1)


def test_chestxray_keeps_chosen_findings_in_the_standard_order(chest):
    index = xray(chest, findings=["pleural_thickening", "cardiomegaly"]).index()
    assert index.labels == ("cardiomegaly", "pleural_thickening")
    assert index.table["pleural_thickening"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("findings", "message"),
    [(["oedema"], "did you mean 'edema'"), ([], "expected a list of at least one"), ("mass", "expected a list")],
)
def test_chestxray_refuses_misspelt_findings(tmp_path, findings, message):
    with pytest.raises(SpecError, match=message):
        xray(tmp_path / "chestxray14", findings=findings)


@pytest.mark.parametrize("folder", ["images_002/images", "images_002"])
def test_chestxray_accepts_the_archives_kept_apart_and_the_later_label_file(chest, folder):
    target = chest / folder
    target.mkdir(parents=True)
    (chest / "images" / "00000002_000.png").rename(target / "00000002_000.png")
    (chest / "Data_Entry_2017.csv").rename(chest / "Data_Entry_2017_v2020.csv")
    table = xray(chest).index().table.set_index("image_id")
    assert table.loc["00000002_000.png", "locator"] == f"{folder}/00000002_000.png"
    assert table.loc["00000001_000.png", "locator"] == "images/00000001_000.png"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_an_xray_in_any_mode_comes_out_grey(tmp_path, mode):
    grey = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    picture = Image.fromarray(grey).convert(mode)
    if mode == "RGBA":
        picture.putalpha(255)
    picture.save(tmp_path / "x.png")
    assert np.array_equal(decode_image(tmp_path / "x.png", 1)[..., 0], grey)


def test_chestxray_patient_in_both_lists_stops_the_official_division_only(chest):
    write_entries(chest / "Data_Entry_2017.csv", [*ENTRIES[:2], ("00000002_000.png", "No Finding", 1)])
    index = xray(chest).index()
    with pytest.raises(DataError, match=r"1 patients are in both official parts.*: 1;"):
        assign_splits(index.table, index.labels, SplitSpec(), seed=0)


def test_chestxray_names_an_image_in_both_lists(chest):
    (chest / "test_list.txt").write_text("00000002_000.png\n00000001_001.png\n")
    with pytest.raises(DataError, match=r"1 images are in both .*: 00000001_001\.png"):
        xray(chest).index()


def test_chestxray_rejects_absent_and_empty_images_by_name(chest):
    (chest / "test_list.txt").write_text("00000002_000.png\n00000003_000.png\n")
    (chest / "images" / "00000001_001.png").write_bytes(b"")
    index = xray(chest).index()
    assert list(index.table["image_id"]) == ["00000001_000.png", "00000002_000.png"]
    assert [reject.image_id for reject in index.rejects] == ["00000001_001.png", "00000003_000.png"]
    assert re.search(r"got an empty file \(0 bytes\); extract .*\. Get ChestX-ray14 from", index.rejects[0].reason)
    assert f"{chest / 'images' / '00000003_000.png'}: expected an image file, got no such" in index.rejects[1].reason


def test_chestxray_list_without_labels_is_an_error(chest):
    (chest / "test_list.txt").write_text("00000009_000.png\n")
    with pytest.raises(DataError, match=r"1 images of the official lists have no row: 00000009_000\.png"):
        xray(chest).index()


def test_chestxray_no_finding_is_the_last_label(chest):
    index = xray(chest, no_finding=True).index()
    assert index.labels == (*FINDINGS, "no_finding")
    assert index.table["no_finding"].tolist() == [0, 0, 1]
    assert xray(chest, no_finding=True, findings=["mass"]).index().labels == ("mass", "no_finding")
    with pytest.raises(SpecError, match="option no_finding is 'yes'; expected True or False"):
        xray(chest, no_finding="yes")


def test_source_sizes_come_from_the_headers(kaggle, chest):
    assert kaggle_dr(kaggle).source_size("train/10_left.jpeg") == (60, 90)
    assert xray(chest).source_size("images/00000001_000.png") == (64, 64)


def test_chestxray_says_what_is_missing(chest):
    for name in ("Data_Entry_2017.csv", "test_list.txt"):
        (chest / name).unlink()
    (chest / "images").rename(chest / "pictures")
    lines = xray(chest).missing()
    assert len(lines) == 4
    for name in ("test_list.txt", "Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv", "images", "images_001"):
        assert any(str(chest / name) in line for line in lines[:3])
    assert "nihcc.app.box.com" in lines[3]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("00000001_000.png", "Cardiomegali", 1), r"2017\.csv, row 2: .*did you mean 'cardiomegaly'"),
        (("00000001_000.png", "", 1), r"row 2: .*unknown finding ''"),
        (("00000001_000.png", "No Finding|Mass", 1), r"row 2: .*not both"),
        (("00000001_000.png", "Mass", "x"), r"row 2: expected a number in column 'Patient ID', got 'x'"),
        (ENTRIES[1], r"row 3: image '00000001_001\.png' occurs twice in the file"),
    ],
)
def test_chestxray_names_file_and_row_of_a_bad_entry(chest, entry, message):
    write_entries(chest / "Data_Entry_2017.csv", [entry, *ENTRIES[1:]])
    with pytest.raises(DataError, match=message):
        xray(chest).index()


# PatchCamelyon


@pytest.fixture
def patches(tmp_path: Path) -> dict[str, np.ndarray]:
    return make_pcam(tmp_path)


def pcam(tmp_path: Path, size: int = 96) -> PCam:
    return PCam(spec("pcam", size=size), tmp_path)


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


def test_pcam_says_what_is_missing(patches, tmp_path):
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


def test_a_damaged_chunk_costs_its_own_patches_alone(tmp_path: Path) -> None:
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
