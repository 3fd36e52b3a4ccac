"""Files that are no images, or not of the kind that their name says: the message names the kind and the way out."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError

GREY = np.random.default_rng(3).integers(0, 256, (20, 30)).astype(np.uint8)


def saved(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, form)
    return buffer.getvalue()


def array(save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, GREY)
    return buffer.getvalue()


def archive(first: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(first, "x")
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("x"))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
NIFTI = (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(800)
EXPORT = "; export it as PNG or TIFF"
FILES: dict[str, tuple[bytes, str]] = {
    "Git LFS": (POINTER, r"a Git LFS pointer \(it begins with b'version https://'\); run git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s12--ab.png\n", "a git-annex pointer .*; run git annex get"),
    "AppleDouble": (b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(900), "an AppleDouble file, which macOS adds"),
    ".DS_Store": (b"\0\0\0\1Bud1" + bytes(900), "a .DS_Store file of macOS"),
    "web page": (b"\n <!DOCTYPE html><title>Log in</title>", "a web page or XML text"),
    "web page with a mark": (b"\xef\xbb\xbf<html>", "a web page or XML text"),
    "drawing": (b"<?xml version='1.0'?>\n<svg width='9'/>", "an SVG drawing"),
    "server's answer": (b'{"error": "quota"}', "JSON text"),
    "text": (b"404: Not Found", "a text file "),
    "zeros": (bytes(5000), "zeros instead of a header, usually from an unfinished download"),
    "Excel": (archive("[Content_Types].xml"), "an Office file, such as .xlsx or .docx"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(900), "an old Office file, such as .xls"),
    "npy": (array(np.save), "a NumPy array .*" + EXPORT),
    "npz": (array(np.savez), r"a NumPy archive \(.npz\)"),
    "ZIP": (archive("image.png"), "a ZIP archive .*; unpack it"),
    "gzip": (gzip.compress(NIFTI), "a gzip archive .*; unpack it"),
    "tar": (tar(), "a tar archive .*; unpack it"),
    "WebP": (saved("WEBP"), "a WebP image .*" + EXPORT),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(90), "a RIFF file of another kind than WebP"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(90), "an HEIC image .*" + EXPORT),
    "AVIF": (b"\0\0\0\x20ftypavif" + bytes(90), "an AVIF image .*" + EXPORT),
    "film": (b"\0\0\0\x20ftypisom" + bytes(90), "an MP4 or QuickTime film"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(90), "a JPEG XL image .*" + EXPORT),
    "JPEG XL stream": (b"\xff\x0a" + b"\x7f" * 90, "a JPEG XL image .*" + EXPORT),
    "NIfTI": (NIFTI, "a NIfTI volume .*; export each slice as DICOM, PNG or TIFF"),
    "MetaImage": (b"ObjectType = Image\nNDims = 3\n", "a MetaImage header .*; export each slice"),
    "NRRD": (b"NRRD0004\ntype: short\n", "an NRRD volume .*; export each slice"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file"),
    "PGM": (b"P5\n3 2\n255\n123456", "a PBM, PGM or PPM image .*" + EXPORT),
    "BMP": (saved("BMP"), "a BMP image .*" + EXPORT),
    "GIF": (saved("GIF"), "a GIF image .*" + EXPORT),
    "PDF": (saved("PDF"), "a PDF document"),
    "bare DICOM": (
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(300),
        "a DICOM data set without the letters DICM .*; export it again as a DICOM part 10 file",
    ),
    "bare DICOM, implicit": (b"\x08\0\x08\0\x0a\0\0\0ORIGINAL\\A" + bytes(300), "a DICOM data set without the letters"),
    "noise": (b"\x17\x99\xfe\x80" * 99, r"an unknown format \(it begins with b'\\x17"),
    "PNG copied as text": (saved("PNG").replace(b"\r\n", b"\n"), "a PNG image with an unreadable header"),
    "JPEG header alone": (b"\xff\xd8\xff" + bytes(90), "a JPEG image with an unreadable header"),
    "TIFF header alone": (b"II*\0" + (9000).to_bytes(4, "little") + bytes(40), "a TIFF image without its directory"),
    "TIFF of noise": (b"II*\0\x08\0\0\0\x09" + b"\x81\xfe" * 99, "a TIFF image (with|without|of)"),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".dcm"])
@pytest.mark.parametrize("kind", FILES)
def test_the_message_names_the_kind_of_file(tmp_path: Path, kind: str, suffix: str) -> None:
    content, message = FILES[kind]
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    if suffix == ".dcm":
        message = {"noise": "a file without the letters DICM"}.get(kind, message)
        for form in ("PNG", "JPEG", "TIFF"):
            message = f"a {form} image named .dcm; rename it" if f"a {form} image" in message else message
    with pytest.raises(DataError, match=r"expected a complete PNG, JPEG, TIFF or DICOM image, got " + message):
        decode_image(path, 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_an_image_named_dcm_is_renamed_and_then_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.DCM"
    path.write_bytes(saved(form))
    with pytest.raises(DataError, match=rf"x\.DCM: expected a complete .*, got a {form} image named \.DCM; rename it$"):
        decode_image(path, 1)
    assert decode_image(path.rename(tmp_path / "x"), 1).shape == (20, 30, 1)


def test_dicom_is_read_under_any_name(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", GREY, WindowCenter="128", WindowWidth="256")
    levels = decode_image(path, 1)
    assert np.array_equal(decode_image(path.rename(tmp_path / "x.png"), 1), levels)


def test_the_remedy_of_the_data_set_is_added_where_the_kind_has_none(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"404: Not Found")
    with pytest.raises(DamagedFileError):
        decode_image(path, 1)
    path.write_bytes(POINTER)
    with pytest.raises(DataError) as raised:
        decode_image(path, 1)
    assert not isinstance(raised.value, DamagedFileError)
