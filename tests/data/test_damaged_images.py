"""Damaged images of a user's own table: each kind of damage with its error message."""

import builtins
import os
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from image_files import tiff
from PIL import Image
from small_data import cut, flip, make_table, open_small

from raygrid.errors import DataError

GREY = np.random.default_rng(1).integers(0, 256, (40, 40)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 16


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
    "text": (lambda p: p.write_text("hello, world"), COMPLETE + r"a text file \(it begins with b'hello"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html><p>Log in"), COMPLETE + "a web page or XML text"),
    "ZIP archive": (lambda p: p.write_bytes(b"PK\3\4" + bytes(99)), COMPLETE + "a ZIP archive"),
    "GIF": (lambda p: Image.fromarray(GREY).save(p, format="GIF"), COMPLETE + "a GIF image"),
    "one byte": (lambda p: p.write_bytes(b"\x89"), COMPLETE + "an unknown format"),
    "truncated JPEG": (_truncated("x.jpg"), COMPLETE + "a JPEG image without its end"),
    "truncated PNG": (_truncated("x.png"), COMPLETE + "a PNG image without the end of its chunk 'IDAT'"),
    "truncated TIFF": (_truncated("x.tif"), COMPLETE),
    "PNG with a flipped byte": (_png_with_a_flipped_byte, COMPLETE + "a PNG image with a damaged chunk 'IDAT'"),
    "JPEG bomb": (_jpeg_bomb, r"image: expected at most 150 megapixels, got Image size \(4290250000 pixels\)"),
    "TIFF bomb": (lambda p: tiff(p, [GREY.tobytes()], (13000, 13000)), "at most 150 megapixels, got 13000 x 13000 pix"),
    "TIFF without pixels": (lambda p: tiff(p, [GREY.tobytes()], (0, 40)), r"image: expected .*, got "),
    "floating-point TIFF": (lambda p: Image.fromarray(GREY.astype(np.float32)).save(p, format="TIFF"), "mode F"),
    "32-bit TIFF": (lambda p: Image.fromarray(GREY.astype(np.int32)).save(p, format="TIFF"), "32-bit .*mode I"),
    "16-bit planes TIFF": (
        lambda p: tiff(p, [DEEP.tobytes()] * 3, (40, 40), bits=[16] * 3, kind=[2], planar=[2]),
        COMPLETE + "16-bit colour stored plane by plane; save it with the channels interleaved",
    ),
    "TIFF of three pages": (_pages, COMPLETE + "3 pages in one file; save each page as a separate file"),
    "DICOM of noise": (_garbage_dicom, r"image: expected .*, got .*; "),
    "truncated DICOM": (_truncated_dicom, "image: expected 3200 bytes of pixels for 40 x 40 .*, got [0-9]+; copy or"),
    "DICOM bomb": (_dicom(Rows=60000, Columns=60000), "at most 150 megapixels, got 60000 x 60000 pixels in its header"),
    "DICOM of many frames": (_dicom(NumberOfFrames=12), "expected one image, got 12 frames; export each"),
    "DICOM without pixels": (
        _dicom(PixelData=None),
        "got a DICOM file without PixelData; export it with pixels, or copy",
    ),
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
    make_table(tmp_path, GREY)
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
