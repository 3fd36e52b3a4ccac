"""Damage inside TIFF files that Pillow does not report; healthy files of every coding are read."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import tiff
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError

RNG = np.random.default_rng(4)
SMALL = Image.fromarray(RNG.integers(0, 256, (12, 15), np.uint8))
PHOTO = np.asarray(SMALL.resize((150, 120), Image.Resampling.BICUBIC)) // 2 + RNG.integers(0, 9, (120, 150), np.uint8)
GREY = np.arange(128, dtype=np.uint8).reshape(8, 16)
ROWS = [GREY[start : start + 3].tobytes() for start in (0, 3, 6)]  # three strips, the last of two rows
CODINGS = ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "zstd", "lzma"]


def coded(coding: str, colour: bool = True) -> bytes:
    """Return the photograph as TIFF of several strips."""
    buffer = io.BytesIO()
    pixels = np.stack([PHOTO, PHOTO.T.reshape(PHOTO.shape), 255 - PHOTO], axis=-1) if colour else PHOTO
    Image.fromarray(pixels).save(buffer, "TIFF", compression=coding, strip_size=20_000)
    return buffer.getvalue()


def middle_of_a_strip(content: bytes) -> int:
    """Return the position in the middle of the second strip."""
    with Image.open(io.BytesIO(content)) as picture:
        tags: ImageFileDirectory_v2 = picture.tag_v2  # type: ignore[attr-defined]
        assert len(tags[273]) > 1
        return int(tags[273][1] + tags[279][1] // 2)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_whole_tiff_files_are_read_as_pillow_reads_them(tmp_path: Path, coding: str, colour: bool) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(coded(coding, colour))
    with Image.open(path) as picture:
        assert np.array_equal(decode_image(path, 3), np.asarray(picture.convert("RGB")))


DAMAGE: dict[str, Callable[[bytes, int], bytes]] = {
    "hole of zeros": lambda content, middle: content[:middle] + bytes(300) + content[middle + 300 :],
    "flipped bytes": lambda content, middle: content[:middle] + RNG.bytes(300) + content[middle + 300 :],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("coding", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "lzma"])
def test_damage_inside_the_strips_of_a_tiff_file_is_found(tmp_path: Path, coding: str, damage: str) -> None:
    path = tmp_path / "x.tif"
    content = coded(coding)
    path.write_bytes(DAMAGE[damage](content, middle_of_a_strip(content)))
    with pytest.raises(DamagedFileError, match=r"x\.tif: expected a complete PNG, JPEG, TIFF or DICOM image, got "):
        decode_image(path, 3)


def test_one_flipped_bit_in_deflated_strips_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    content = coded("tiff_adobe_deflate")
    middle = middle_of_a_strip(content)
    for place in range(middle, middle + 500, 50):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DamagedFileError, match=r"got a TIFF image with damaged data in strip or tile 2 \("):
            decode_image(path, 3)


@pytest.mark.parametrize(
    ("tags", "got"),
    [
        ({"offsets": [200, 0, 296]}, "strip or tile 2 of 3 with 48 bytes at byte 0 of"),
        ({"offsets": [200, 248, 9999]}, "strip or tile 3 of 3 with 32 bytes at byte 9999 of"),
        ({"counts": [48, 0, 32]}, "strip or tile 2 of 3 with 0 bytes at byte"),
        ({"offsets": [200, 248], "counts": [48, 48]}, "2 of 3 strips or tiles"),
    ],
    ids=["without a place", "beyond the end", "empty", "too few"],
)
def test_absent_strips_are_found(tmp_path: Path, tags: dict[str, list[int]], got: str) -> None:
    path = tiff(tmp_path / "x.tif", ROWS, (16, 8), False, rows_per_strip=[3], **tags)
    with pytest.raises(DamagedFileError, match=rf"x\.tif: expected .*, got a TIFF image with {got}"):
        decode_image(path, 1)


@pytest.mark.parametrize(
    "tags",
    [{}, {"counts": [0, 0, 0]}, {"counts": [48, 48, 48]}, {"counts": [9, 9, 9]}],
    ids=["right", "no counts", "the last too long", "too short"],
)
def test_wrong_counts_of_uncompressed_strips_do_no_harm(tmp_path: Path, tags: dict[str, list[int]]) -> None:
    path = tiff(tmp_path / "x.tif", ROWS, (16, 8), False, rows_per_strip=[3], **tags)
    assert np.array_equal(decode_image(path, 1)[..., 0], GREY)


def test_a_strip_that_unpacks_to_more_than_the_image_is_not_unpacked_whole(tmp_path: Path) -> None:
    bomb = zlib.compress(GREY.tobytes() + bytes(50_000_000))
    path = tiff(tmp_path / "x.tif", [bomb], (16, 8), compression=[8])
    assert np.array_equal(decode_image(path, 1)[..., 0], GREY)
    path = tiff(tmp_path / "y.tif", [zlib.compress(GREY.tobytes())[:-5]], (16, 8), compression=[8])
    with pytest.raises(DamagedFileError, match="got a TIFF image with strip or tile 1 without its end"):
        decode_image(path, 1)


def test_a_cut_tiff_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    content = coded("tiff_lzw")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="got a TIFF image without its directory: the file is cut off"):
        decode_image(path, 3)
