"""A user's own table: images, patients, labels, optional division."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import write_dicom
from PIL import Image

from raygrid.data.datasets import open_dataset
from raygrid.data.datasets.table import TableDataset
from raygrid.data.splits.draw import assign_splits
from raygrid.errors import DataError, MissingDataError, SpecError
from raygrid.spec import DatasetSpec, SplitSpec

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (4, 32, 32)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data root with four images of three patients and their table, as a spreadsheet exports it."""
    folder = tmp_path / "clinic"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(folder / "images" / "a.png")
    Image.fromarray(IMAGES[1].astype(np.uint16) * 257).save(folder / "images" / "b.tif")
    write_dicom(folder / "images" / "c.dcm", IMAGES[2], WindowCenter="128", WindowWidth="256")
    Image.fromarray(np.stack([IMAGES[3]] * 3, -1)).save(folder / "d.png")
    (folder / "table.csv").write_bytes(
        b"\xef\xbb\xbfimage,patient,mass,edema\r\nimages/a.png,7,0,1\r\nimages/b.tif,7,1.0,False\r\n"
        b'images/c.dcm,"Doe, J",TRUE,0.0\r\nd.png,9,1,1\r\n'
    )
    return tmp_path


def own(root: Path, channels: int = 1, size: int = 32, **options: object) -> TableDataset:
    given = {"table": "clinic/table.csv", "labels": ["mass", "edema"], **options}
    data = open_dataset(DatasetSpec(loader="table", image_size=size, channels=channels, options=given), root)
    assert isinstance(data, TableDataset)
    return data


def rewrite(root: Path, text: str) -> None:
    (root / "clinic" / "table.csv").write_text(text)


def test_a_table_of_mixed_files_is_read_despite_bom_and_crlf(root):
    data = own(root)
    assert data.missing() == []
    index = data.index()
    table = index.table.set_index("image_id")
    assert index.labels == ("mass", "edema")
    assert list(table.index) == ["images/a.png", "images/b.tif", "images/c.dcm", "d.png"]
    assert table["patient_id"].tolist() == ["7", "7", "Doe, J", "9"]
    assert table["mass"].tolist() == [0, 1, 1, 1]
    assert table["edema"].tolist() == [1, 0, 0, 1]
    assert table["mass"].dtype == np.uint8
    assert set(table["part"]) == {""}
    assert index.rejects == ()
    for image, locator in zip(IMAGES, table["locator"], strict=True):
        assert np.abs(data.read(locator)[..., 0].astype(int) - image).max() <= 1  # the window of c.dcm rounds
        assert data.source_size(locator) == (32, 32)
    assert data.title == "table"
    assert not data.phantom


def test_colour_size_title_and_window_follow_the_options(root):
    data = own(root, channels=3, size=16, title="Clinic A")
    assert data.title == "Clinic A"
    assert data.read("images/a.png").shape == (16, 16, 3)
    stretched = own(root, window=[100, 100.5]).read("images/a.png")[..., 0]
    assert np.array_equal(stretched, np.where(IMAGES[0] > 100, 255, 0))


def test_the_dark_border_of_fundus_photographs_is_cropped_on_request(root):
    y, x = np.mgrid[:60, :100]
    disc = np.where(np.hypot(y - 30, x - 40) < 25, 180, 0).astype(np.uint8)
    Image.fromarray(np.stack([disc] * 3, -1)).save(root / "clinic" / "d.png")
    whole, cropped = (own(root, channels=3, crop=crop).read("d.png")[..., 0] for crop in (None, "field_of_view"))
    assert (whole[:, 15] > 90).mean() < 0.6
    assert (cropped[:, 15] > 90).mean() > 0.95
    with pytest.raises(SpecError, match=r"option crop is 'field_of_view', made for colour.*set channels=3, got 1"):
        own(root, crop="field_of_view")


@pytest.mark.parametrize(("name", "options"), [("split", {}), ("fold", {"split_column": "fold"})])
def test_a_split_column_is_the_official_division(root, name, options):
    rewrite(
        root, f"image,patient,mass,edema,{name}\nimages/a.png,7,0,1,Train\nimages/b.tif,7,1,0,val\nd.png,9,0,0,test\n"
    )
    index = own(root, **options).index()
    assert index.table["part"].tolist() == ["development", "development", "test"]
    rewrite(root, f"image,patient,mass,edema,{name}\nimages/a.png,7,0,1,train\nimages/b.tif,7,1,0,test\n")
    index = own(root, **options).index()
    with pytest.raises(DataError, match="1 patients are in both official parts"):
        assign_splits(index.table, index.labels, SplitSpec(), seed=0)


def test_another_split_column_can_be_ignored(root):
    rewrite(root, "image,patient,mass,edema,split\nd.png,9,1,1,left half\n")
    with pytest.raises(DataError, match=r"row 2: column 'split': unknown part 'left half'.*split_column=None"):
        own(root).index()
    assert own(root, split_column=None).index().table["part"].tolist() == [""]


def test_parquet_gives_the_same_index_as_csv(root):
    expected = own(root).index()
    frame = pd.DataFrame(
        {
            "file": ["images/a.png", "images/b.tif", "./images//c.dcm", "d.png"],
            "who": ["7", "7", "Doe, J", "9"],
            "mass": [False, True, True, True],
            "edema": [1.0, 0.0, 0.0, 1.0],
            "unused": [1, 2, 3, 4],
        }
    )
    frame.to_parquet(root / "clinic" / "table.parquet")
    index = own(root, table="clinic/table.parquet", image_column="file", patient_column="who").index()
    assert index.fingerprint() == expected.fingerprint()
    assert index.table["locator"].tolist() == expected.table["locator"].tolist()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("patient", ["7", None], r"table\.parquet, row 2: expected a patient in column 'patient', got an empty cell"),
        ("patient", [7.0, float("nan")], r"row 2: expected a patient"),
        ("mass", [0, 2], r"row 2: expected 0 or 1 in column 'mass', got '2'"),
        ("mass", [0.0, float("nan")], r"row 2: expected 0 or 1 in column 'mass', got ''"),
        ("image", ["d.png", "d.png"], r"row 2: image 'd\.png' is already in .*row 1;"),
    ],
)
def test_a_bad_cell_of_a_parquet_table_is_named(root, column, values, message):
    frame = pd.DataFrame({"image": ["images/a.png", "d.png"], "patient": ["1", "2"], "mass": [0, 1], "edema": [0, 1]})
    frame.assign(**{column: values}).to_parquet(root / "clinic" / "table.parquet")
    with pytest.raises(DataError, match=message):
        own(root, table="clinic/table.parquet").index()


def test_absent_and_empty_images_are_rejects_of_named_rows(root):
    (root / "clinic" / "d.png").write_bytes(b"")
    (root / "clinic" / "images" / "a.png").unlink()
    (root / "clinic" / "images" / "a.png").mkdir()
    index = own(root).index()
    assert index.table["image_id"].tolist() == ["images/b.tif", "images/c.dcm"]
    first, second = index.rejects
    assert (first.image_id, second.image_id) == ("images/a.png", "d.png")
    assert "a.png: expected an image file, got no such file" in first.reason
    assert "table.csv, row 2). Paths in the table are relative to the table's folder" in first.reason
    assert "got an empty file (0 bytes)" in second.reason
    assert second.reason.endswith("table.csv, row 5)")


def test_a_table_without_any_of_its_images_is_missing_data(root):
    rewrite(root, "image,patient,mass,edema\nx.png,1,0,1\ny.png,2,1,1\n")
    with pytest.raises(MissingDataError, match=r"none of the 2 images .*x\.png, y\.png\nPaths in the table"):
        own(root).index()


def test_an_absent_table_is_missing_data(root):
    data = own(root, table="clinic/other.csv")
    assert "other.csv: not found" in data.missing()[0]
    with pytest.raises(MissingDataError, match=r"other\.csv: not found"):
        data.index()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,patient,mas,edema\nd.png,9,1,1\n", r"row 1: .*lacking \['mass'\]; did you mean 'mas'\?"),
        ("image;patient;mass;edema\nd.png;9;1;1\n", r"row 1: .*; separate the values by commas instead of ';'"),
        ("image,patient,mass,edema,mass\nd.png,9,1,1,0\n", r"row 1: expected one column 'mass', got 2; remove or"),
        ("image,patient,mass,edema\n", r"table\.csv: expected a row for each image, got only a header"),
        ("", r"row 1: expected the columns \['image', 'patient', 'mass', 'edema'\], got \[\]"),
        ("image,patient,mass,edema\nd.png,9,yes,1\n", r"row 2: expected 0 or 1 in column 'mass', got 'yes'"),
        ("image,patient,mass,edema\nd.png,9,,1\n", r"row 2: expected 0 or 1 in column 'mass', got ''"),
        ("image,patient,mass,edema\nd.png,  ,1,1\n", r"row 2: expected a patient .*'patient', got an empty cell"),
        ("image,patient,mass,edema\n,9,1,1\n", r"row 2: expected a path .* in column 'image'.*got ''"),
        ("image,patient,mass,edema\nd.png,9,1,1\n\n./d.png,9,1,1\n", r"row 4: image 'd\.png' is already in .*row 2;"),
        ("image,patient,mass,edema\nd.png,Doe, J,1,1\n", r"row 2: expected 4 values, got 5"),
        ("image,patient,mass,edema\nd.png,9\n", r"row 2: expected 4 values, got 2"),
        ("image,patient,mass,edema\n/etc/passwd,9,1,1\n", r"row 2: expected a path relative .*got '/etc/passwd'"),
        ("image,patient,mass,edema\n../d.png,9,1,1\n", r"row 2: expected a path relative .*got '\.\./d\.png'"),
        ("image,patient,mass,edema\nimages\\a.png,9,1,1\n", r"row 2: expected a path .*with / and without"),
        ("image,patient,mass,edema\nC:/a.png,9,1,1\n", r"row 2: expected a path relative"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_an_error_with_its_row(root, table, message):
    rewrite(root, table)
    with pytest.raises(DataError, match=message):
        own(root).index()


def test_a_named_split_column_is_required(root):
    with pytest.raises(DataError, match=r"row 1: .*lacking \['patients'\]; did you mean 'patient'"):
        own(root, split_column="patients").index()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "/etc/table.csv"}, r"option table is '/etc/table\.csv'; expected a file's path relative to"),
        ({"table": "../table.csv"}, "expected a file's path relative to"),
        ({"table": None}, "option table is None"),
        ({"table": "clinic/table.xlsx"}, r"expected a file that ends in \.csv or \.parquet"),
        ({"labels": None}, "option labels is None; expected a list of at least one name"),
        ({"labels": "mass"}, "option labels is 'mass'; expected a list"),
        ({"labels": []}, "expected a list of at least one name"),
        ({"labels": ["mass", "mass"]}, "expected each name once"),
        ({"labels": ["patient_id"]}, "option labels holds 'patient_id'; expected a name other than content, image"),
        ({"patient_column": "mass"}, "hold one name twice"),
        ({"image_column": 3}, "option image_column is 3; expected a text such as 'image'"),
        ({"crop": "centre"}, "unknown crop 'centre'"),
        ({"window": [5, 5]}, r"option window is \[5, 5\]; expected two intensities"),
        ({"window": 5}, "option window is 5; expected two intensities"),
        ({"lables": ["mass"]}, "unknown option 'lables'; did you mean 'labels'"),
    ],
)
def test_options_that_do_not_fit_are_refused(root, options, message):
    with pytest.raises(SpecError, match=message):
        own(root, **options)
