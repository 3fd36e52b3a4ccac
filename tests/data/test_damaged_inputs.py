"""Damaged files: each kind of damage with its error message or reject."""

import builtins
import os
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image
from small_data import ENTRIES, make_chest, make_kaggle, make_pcam, save, write_entries

from raygrid.data.datasets import Reject, open_dataset
from raygrid.errors import DataError, MissingDataError
from raygrid.spec import DatasetSpec

GREY = np.random.default_rng(1).integers(0, 256, (40, 40)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 16


def open_small(loader: str, data_root: Path, channels: int, **options: object) -> object:
    return open_dataset(DatasetSpec(loader=loader, image_size=32, channels=channels, options=options), data_root)


def cut(path: Path, share: float = 0.5) -> None:
    """Keep the first part of a file, as an aborted download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def tiff(path: Path, values: np.ndarray, **tags: int) -> None:
    """Write an uncompressed TIFF whose header may say anything; a channel axis is stored plane by plane."""
    planes = 1 if values.ndim == 2 else values.shape[0]
    tag_numbers = {"width": 256, "height": 257, "bits": 258, "kind": 262, "samples": 277, "planar": 284}
    said = {
        "width": values.shape[-1],
        "height": values.shape[-2],
        "bits": 8 * values.itemsize,
        "kind": 1,
        "samples": planes,
    }
    entries = {tag_numbers[name]: (3 if value < 65536 else 4, 1, value) for name, value in (said | tags).items()}
    size = values[..., :, :].nbytes // planes
    entries |= {259: (3, 1, 1), 278: (4, 1, values.shape[-2])}
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    lists = b""
    for number, numbers in ((273, None), (279, [size] * planes), (258, [said["bits"]] * planes)):
        if number == 258 and planes == 1:
            continue
        kind = 3 if number == 258 else 4
        if numbers is None:
            numbers = [start + 64 + size * i for i in range(planes)]
        packed = struct.pack(f"<{planes}{'H' if kind == 3 else 'L'}", *numbers)
        entries[number] = (kind, planes, numbers[0] if len(packed) <= 4 else start + len(lists))
        lists += packed if len(packed) > 4 else b""
    ifd = b"".join(struct.pack("<HHLL", n, *entry) for n, entry in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<LH", 8, len(entries)) + ifd + bytes(4)
    path.write_bytes((head + lists).ljust(start + 64, b"\0") + values.tobytes())


# One image of a user's own table, in every state


def _truncated(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        Image.fromarray(GREY).save(path.with_name(name))
        cut(path.with_name(name), 0.7)
        path.with_name(name).rename(path)

    return damage


def _png_with_a_flipped_byte(path: Path) -> None:
    Image.fromarray(GREY).save(path, format="PNG")
    flip(path, 300)


def _jpeg_bomb(path: Path) -> None:
    Image.fromarray(GREY).save(path, format="JPEG")
    content = path.read_bytes()
    frame = content.index(b"\xff\xc0")  # start of frame: length, depth, height, width
    path.write_bytes(content[: frame + 5] + struct.pack(">HH", 65500, 65500) + content[frame + 9 :])


def _pages(path: Path) -> None:
    page = Image.fromarray(GREY)
    page.save(path, format="TIFF", save_all=True, append_images=[page, page])


def _garbage_dicom(path: Path) -> None:
    path.write_bytes(bytes(128) + b"DICM" + np.random.default_rng(2).bytes(4000))


def _truncated_dicom(path: Path) -> None:
    write_dicom(path, DEEP)
    cut(path, 0.8)


def _dicom(**header: object) -> Callable[[Path], None]:
    return lambda path: write_dicom(path, DEEP, **header) and None


JPEG_LOSSLESS, DEFLATED = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1.99"
COMPLETE = r"image: expected a complete PNG, JPEG, TIFF or DICOM image, got "

IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), COMPLETE + r"an empty file \(0 bytes\); copy or export"),
    "absent": (lambda p: None, COMPLETE + "no such file; copy or export the file again"),
    "folder": (lambda p: p.mkdir(), COMPLETE + "a folder; name an image file"),
    "pipe": (os.mkfifo, COMPLETE + "a pipe or device; name an image file"),
    "text": (lambda p: p.write_text("hello, world"), COMPLETE + r"an unknown format \(it begins with b'hello"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html><p>Log in"), COMPLETE + "a web page or XML text"),
    "ZIP archive": (lambda p: p.write_bytes(b"PK\3\4" + bytes(99)), COMPLETE + "a ZIP archive"),
    "GIF": (lambda p: Image.fromarray(GREY).save(p, format="GIF"), COMPLETE + "a GIF image"),
    "one byte": (lambda p: p.write_bytes(b"\x89"), COMPLETE + "an unknown format"),
    "truncated JPEG": (_truncated("x.jpg"), COMPLETE + "a JPEG file without its end"),
    "truncated PNG": (_truncated("x.png"), COMPLETE + "OSError: .*truncated"),
    "truncated TIFF": (_truncated("x.tif"), COMPLETE),
    "PNG with a flipped byte": (_png_with_a_flipped_byte, COMPLETE + r"(SyntaxError|OSError): .*broken"),
    "JPEG bomb": (_jpeg_bomb, r"image: expected at most 150 megapixels, got Image size \(4290250000 pixels\)"),
    "TIFF bomb": (lambda p: tiff(p, GREY, width=13000, height=13000), "at most 150 megapixels, got 13000 x 13000 pix"),
    "TIFF without pixels": (lambda p: tiff(p, GREY, width=0), r"image: expected .*, got "),
    "floating-point TIFF": (lambda p: Image.fromarray(GREY.astype(np.float32)).save(p, format="TIFF"), "mode F"),
    "32-bit TIFF": (lambda p: Image.fromarray(GREY.astype(np.int32)).save(p, format="TIFF"), "32-bit .*mode I"),
    "16-bit planes TIFF": (
        lambda p: tiff(p, np.stack([DEEP] * 3), kind=2, planar=2),
        COMPLETE + "16-bit colour stored plane by plane; save it with the channels interleaved",
    ),
    "TIFF of three pages": (_pages, COMPLETE + "3 pages in one file; save each page as a separate file"),
    "DICOM of noise": (_garbage_dicom, r"image: expected .*, got .*; "),
    "truncated DICOM": (_truncated_dicom, COMPLETE + "ValueError: The number of bytes of pixel data is less"),
    "DICOM bomb": (_dicom(Rows=60000, Columns=60000), "at most 150 megapixels, got 60000 x 60000 pixels in its header"),
    "DICOM of many frames": (_dicom(NumberOfFrames=12), "expected one image, got 12 frames; export each"),
    "DICOM without pixels": (_dicom(PixelData=None), "got a DICOM file without PixelData; export it again"),
    "DICOM report": (_dicom(Rows=None), r"without Rows and Columns \(Secondary Capture Image Storage\); leave it out"),
    "DICOM in an unknown code": (
        _dicom(syntax=JPEG_LOSSLESS),
        r"transfer syntax JPEG Lossless.*; decompress it \(gdcmconv --raw IN OUT, or dcmdjpeg\), or pip install pyl",
    ),
    "deflated DICOM": (_dicom(syntax=DEFLATED), "got a deflated file; unpack it with dcmconv"),
    "DICOM window of no width": (
        _dicom(WindowCenter="40", WindowWidth="0"),
        r"expected a window of positive width .*got centre 40, width 0; repair the file, or set the option window",
    ),
    "DICOM window of an unknown form": (
        _dicom(WindowCenter="40", WindowWidth="80", VOILUTFunction="CUBIC"),
        "expected VOILUTFunction LINEAR, LINEAR_EXACT or SIGMOID, got 'CUBIC'",
    ),
    "DICOM colour of an unknown kind": (_dicom(PhotometricInterpretation="HSV"), "image: expected .*HSV.*; "),
}


WITH_A_SIZE = {  # their headers are intact
    "truncated JPEG",
    "truncated PNG",
    "truncated TIFF",
    "PNG with a flipped byte",
    "floating-point TIFF",
    "32-bit TIFF",
    "16-bit planes TIFF",
    "TIFF of three pages",
    "truncated DICOM",
    "DICOM without pixels",
    "DICOM in an unknown code",
    "DICOM window of no width",
    "DICOM window of an unknown form",
    "DICOM colour of an unknown kind",
}


@pytest.fixture
def table_root(tmp_path: Path) -> Path:
    Image.fromarray(GREY).save(tmp_path / "whole.png")
    (tmp_path / "table.csv").write_text("image,patient,mass\nimage,1,0\nwhole.png,2,1\n")
    return tmp_path


@pytest.mark.parametrize("kind", IMAGES)
def test_the_error_for_a_damaged_image_names_it_with_expected_and_got(table_root, kind):
    damage, message = IMAGES[kind]
    damage(table_root / "image")
    data = open_small("table", table_root, 1, table="table.csv", labels=["mass"])
    with pytest.raises(DataError, match=message):
        data.read("image")
    assert data.read("whole.png").shape == (32, 32, 1)


@pytest.mark.parametrize("kind", IMAGES)
def test_the_size_of_a_damaged_image_comes_from_its_header_or_is_an_error(table_root, kind):
    IMAGES[kind][0](table_root / "image")
    data = open_small("table", table_root, 1, table="table.csv", labels=["mass"])
    expected = nullcontext() if kind in WITH_A_SIZE else pytest.raises(DataError, match=str(table_root / "image"))
    with expected:
        assert data.source_size("image") == (40, 40)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (PermissionError(13, "Permission denied"), r"a file without read permission; run chmod u\+r /"),
        (MemoryError(), "more pixels than fit into memory; shrink the image, or run fewer workers"),
        (OSError(5, "Input/output error"), r"OSError: \[Errno 5\] Input/output error; copy or export"),
    ],
    ids=["not permitted", "no memory", "broken disk"],
)
def test_an_error_of_the_system_names_file_and_remedy(table_root, monkeypatch, failure, message):
    data = open_small("table", table_root, 1, table="table.csv", labels=["mass"])
    opened = builtins.open

    def refuse(path: object, *args: object, **options: object) -> object:
        if str(path).endswith("whole.png"):
            raise failure
        return opened(path, *args, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(DataError, match=r"whole\.png: expected a complete PNG.*, got " + message):
        data.read("whole.png")


# Label files and lists of the official layouts


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
        r"1 rows of the index have control characters in patient_id, the first is 'P\\r1'",
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
def data_root(table_root: Path) -> Path:
    """Return a data root with every data set, all whole (but for the first image of the table, which is absent)."""
    make_kaggle(table_root)
    make_chest(table_root)
    make_pcam(table_root)
    (table_root / "medmnist").mkdir()
    parts = {f"{part}_images": GREY[None] for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.ones((1, 1), np.uint8) for part in ("train", "val", "test")}
    np.savez_compressed(table_root / "medmnist" / "set.npz", **parts, **labels)
    return table_root


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
