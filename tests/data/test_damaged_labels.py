"""Damaged label files and lists of every data set: each kind with its error message, reject and remedy."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_data import (
    ENTRIES,
    cut,
    flip,
    make_chest,
    make_kaggle,
    make_pcam,
    make_table,
    open_small,
    save,
    write_entries,
)

from raygrid.data.datasets import Reject
from raygrid.errors import DataError, MissingDataError

GREY = np.random.default_rng(1).integers(0, 256, (40, 40)).astype(np.uint8)


def _replace(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def _h5(name: str, key: str, array: np.ndarray) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with h5py.File(root / name, "w") as file:
            file.create_dataset(key, data=array)

    return damage


def _meta(root: Path) -> None:
    for part, count in (("train", 5), ("valid", 3), ("test", 4)):
        rows = "coord_x,wsi\n" + "1,slide\n" * (count - 1) + ("1,\n" if part == "test" else "1,slide\n")
        (root / f"camelyonpatch_level_2_split_{part}_meta.csv").write_text(rows)


TRAIN_X, TRAIN_Y = (f"camelyonpatch_level_2_split_train_{kind}.h5" for kind in "xy")
UTF_16 = "image,level\n10_left,0\n".encode("utf-16")
LABELS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "kaggle: labels in UTF-16": ("kaggle_dr", _replace("trainLabels.csv", UTF_16), r"trainLabels\.csv: .* in UTF-8"),
    "kaggle: empty labels": (
        "kaggle_dr",
        _replace("trainLabels.csv", b""),
        r"Labels\.csv, row 1: expected the columns",
    ),
    "kaggle: semicolons": (
        "kaggle_dr",
        _replace("trainLabels.csv", b"image;level\n10_left;0\n"),
        r"row 1: .*lacking \['image', 'level'\]; separate the values by commas instead of ';'",
    ),
    "kaggle: graded twice": (
        "kaggle_dr",
        _replace("trainLabels.csv", b"image,level\n10_left,0\n10_left,1\n"),
        r"row 3: image '10_left' was graded before",
    ),
    "kaggle: absent and graded twice": (
        "kaggle_dr",
        _replace("trainLabels.csv", b"image,level\n99_left,0\n99_left,1\n"),
        r"row 3: image '99_left' was graded before",
    ),
    "kaggle: grade of words": (
        "kaggle_dr",
        _replace("trainLabels.csv", b"image,level\n10_left,severe\n"),
        r"row 2: expected a grade from 0 to 5 in column 'level', got 'severe'",
    ),
    "chest: empty list": ("chestxray14", _replace("test_list.txt", b"\n \n"), r"test_list\.txt: .*got an empty file"),
    "chest: name twice in a list": (
        "chestxray14",
        _replace("test_list.txt", b"00000002_000.png\r\n00000002_000.png\r\n"),
        r"test_list\.txt: 1 names occur twice in the list: 00000002_000\.png",
    ),
    "chest: name in both lists": (
        "chestxray14",
        _replace("test_list.txt", b"00000001_000.png\n"),
        r"1 images are in both train_val_list\.txt and test_list\.txt",
    ),
    "chest: list of bytes": ("chestxray14", _replace("test_list.txt", b"\xff\xfe0"), r"test_list\.txt: .*in UTF-8"),
    "chest: list of images without labels": (
        "chestxray14",
        _replace("test_list.txt", b"00000002_000.png\n12345678_000.png\n"),
        r"Data_Entry_2017\.csv: 1 images of the official lists have no row: 12345678_000\.png",
    ),
    "chest: prefix in a list": (
        "chestxray14",
        _replace("test_list.txt", b"images/00000002_000.png\n"),
        r"1 images .* have no row: images/.*; expected one for each: write '00000002_000\.png' instead of 'images/0000",
    ),
    "chest: suffix in capitals": (
        "chestxray14",
        _replace("test_list.txt", b"00000002_000.PNG\n"),
        r"write '00000002_000\.png' instead of '00000002_000\.PNG' in test_list\.txt, and correct the other names",
    ),
    "chest: names without suffix": (
        "chestxray14",
        _replace("train_val_list.txt", b"00000001_000\n00000001_001\n"),
        r"2 images .*; .*: write '00000001_000\.png' instead of '00000001_000' in train_val_list\.txt",
    ),
    "chest: names in quotes": (
        "chestxray14",
        _replace("test_list.txt", b'"00000002_000.png"\n'),
        r"write '00000002_000\.png' instead of '\"00000002_000\.png\"' in test_list\.txt",
    ),
    "chest: empty row between names": (
        "chestxray14",
        _replace("train_val_list.txt", b"00000001_000.png\n,\n00000001_001.png\n,\n\n"),
        r"train_val_list\.txt, line 2: expected the name of an image, got an empty row between others; delete the row",
    ),
    "chest: unknown finding": (
        "chestxray14",
        lambda root: write_entries(root / "Data_Entry_2017.csv", [("00000001_000.png", "Oedema", 1), *ENTRIES[1:]]),
        r"row 2: column 'Finding Labels' is 'Oedema': unknown finding 'oedema'; did you mean 'edema'",
    ),
    "chest: two sizes of one image": (
        "chestxray14",
        lambda root: save(GREY, root / "images_001" / "00000002_000.png"),
        r"images/00000002_000\.png and images_001/00000002_000\.png differ in size; expected one image: remove one",
    ),
    "pcam: truncated file": (
        "pcam",
        lambda root: cut(root / TRAIN_X),
        r"train_x\.h5: expected an HDF5 file, got OSErr",
    ),
    "pcam: still packed": (
        "pcam",
        _replace(TRAIN_X, b"\x1f\x8b\x08"),
        r"train_x\.h5: .*; the file is a gzip archive; unp",
    ),
    "pcam: empty file": ("pcam", _replace(TRAIN_Y, b""), r"train_y\.h5: expected an HDF5 file, got OSError"),
    "pcam: patches of another kind": (
        "pcam",
        _h5(TRAIN_X, "x", np.zeros((5, 96, 96, 3), np.float32)),
        r"train_x\.h5: expected 'x' of shape .*uint8; got .*float32; unpack the file again",
    ),
    "pcam: too few labels": ("pcam", _h5(TRAIN_Y, "y", np.zeros(3, np.uint8)), r"train_y\.h5: expected 5 labels.*got"),
    "pcam: labels that are no numbers": (
        "pcam",
        _h5(TRAIN_Y, "y", np.array([0, 1, np.nan, 0, 1])),
        r"train_y\.h5, row 2: expected the label 0 or 1, got nan",
    ),
    "pcam: patch without a slide": ("pcam", _meta, r"test_meta\.csv, row 5: expected a slide id in column 'wsi'"),
    "table: NUL in a path": (
        "table",
        _replace("table.csv", b"image,patient,mass\nwh\0ole.png,2,1\n"),
        r"table\.csv.*expected a path relative",
    ),
    "table: UTF-16": ("table", _replace("table.csv", UTF_16), r"table\.csv: expected a CSV file in UTF-8"),
    "table: UTF-16 without a mark": (
        "table",
        _replace("table.csv", "image,patient,mass\nwhole.png,2,1\n".encode("utf-16-le")),
        r"table\.csv: expected a CSV file in UTF-8, got text in UTF-16 without a byte order mark, or binary data; save",
    ),
    "table: Windows-1252": (
        "table",
        _replace("table.csv", "image,patient,mass\nwhole.png,2,1\nx.png,José,0\n".encode("cp1252")),
        r"table\.csv: .*, got the byte 0xe9 in row 3 \('é' if it is Windows-1252\); save it as CSV UTF-8",
    ),
    "table: workbook": (
        "table",
        _replace("table.csv", b"PK\x03\x04\x14\0\6\0[Content_Types].xml"),
        r"table\.csv: expected a CSV file in UTF-8, got an Excel workbook or another ZIP archive; open it and save it",
    ),
    "table: old workbook": (
        "table",
        _replace("table.csv", b"\xd0\xcf\x11\xe0\xa1"),
        r"got an old Excel workbook \(\.xls\)",
    ),
    "table: Parquet by another name": (
        "table",
        _replace("table.csv", b"PAR1\x15"),
        r"got a Parquet file; rename it to \.parq",
    ),
    "table: image": (
        "table",
        lambda root: save(GREY, root / "table.csv", format="PNG"),
        r"got a PNG image; use",
    ),
    "table: DICOM": (
        "table",
        _replace("table.csv", bytes(128) + b"DICM" + bytes(9)),
        r"got a DICOM file; use",
    ),
    "table: picture of another kind": ("table", _replace("table.csv", b"GIF89a\1\0\1\0"), r"got a GIF image; use the"),
    "table: letters of a picture, Windows-1252": (
        "table",
        _replace("table.csv", "BMI,patient,mass\n31 é,2,1\n".encode("cp1252")),
        r"got the byte 0xe9 in row 2",
    ),
    "table: packed": ("table", _replace("table.csv", b"\x1f\x8b\x08"), r"table\.csv: .*got a gzip archive; unpack it"),
    "table: web page": (
        "table",
        _replace("table.csv", b"\n <!DOCTYPE html><html>"),
        r"got a web page .*download the file",
    ),
    "table: Git LFS": (
        "table",
        _replace("table.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        r"table\.csv: .*got a Git LFS pointer instead of the file; run git lfs pull",
    ),
    "table: zeros": (
        "table",
        _replace("table.csv", bytes(512)),
        r"got 512 zeros, usually from an unfinished copy",
    ),
    "table: tabs": (
        "table",
        _replace("table.csv", b"image\tpatient\tmass\nwhole.png\t2\t1\n"),
        r"row 1: .*; separate the values by commas instead of '\\t'",
    ),
    "table: semicolons, and commas in a note": (
        "table",
        _replace("table.csv", b"image;patient;size, cm;mass\nwhole.png;2;1,5;1\n"),
        r"row 1: .*; separate the values by commas instead of ';'",
    ),
    "table: quoted semicolons": (
        "table",
        _replace("table.csv", b'"image";"patient";"mass"\n"whole.png";"2";"1"\n'),
        r"row 1: expected CSV, got .*; close or double the quotes in this row, and separate the values by commas",
    ),
    "table: Excel's line of the separator": (
        "table",
        _replace("table.csv", b"sep=,\nimage,patient,mass\nwhole.png,2,1\n"),
        r"row 1: .*got \['sep=', ''\].*; delete this line, which only Excel reads",
    ),
    "table: no header": (
        "table",
        _replace("table.csv", b"whole.png,2,1\n"),
        r"row 1: .*got \['whole\.png', '2', '1'\].*; insert a first row with the names of the columns",
    ),
    "table: empty rows above": (
        "table",
        _replace("table.csv", b",,\nimage,patient,mass\nwhole.png,2,1\n"),
        r"row 1: .*; delete the empty rows above the names of the columns",
    ),
    "table: blanks between the values": (
        "table",
        _replace("table.csv", b"image patient mass\nwhole.png 2 1\n"),
        r"row 1: .*; separate the values by commas instead of ' '",
    ),
    "table: comment above": (
        "table",
        _replace("table.csv", b"# of 2019\nimage,patient,mass\nwhole.png,2,1\n"),
        r"row 1: .*got \['# of 2019'\].*; delete the lines above the names of the columns",
    ),
    "table: a name twice but for blanks": (
        "table",
        _replace("table.csv", b"image,patient,mass, mass \nwhole.png,2,1,0\n"),
        r"row 1: expected one column 'mass', got 2; remove or rename one",
    ),
    "table: empty row between others": (
        "table",
        _replace("table.csv", b"image,patient,mass\nwhole.png,2,1\n,,\n , ,\nx.png,3,1\n"),
        r"table\.csv, row 3: expected values, got an empty row between others; delete the row",
    ),
    "table: folder by the name of a table": (
        "table",
        lambda root: ((root / "table.csv").unlink(), (root / "table.csv").mkdir()),
        r"table\.csv: expected a CSV file in UTF-8, got IsADirectoryError: .*; choose a readable file",
    ),
    "table: quote that never ends": (
        "table",
        _replace("table.csv", b'image,patient,mass\n"whole.png,2,1\nx.png,3,1\n'),
        r"table\.csv, row 2: expected CSV, got unexpected end of data; close or double the quotes in this row",
    ),
    "table: stray quotes that enclose other rows": (
        "table",
        _replace("table.csv", b'image,patient,mass,notes\nwhole.png,2,1,"5 cm\nx.png,3,1,b\ny.png,4,1,4" wide\n'),
        r"table\.csv, row 2: expected CSV, got ',' expected after '\"'; close or double",
    ),
    "table: row that lacks a value in the middle": (
        "table",
        _replace("table.csv", b"image,notes,patient,mass,age\nwhole.png,2,1,70\n"),
        r"table\.csv, row 2: expected 5 values, got 4",
    ),
    "table: patient with a control character": (
        "table",
        _replace("table.csv", b'image,patient,mass\nwhole.png,"P\r1",1\n'),
        r"table\.csv, row 2: expected a patient in column 'patient', got 'P\\r1' with control characters; remove",
    ),
    "table: image with a control character": (
        "table",
        _replace("table.csv", b"image,patient,mass\nwhole\x1b.png,2,1\n"),
        r"table\.csv, row 2: expected a path .* in column 'image', .*got 'whole\\x1b\.png'; write 'whole\.png'|move",
    ),
    "medmnist: half an archive": (
        "medmnist",
        lambda root: cut(root / "set.npz"),
        r"set\.npz: expected an arch.*BadZip",
    ),
    "medmnist: web page": ("medmnist", _replace("set.npz", b"<html>404"), r"set\.npz: expected an archive .*not a zip"),
    "medmnist: empty": (
        "medmnist",
        _replace("set.npz", b""),
        r"set\.npz: expected an archive of numpy\.savez or savez_compressed, got .*; download",
    ),
}


FOLDERS = {"table": "."}
CHANNELS = {"chestxray14": 1, "table": 1, "medmnist": 1}
OPTIONS: dict[str, dict[str, object]] = {
    "table": {"table": "table.csv", "labels": ["mass"]},
    "medmnist": {"file": "set.npz"},
}


FROM_ITS_ARCHIVE = "extract the file again from its archive, or download the archive again"
REMEDIES = {
    "kaggle_dr": f"{FROM_ITS_ARCHIVE} (www.kaggle.com/c/diabetic-retinopathy-detection)",
    "chestxray14": f"{FROM_ITS_ARCHIVE} (nihcc.app.box.com/v/ChestXray-NIHCC)",
    "pcam": "unpack the file again from its .gz, or download it again (github.com/basveeling/pcam)",
    "medmnist": "download the archive again (medmnist.com)",
    "table": "copy or export the file again",
}


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Return a data root with every data set, all whole (but for the first image of the table, which is absent)."""
    make_table(tmp_path, GREY)
    make_kaggle(tmp_path)
    make_chest(tmp_path)
    make_pcam(tmp_path)
    (tmp_path / "medmnist").mkdir()
    parts = {f"{part}_images": GREY[None] for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.ones((1, 1), np.uint8) for part in ("train", "val", "test")}
    np.savez_compressed(tmp_path / "medmnist" / "set.npz", **parts, **labels)
    return tmp_path


@pytest.mark.parametrize("kind", LABELS)
def test_damaged_labels_are_an_error_with_file_and_row(data_root, kind):
    loader, damage, message = LABELS[kind]
    data = open_small(loader, data_root, CHANNELS.get(loader, 3), **OPTIONS.get(loader, {}))
    data.index()  # whole so far
    damage(data_root / FOLDERS.get(loader, loader))
    with pytest.raises(DataError, match=message) as caught:
        data.index()
    assert not isinstance(caught.value, MissingDataError)


@pytest.mark.parametrize(
    ("loader", "file", "image_id"),
    [
        ("kaggle_dr", "train/13_right.jpeg", "13_right"),
        ("chestxray14", "images/00000001_001.png", "00000001_001.png"),
        ("table", "image", "image"),
    ],
)
@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_an_absent_or_empty_image_is_a_reject(data_root, loader, file, image_id, kind):
    path = data_root / FOLDERS.get(loader, loader) / file
    path.unlink(missing_ok=True)
    if kind == "empty":
        path.touch()
    index = open_small(loader, data_root, CHANNELS.get(loader, 3), **OPTIONS.get(loader, {})).index()
    got = "no such file" if kind == "absent" else r"an empty file (0 bytes)"
    assert [reject.image_id for reject in index.rejects] == [image_id]
    assert index.rejects[0].reason.startswith(f"{path}: expected an image file, got {got}; {REMEDIES[loader]}")
    assert image_id not in set(index.table["image_id"])


@pytest.mark.parametrize(
    ("loader", "file", "locator"),
    [
        ("kaggle_dr", "train/13_right.jpeg", "train/13_right.jpeg"),
        ("chestxray14", "images/00000001_001.png", "images/00000001_001.png"),
        ("pcam", TRAIN_X, "train/0"),
        ("medmnist", "set.npz", "train/0"),
        ("table", "whole.png", "whole.png"),
    ],
)
def test_a_damaged_file_gets_the_remedy_of_its_data_set(data_root, loader, file, locator):
    path = data_root / FOLDERS.get(loader, loader) / file
    path.write_bytes(b"<html>")
    data = open_small(loader, data_root, CHANNELS.get(loader, 3), **OPTIONS.get(loader, {}))
    with pytest.raises(DataError) as caught:
        data.read(locator)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert message.endswith(f"; {REMEDIES[loader]}")
    assert type(caught.value) is DataError


def test_a_reject_is_one_line_with_its_path_once():
    assert str(Reject("img/a.png", "/data/img/a.png: expected an image")) == "/data/img/a.png: expected an image"
    assert str(Reject("10_left", "/data/10_left.jpeg: expected an image")) == "/data/10_left.jpeg: expected an image"
    assert str(Reject("train-000003", "/data/x.h5: expected a patch")) == "train-000003: /data/x.h5: expected a patch"


def test_damage_inside_a_pcam_chunk_is_found_when_it_is_read(data_root):
    path = data_root / "pcam" / TRAIN_X
    with h5py.File(path) as file:
        offset = file["x"].id.get_chunk_info(0).byte_offset
    flip(path, offset + 5000)
    data = open_small("pcam", data_root, 3)
    data.index()
    with pytest.raises(DataError, match=r"train_x\.h5: expected a readable patch 0, got OSError.*; unpack the"):
        data.read("train/0")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_and_empty_rows_after_the_last_one_are_harmless(data_root, end):
    rows = [b"\xef\xbb\xbf\xef\xbb\xbfimage , patient,mass", b"", b"whole.png, 2 , 1", b",,", b" , ,", b"", b",,", b""]
    (data_root / "table.csv").write_bytes(end.join(rows))
    table = open_small("table", data_root, 1, **OPTIONS["table"]).index().table
    assert table[["image_id", "patient_id", "mass"]].to_numpy().tolist() == [["whole.png", "2", 1]]
