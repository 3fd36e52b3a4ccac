"""The loader of ChestX-ray14, on a small generated copy of its layout."""

import re
from pathlib import Path

import pytest
from small_data import ENTRIES, make_chest, write_entries

from raygrid.data.datasets.chestxray14 import FINDINGS, ChestXray14
from raygrid.data.splits.draw import assign_splits
from raygrid.errors import DataError, SpecError
from raygrid.spec import DatasetSpec, SplitSpec


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    return make_chest(tmp_path)


def xray(root: Path, channels: int = 1, **options: object) -> ChestXray14:
    spec = DatasetSpec(loader="chestxray14", image_size=32, channels=channels, options=options)
    return ChestXray14(spec, root.parent)


def test_chestxray_indexes_only_the_images_of_the_lists(chest):
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


def test_chestxray_patient_in_both_lists_stops_the_official_division_only(chest):
    (chest / "train_val_list.txt").write_text("00000001_000.png\n")
    (chest / "test_list.txt").write_text("00000001_001.png\n")
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


def test_chestxray_lists_absent_files(chest):
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


def test_chestxray_size_comes_from_the_header(chest):
    assert xray(chest).source_size("images/00000001_000.png") == (64, 64)


def test_chestxray_specs_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(SpecError, match="channels is 3, expected 1"):
        xray(tmp_path / "chestxray14", channels=3)
    with pytest.raises(SpecError, match="did you mean 'findings'"):
        xray(tmp_path / "chestxray14", finding=["mass"])
