"""A user's own table: images, patients, labels, optional division."""

import re
import tracemalloc
import unicodedata
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
        ("image,patient,mass,edema\nd.png,9,,1\n", r"row 2: expected 0 or 1 in column 'mass', got ''; raygrid has no"),
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


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("yes", "replace 'yes' by 1 and 'no' by 0 in the whole column"),
        ("No", "replace 'yes' by 1 and 'no' by 0 in the whole column"),
        ("negative", "replace 'positive' by 1 and 'negative' by 0 in the whole column"),
        ("-1", "choose 0 or 1 (-1 means uncertain in CheXpert, negative elsewhere), or leave out the row"),
        (
            "-1.0",
            "choose 0 or 1 (-1 means uncertain in CheXpert, negative elsewhere), or leave out the row",
        ),
        ("NaN", "raygrid has no unknown label: fill the cell, or leave out the row"),
        ("", "raygrid has no unknown label: fill the cell, or leave out the row"),
        ("1.00", "write it as 1"),
        ("0.7", "choose a threshold: raygrid takes labels, not probabilities"),
        ("3", "map grades or classes to 0 and 1, one column for each label"),
        ("inf", "map grades or classes to 0 and 1, one column for each label"),
        ("oedema", "map the values of the column to 0 and 1"),
    ],
)
def test_the_error_about_a_label_says_how_to_map_its_value(root, text, remedy):
    rewrite(root, f"image,patient,mass,edema\nd.png,9,{text},1\n")
    with pytest.raises(DataError) as caught:
        own(root).index()
    place = f"{root / 'clinic' / 'table.csv'}, row 2"
    accepted = "(accepted: 0, 1, 0.0, 1.0, false, true)"
    assert str(caught.value) == f"{place}: expected 0 or 1 in column 'mass', got {text!r}; {remedy} {accepted}"


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("a.png", "images/a.png"),  # the prefix is lacking
        ("old/images/a.png", "images/a.png"),
        ("images/A.PNG", "images/a.png"),
        ("images/a", "images/a.png"),
        ("images/a.jpg", "images/a.png"),
        ("images/D.png", "d.png"),
        ("images/M%C3%BCller.png", "images/M\u00fcller.png"),
        ("images/Mu\u0308ller.png", "images/M\u00fcller.png"),
        ("images/\u200ba.png", "images/a.png"),
        ("https://example.org/images/a.png", "images/a.png"),
        ("thorax_017_fronatl.png", "thorax_017_frontal.png"),
        ("thorax_018_frontal.png", ""),  # another image
        ("zebra.png", ""),
    ],
)
def test_an_absent_image_names_the_nearest_file(root, path, near):
    for name in ("images/M\u00fcller.png", "thorax_017_frontal.png"):
        (root / "clinic" / name).write_bytes(b"x")
    rewrite(root, f"image,patient,mass,edema\nd.png,1,0,1\n{path},2,1,1\n")
    (reject,) = own(root).index().rejects
    assert (f"table.csv, row 3; the nearest file is {near!r}" in reject.reason) == bool(near)
    looks_equal = unicodedata.normalize("NFC", path.replace("\u200b", "")) == near
    assert ("with its letters in another encoding" in reject.reason) == looks_equal
    assert ("nearest" in reject.reason) == bool(near)
    rewrite(root, f"image,patient,mass,edema\n{path},2,1,1\n")
    with pytest.raises(MissingDataError) as caught:
        own(root).index()
    assert re.search(rf"layout\.( For \S+, the nearest file is {re.escape(repr(near))}.*\.)?$", str(caught.value))
    assert ("nearest" in str(caught.value)) == bool(near)


def test_the_nearest_file_is_named_for_the_first_1000_absent_images(root):
    absent = "".join(f"old{number}/a.png,2,1,1\n" for number in range(1001))  # a search for each would take long
    rewrite(root, f"image,patient,mass,edema\nd.png,1,0,1\n{absent}")
    rejects = own(root).index().rejects
    named = ["the nearest file is 'images/a.png'" in reject.reason for reject in rejects]
    assert named == [True] * 1000 + [False]


def test_of_equal_names_the_file_in_the_most_equal_folders_is_the_nearest(root):
    for folder in ("x/2019", "x/2020"):
        (root / "clinic" / folder).mkdir(parents=True)
        (root / "clinic" / folder / "scan.dcm").write_bytes(b"x")
    rewrite(root, "image,patient,mass,edema\nd.png,1,0,1\ny/2020/scan.dcm,2,1,1\n")
    assert "'x/2020/scan.dcm'" in own(root).index().rejects[0].reason


@pytest.mark.parametrize(
    "path", ["images\\a.png", "C:\\data\\images\\a.png", "/data/clinic/images/a.png", "../clinic/images/a.png"]
)
def test_a_path_that_leads_out_of_the_folder_names_the_file_in_it(root, path):
    rewrite(root, f"image,patient,mass,edema\n{path},9,1,1\n")
    with pytest.raises(DataError, match=r"row 2: expected a path relative .*got .*; write 'images/a\.png'"):
        own(root).index()


def test_a_path_that_begins_with_a_dot_is_the_same_image(root):
    rewrite(root, "image,patient,mass,edema\n./d.png,1,0,1\n")
    assert own(root).index().table["image_id"].tolist() == ["d.png"]


FRAME = pd.DataFrame({"image": ["images/a.png", "d.png"], "patient": ["1", "2"], "mass": [0, 1], "edema": [0, 1]})


def parquet(root: Path, frame: pd.DataFrame, **options: object) -> TableDataset:
    frame.to_parquet(root / "clinic" / "table.parquet", **options)
    return own(root, table="clinic/table.parquet")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "image",
            [b"images/a.png", b"d.png"],
            r"text or numbers in column 'image', got binary; write it as text, such as",
        ),
        ("image", pd.Categorical([b"images/a.png", b"d.png"]), r"column 'image', got dictionary<values=binary"),
        (
            "patient",
            [b"1", b"2"],
            r"column 'patient', got binary; write it as text, such as table\['patient'\]\.str\.dec",
        ),
        (
            "patient",
            pd.to_datetime(["2020-01-01"] * 2),
            r"column 'patient', got timestamp.*; write it as text or whole",
        ),
        ("patient", [["1"], ["2"]], r"column 'patient', got list<.*; write one value per row and column"),
        ("mass", [{"value": 0}, {"value": 1}], r"column 'mass', got struct<.*; write one value per row and column"),
        ("mass", [0.0, None], r"row 2: expected 0 or 1 in column 'mass', got ''; raygrid has no unknown label"),
        ("mass", pd.array([0, None], dtype="Int64"), r"row 2: expected 0 or 1 in column 'mass', got ''; raygrid"),
        ("mass", [-1, 1], r"row 1: expected 0 or 1 in column 'mass', got '-1'; choose 0 or 1"),
    ],
)
def test_a_parquet_column_of_another_kind_is_named_with_the_way_to_convert_it(root, column, values, message):
    with pytest.raises(DataError, match=rf"table\.parquet.*{message}"):
        parquet(root, FRAME.assign(**{column: values})).index()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("image", pd.Categorical(FRAME["image"])),
        ("patient", pd.Categorical(["1", "2"])),
        ("patient", [1, 2]),
        ("patient", pd.array([1, 2], dtype="Int64")),
        ("mass", [False, True]),
        ("mass", [0.0, 1.0]),
        ("mass", [Decimal("0"), Decimal("1.0")]),
        ("mass", pd.Categorical(["0", "1"])),
    ],
)
def test_a_parquet_column_of_text_numbers_or_truth_values_is_read_as_in_csv(root, column, values):
    table = parquet(root, FRAME.assign(**{column: values})).index().table
    assert table[["image_id", "patient_id", "mass"]].to_numpy().tolist() == [
        ["images/a.png", "1", 0],
        ["d.png", "2", 1],
    ]


def test_the_index_of_a_pandas_frame_is_a_column_if_it_has_a_name(root):
    named = FRAME.set_index("image")
    assert parquet(root, named).index().table["image_id"].tolist() == FRAME["image"].tolist()
    with pytest.raises(
        DataError, match=r"lacking \['image'\]; the index of the pandas frame has no name; call reset_ind"
    ):
        parquet(root, named.rename_axis(None)).index()


def test_a_repeated_parquet_column_is_an_error_if_the_table_uses_it(root):
    arrow = pa.Table.from_pandas(FRAME)
    pq.write_table(arrow.append_column("mass", arrow["mass"]), root / "clinic" / "table.parquet")
    with pytest.raises(DataError, match="expected one column 'mass', got 2; remove or rename one"):
        own(root, table="clinic/table.parquet").index()
    pq.write_table(
        arrow.append_column("x", arrow["mass"]).append_column("x", arrow["mass"]), root / "clinic" / "t.parquet"
    )
    assert len(own(root, table="clinic/t.parquet").index().table) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content.replace(b"d.png", b"e.png", 1), "got .*CRC.*; write the file again"),
        (lambda content: content[:-20], "got one that is cut off; copy or write it again"),
        (lambda content: b"", r"got an empty file \(0 bytes\); copy or write it again"),
        (lambda content: b"image,patient\n", r"got text; rename it to \.csv, or write it as Parquet"),
        (lambda content: b"PK\x03\x04", "got an Excel workbook or another ZIP archive"),
        (lambda content: b"PARE" + content[4:-4] + b"PARE", "got an encrypted one; write it without encryption"),
        (lambda content: content[:4] + content[4:-30][::-1] + content[-30:], "got .*; write the file again"),
    ],
)
def test_a_file_that_is_no_whole_parquet_file_is_named(root, damage, message):
    data = parquet(root, FRAME, compression="none", write_page_checksum=True)
    path = root / "clinic" / "table.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"table\.parquet: expected a Parquet file, {message}"):
        data.index()


def test_a_folder_of_parquet_files_is_named(root):
    (root / "clinic" / "table.parquet").mkdir()
    for part in "ab":
        FRAME.to_parquet(root / "clinic" / "table.parquet" / f"{part}.parquet")
    with pytest.raises(DataError, match=r"got a folder with 2 of them; write one file, such as pandas\.read_parquet"):
        own(root, table="clinic/table.parquet").index()


def test_millions_of_equal_rows_of_a_small_parquet_table_are_not_unpacked_at_once(root):
    path = root / "clinic" / "table.parquet"
    rows = 3_000_000
    text = {name: pa.array([value]).dictionary_encode() for name, value in (("image", "d.png"), ("patient", "1"))}
    same = {
        name: pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), one.dictionary) for name, one in text.items()
    }
    pq.write_table(pa.table(same | {name: np.zeros(rows, np.int8) for name in ("mass", "edema")}), path)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"row 2: image 'd\.png' is already in"):
            own(root, table="clinic/table.parquet").index()
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
