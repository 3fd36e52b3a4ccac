"""Image files of every accepted kind to grey levels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_dicom
from image_files import png, png_chunk
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_windowing

from raygrid.data.damage import SuspectImageWarning
from raygrid.data.images import decode
from raygrid.data.images.decode import decode_image, image_size
from raygrid.data.images.intensity import MAX_PIXELS, as_levels
from raygrid.errors import DataError

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)


def saved(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


# Files that Pillow reads


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg"])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_8_bit_images_equal_those_of_pillow(tmp_path, name, array):
    path = saved(tmp_path / name, array)
    with Image.open(path) as picture:
        assert np.array_equal(decode_image(path, 3), np.asarray(picture.convert("RGB")))
        assert np.array_equal(decode_image(path, 1)[..., 0], np.asarray(picture.convert("L")))
    assert image_size(path) == (20, 30)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bits_keep_their_upper_8(tmp_path, name):
    path = saved(tmp_path / name, DEEP)
    assert np.array_equal(decode_image(path, 1)[..., 0], DEEP >> 8)
    assert np.array_equal(decode_image(path, 3), np.stack([DEEP >> 8] * 3, axis=-1))
    assert np.array_equal(decode_image(path, 1, window=(1000, 5000))[..., 0], as_levels(DEEP, (1000, 5000)))


def test_a_16_bit_tiff_with_white_as_zero_is_inverted(tmp_path):
    path = saved(tmp_path / "x.tif", DEEP, tiffinfo={262: 0})
    with Image.open(path) as picture:
        assert picture.tag_v2[262] == 0
    assert np.array_equal(decode_image(path, 1)[..., 0], (65535 - DEEP) >> 8)


def test_16_bit_colour_gives_the_levels_of_16_bit_grey(tmp_path):
    # Pillow cannot write it: a PNG by hand.
    pixels = np.stack([DEEP] * 3, axis=-1).astype(">u2").reshape(20, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path = tmp_path / "x.png"
    path.write_bytes(png((30, 20), rows, depth=16, kind=2))
    assert np.array_equal(decode_image(path, 3), np.stack([DEEP >> 8] * 3, axis=-1))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_palettes_are_resolved_and_transparency_is_dropped(tmp_path, mode):
    black_white = np.where(GREY > 127, 255, 0).astype(np.uint8)
    picture = Image.fromarray(black_white).convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(GREY))
    picture.save(tmp_path / "x.png")
    assert np.array_equal(decode_image(tmp_path / "x.png", 1)[..., 0], black_white)
    assert np.array_equal(decode_image(tmp_path / "x.png", 3), np.stack([black_white] * 3, axis=-1))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_images_are_turned_upright_on_request(tmp_path, name, orientation, turns):
    blocks = np.kron(np.array([[0, 60, 120], [180, 240, 30]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, blocks, exif=exif)
    upright = decode_image(path, 1, upright=True)[..., 0]
    assert np.abs(upright.astype(int) - np.rot90(blocks, turns)).max() <= 4
    assert image_size(path, upright=True) == upright.shape
    if name != "x.tif":  # Pillow always turns TIFF
        assert decode_image(path, 1).shape[:2] == image_size(path) == blocks.shape


@pytest.mark.parametrize("exif", [bytes(range(1, 60)), b"II*\0\x08\0\0\0\5\0", b"II*\0\xff\xff\0\0", b""])
def test_exif_that_cannot_be_read_does_not_hide_the_pixels(tmp_path, exif):
    path = tmp_path / "x.png"
    path.write_bytes(png((30, 20), b"".join(b"\0" + row.tobytes() for row in GREY), extra=png_chunk(b"eXIf", exif)))
    assert np.array_equal(decode_image(path, 1, upright=True)[..., 0], GREY)
    assert image_size(path, upright=True) == (20, 30)


def test_a_window_stretches_grey_and_refuses_colour(tmp_path):
    levels = decode_image(saved(tmp_path / "x.png", GREY), 1, window=(50, 150))[..., 0]
    assert np.array_equal(levels, np.clip(np.rint((GREY.astype(float) - 50) * 2.55), 0, 255))
    with pytest.raises(DataError, match=r"y\.png: .*got mode RGB where a window is set; a window needs grey"):
        decode_image(saved(tmp_path / "y.png", COLOUR), 1, window=(50, 150))


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("array", [GREY, DEEP], ids=["8 bits", "16 bits"])
def test_an_image_of_one_grey_level_after_the_window_is_told(tmp_path, name, array):
    path = saved(tmp_path / name, array)
    with pytest.warns(SuspectImageWarning, match=rf"{name}: one grey level \(0\) after windowing, from values "):
        assert decode_image(path, 1, window=(70_000, 80_000)).max() == 0


def test_16_bit_values_too_small_for_8_bits_are_told_and_flat_images_are_not(tmp_path, recwarn):
    decode_image(saved(tmp_path / "flat.png", np.full((20, 30), 7, np.uint16)), 1)
    decode_image(saved(tmp_path / "flat.png", np.full((20, 30), 7, np.uint8)), 1, window=(100, 200))
    assert not recwarn.list
    with pytest.warns(SuspectImageWarning, match=r"x\.png: one grey level \(0\).* from values 0 to 255"):
        decode_image(saved(tmp_path / "x.png", GREY.astype(np.uint16)), 1)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_12_bit_values_in_a_16_bit_file_are_told(tmp_path, name, recwarn):
    values = np.linspace(0, 4095, 600).astype(np.uint16).reshape(20, 30)
    decode_image(saved(tmp_path / name, values + 1), 1)
    decode_image(tmp_path / name, 1, window=(0, 4095))
    assert not recwarn.list  # a brighter pixel, or a window
    message = (
        rf"{name}: values from 0 to 4095 of 65535, so at most 16 grey levels: set the option window to their range"
    )
    with pytest.warns(SuspectImageWarning, match=message):
        levels = decode_image(saved(tmp_path / name, values), 1)
    assert np.array_equal(levels[..., 0], values // 256)


def test_an_absurd_size_is_refused_before_anything_is_decoded(tmp_path, monkeypatch, recwarn):
    path = tmp_path / "x.png"
    path.write_bytes(png((12_000, 12_501), b""))  # above the limit of raygrid, below Pillow's
    message = r"x\.png: expected at most 150 megapixels, got 12501 x 12000 pixels in its header"
    monkeypatch.setattr(decode, "picture_levels", None)  # not reached
    with pytest.raises(DataError, match=message):
        decode_image(path, 1)
    with pytest.raises(DataError, match=message):
        image_size(path)
    assert MAX_PIXELS < 12_000 * 12_501
    path.write_bytes(png((60_000, 60_000), b""))
    with pytest.raises(DataError, match=r"x\.png: expected at most 150 megapixels, got Image size \(3600000000 pixels"):
        decode_image(path, 1)
    path.write_bytes(png((12_000, 10_000), b""))  # Pillow would warn of this size
    assert image_size(path) == (10_000, 12_000)
    assert not recwarn.list


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_grey_image_in_any_mode_stays_grey(tmp_path, mode):
    grey = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    picture = Image.fromarray(grey).convert(mode)
    if mode == "RGBA":
        picture.putalpha(255)
    picture.save(tmp_path / "x.png")
    assert np.array_equal(decode_image(tmp_path / "x.png", 1)[..., 0], grey)


# DICOM


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_dicom_window_and_rescale_agree_with_pydicom(tmp_path, function):
    values = RNG.integers(-1000, 3000, (16, 24)).astype(np.int16)
    extra = {} if function is None else {"VOILUTFunction": function}
    path = write_dicom(
        tmp_path / "x.dcm", values, RescaleSlope="2", RescaleIntercept="-24", WindowCenter=["40", "1"],
        WindowWidth=["400", "2"], **extra,
    )  # fmt: skip
    dataset = pydicom.dcmread(path)
    hounsfield = apply_modality_lut(dataset.pixel_array, dataset)
    assert hounsfield[0, 0] == 2 * int(values[0, 0]) - 24
    shown = apply_windowing(hounsfield, dataset)
    low, high = -(2.0**15) * 2 - 24, (2.0**15 - 1) * 2 - 24
    levels = decode_image(path, 1)[..., 0]
    assert np.array_equal(levels, np.rint((shown - low) / (high - low) * 255).astype(np.uint8))
    assert levels.min() == 0
    assert levels.max() == 255
    assert image_size(path) == (16, 24)


def test_dicom_without_a_window_spans_its_own_range(tmp_path):
    values = RNG.integers(-200, 900, (16, 24)).astype(np.int16)
    levels = decode_image(write_dicom(tmp_path / "x", values), 1)[..., 0]  # known by its content, not its name
    assert np.array_equal(levels, as_levels(values, (float(values.min()), float(values.max()))))
    assert not decode_image(write_dicom(tmp_path / "flat", np.full((8, 8), 7, np.int16)), 1).any()


def test_dicom_monochrome1_is_inverted(tmp_path):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = write_dicom(tmp_path / "x.dcm", values, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(decode_image(path, 1)[..., 0], 255 - values)
    assert np.array_equal(decode_image(path, 3), np.stack([255 - values] * 3, axis=-1))


def test_a_user_window_replaces_that_of_the_file(tmp_path):
    values = RNG.integers(0, 4096, (16, 24)).astype(np.uint16)
    path = write_dicom(
        tmp_path / "x.dcm", values, BitsStored=12, HighBit=11, RescaleSlope="1", RescaleIntercept="-1024",
        WindowCenter="0", WindowWidth="1",
    )  # fmt: skip
    expected = as_levels(values.astype(float) - 1024, (-1000, 400))
    assert np.array_equal(decode_image(path, 1, window=(-1000, 400))[..., 0], expected)
    thresholded = decode_image(path, 1)[..., 0]  # LINEAR of width 1 is a threshold, not a division by zero
    assert np.array_equal(thresholded, np.where(values.astype(int) - 1024 > -0.5, 255, 0))


def test_dicom_voi_lut_goes_before_the_window(tmp_path):
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [256, 0, 12], [min(16 * i * 2, 4095) for i in range(256)]
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "US"
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = write_dicom(tmp_path / "x.dcm", values, VOILUTSequence=[lut], WindowCenter="0", WindowWidth="1")
    expected = np.rint(np.minimum(32 * values.astype(float), 4095) / 4095 * 255)
    assert np.array_equal(decode_image(path, 1)[..., 0], expected)


def test_dicom_colour(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", COLOUR)
    assert np.array_equal(decode_image(path, 3), COLOUR)
    assert np.array_equal(decode_image(path, 1)[..., 0], np.asarray(Image.fromarray(COLOUR).convert("L")))
    with pytest.raises(DataError, match=r"expected a grey image for the option window, got RGB"):
        decode_image(path, 3, window=(0, 1))


def test_compressed_dicom_is_decoded_if_a_decoder_is_installed(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", DEEP)
    plain = decode_image(path, 1)
    dataset = pydicom.dcmread(path)
    dataset.compress("1.2.840.10008.1.2.5")  # RLE, which pydicom decodes itself
    dataset.save_as(path)
    assert np.array_equal(decode_image(path, 1), plain)


def test_pydicom_is_loaded_for_dicom_only_and_its_absence_is_explained(tmp_path):
    saved(tmp_path / "x.png", GREY)
    write_dicom(tmp_path / "x.dcm", DEEP)
    code = f"""
import sys
sys.modules["pydicom"] = None
from pathlib import Path
from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError
assert decode_image(Path({str(tmp_path / "x.png")!r}), 1).shape == (20, 30, 1)
try:
    decode_image(Path({str(tmp_path / "x.dcm")!r}), 1)
except DataError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "x.dcm: this is a DICOM file, and pydicom is absent: pip install pydicom" in printed


def test_a_jpeg_whose_end_is_zeros_is_refused_and_bytes_after_its_end_are_not(tmp_path):
    grain = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = saved(tmp_path / "x.jpg", grain)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(500))
    assert np.array_equal(decode_image(path, 3), np.asarray(Image.open(path)))
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(DataError, match=r"x\.jpg: expected .*, got a JPEG image without its end"):
        decode_image(path, 3)


def test_an_image_of_one_row_is_refused_before_it_is_made_square(tmp_path):
    path = saved(tmp_path / "x.png", np.zeros((1, 100_000), np.uint8))
    with pytest.raises(DataError, match=r"expected sides of at most 20 to 1, got 1 x 100000 pixels"):
        decode_image(path, 1)
