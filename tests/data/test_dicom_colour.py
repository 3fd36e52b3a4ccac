"""Colour in DICOM files: kinds, depths and planes of pixels, and the marks of compressed frames."""

from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import by_pillow, compressed, jpeg, jpeg_2000, write_dicom
from PIL import Image

from raygrid.data.damage import SuspectImageWarning
from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError

GRAIN = np.random.default_rng(3)
COLOUR = GRAIN.integers(0, 256, (8, 8, 3)).astype(np.uint8)
SMOOTH = np.asarray(
    Image.fromarray(GRAIN.integers(0, 256, (6, 6, 3)).astype(np.uint8)).resize((48, 64), Image.Resampling.BICUBIC)
)
GREY = SMOOTH[..., 0]
JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"


# Plain and RLE pixels


def rgb_of(ybr: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2, solved for RGB."""
    y, blue, red = (ybr[..., place].astype(float) for place in range(3))
    parts = (y + 1.402 * (red - 128), y - 0.344136 * (blue - 128) - 0.714136 * (red - 128), y + 1.772 * (blue - 128))
    return np.clip(np.floor(np.stack(parts, axis=-1) + 0.5), 0, 255)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("rle", [False, True], ids=["native", "RLE"])
def test_colour_without_loss_is_read_in_both_planar_configurations(tmp_path, kind, planar, rle):
    data = (COLOUR if planar == 0 else COLOUR.transpose(2, 0, 1)).tobytes()
    path = write_dicom(tmp_path / "x.dcm", COLOUR, PhotometricInterpretation=kind, PlanarConfiguration=0)
    if rle:  # always plane by plane, whatever the header says
        dataset = pydicom.dcmread(compressed(path))
        dataset.PlanarConfiguration = planar
        dataset.save_as(path)
    else:
        write_dicom(path, COLOUR, PhotometricInterpretation=kind, PlanarConfiguration=planar, PixelData=data)
    expected = COLOUR if kind == "RGB" else rgb_of(COLOUR)
    assert np.abs(decode_image(path, 3) - expected.astype(int)).max() <= 1
    assert kind != "RGB" or np.array_equal(decode_image(path, 3), COLOUR)


def test_subsampled_colour_is_expanded(tmp_path):
    full = np.repeat(COLOUR[:, ::2], 2, axis=1)  # one chroma for two pixels
    full[..., 0] = COLOUR[..., 0]
    data = np.stack([full[:, ::2, 0], full[:, 1::2, 0], full[:, ::2, 1], full[:, ::2, 2]], axis=-1).tobytes()
    path = write_dicom(tmp_path / "x.dcm", COLOUR, PhotometricInterpretation="YBR_FULL_422", PixelData=data)
    assert np.abs(decode_image(path, 3) - rgb_of(full).astype(int)).max() <= 1
    for header in ({"PlanarConfiguration": 1}, {"Columns": 7}):
        said = {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": data} | header
        with pytest.raises(DataError, match="expected an even number of columns and PlanarConfiguration 0"):
            decode_image(write_dicom(tmp_path / "y.dcm", COLOUR, **said), 3)


@pytest.mark.parametrize("kind", ["YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "CMYK", "ARGB", "XYZ"])
def test_kinds_that_are_not_converted_are_refused(tmp_path, kind):
    with pytest.raises(DataError, match=f"expected one grey, RGB, YBR or palette colour image, got {kind}; export it"):
        decode_image(write_dicom(tmp_path / "x.dcm", COLOUR, PhotometricInterpretation=kind), 3)


@pytest.mark.parametrize("kind", ["YBR_ICT", "YBR_RCT"])
def test_kinds_of_jpeg_2000_are_refused_elsewhere(tmp_path, kind):
    with pytest.raises(DataError, match=f"expected {kind} in JPEG 2000 only, got another transfer syntax"):
        decode_image(write_dicom(tmp_path / "x.dcm", COLOUR, PhotometricInterpretation=kind), 3)


@pytest.mark.parametrize(("bits", "allocated"), [(5, 8), (8, 8), (12, 16), (16, 16)])
def test_colour_of_any_depth_is_scaled_from_its_stored_bits(tmp_path, bits, allocated):
    values = (COLOUR.astype(np.uint16) << (bits - 8) if bits > 8 else COLOUR >> (8 - bits)).astype(f"u{allocated // 8}")
    path = write_dicom(tmp_path / "x.dcm", values, BitsStored=bits, HighBit=bits - 1)
    expected = COLOUR if bits >= 8 else np.rint((COLOUR >> (8 - bits)) * 255.0 / (2**bits - 1))
    assert np.array_equal(decode_image(path, 3), expected)


def test_colour_that_uses_less_than_its_bits_or_has_a_sign_is_refused(tmp_path):
    wide = COLOUR.astype(np.uint16)
    for header, message in (
        ({}, "expected colour values of 16 bits, got none above 2[0-9][0-9]; correct BitsStored and HighBit"),
        ({"PixelRepresentation": 1}, "expected PixelRepresentation 0 for RGB, got 1"),
        ({"PhotometricInterpretation": "YBR_FULL"}, "expected 8 bits per channel for YBR_FULL, got BitsStored 16"),
    ):
        with pytest.raises(DataError, match=message):
            decode_image(write_dicom(tmp_path / "x.dcm", wide, **header), 3)


def test_a_palette_in_lossy_jpeg_is_refused(tmp_path):
    header = {"PhotometricInterpretation": "PALETTE COLOR", "syntax": JPEG, "frames": [b"\xff\xd8\xff\xd9"]}
    with pytest.raises(DataError, match="expected exact palette indices of at most 16 bits, got lossy JPEG"):
        decode_image(write_dicom(tmp_path / "x.dcm", COLOUR[..., 0], **header), 3)


def test_plain_colour_without_its_planar_configuration_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected PlanarConfiguration with one integer, got None; correct"):
        decode_image(write_dicom(tmp_path / "x.dcm", COLOUR, PlanarConfiguration=None), 3)


# The marks of compressed frames


def without_marks(frame: bytes) -> bytes:
    """Drop the JFIF segment, which Pillow writes first."""
    assert frame[2:4] == b"\xff\xe0"
    return frame[:2] + frame[4 + int.from_bytes(frame[4:6], "big") :]


def adobe(frame: bytes, transform: int) -> bytes:
    return frame[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform]) + frame[2:]


YBR = jpeg(SMOOTH, subsampling=0)
BARE = without_marks(YBR)
RGB = jpeg(SMOOTH, subsampling=0, keep_rgb=True)  # marked by Adobe's segment and the letters R, G, B
COLOURS = {
    "JFIF": (YBR, ("YBR_FULL", "YBR_FULL_422"), ("RGB",)),
    "Adobe": (adobe(BARE, 1), ("YBR_FULL", "YBR_FULL_422"), ("RGB",)),
    "JFIF and Adobe": (adobe(YBR, 1), ("YBR_FULL", "YBR_FULL_422"), ("RGB",)),
    "JFIF against Adobe": (adobe(YBR, 0), ("YBR_FULL", "YBR_FULL_422"), ("RGB",)),
    "no mark": (BARE, ("YBR_FULL", "YBR_FULL_422"), ()),
    "RGB": (RGB, ("RGB",), ()),
    "RGB by letters": (RGB[:2] + RGB[18:], ("RGB",), ("YBR_FULL", "YBR_FULL_422")),
}


@pytest.mark.parametrize("name", COLOURS)
def test_a_colour_jpeg_frame_is_converted_once_and_by_its_own_mark(tmp_path, name, recwarn):
    frame, same, other = COLOURS[name]
    expected = by_pillow(RGB if name.startswith("RGB") else YBR).astype(int)
    for kind in same:
        path = write_dicom(tmp_path / "x.dcm", SMOOTH, syntax=JPEG, frames=[frame], PhotometricInterpretation=kind)
        assert np.abs(decode_image(path, 3) - expected).max() <= 1
    assert not recwarn.list
    for kind in other:
        path = write_dicom(tmp_path / "x.dcm", SMOOTH, syntax=JPEG, frames=[frame], PhotometricInterpretation=kind)
        with pytest.warns(SuspectImageWarning, match=f"PhotometricInterpretation {kind}, but the JPEG frame declares"):
            assert np.abs(decode_image(path, 3) - expected).max() <= 1


@pytest.mark.parametrize(
    ("frame", "kind", "got"),
    [
        (without_marks(jpeg(SMOOTH, subsampling=2)), "RGB", "a JPEG frame with subsampled components, as YBR has them"),
        (adobe(BARE, 0), "YBR_FULL_422", "a JPEG frame that declares RGB"),
    ],
    ids=["subsampled", "Adobe without a transform"],
)
def test_a_frame_whose_colour_cannot_be_known_is_refused(tmp_path, frame, kind, got):
    path = write_dicom(tmp_path / "x.dcm", SMOOTH, syntax=JPEG, frames=[frame], PhotometricInterpretation=kind)
    with pytest.raises(DataError, match=f"expected pixels of the kind {kind}, got {got}; correct the header"):
        decode_image(path, 3)


@pytest.mark.parametrize(
    ("transform", "right", "wrong"),
    [(True, ("YBR_RCT", "YBR_ICT", "RGB"), "YBR_FULL"), (False, ("RGB",), "YBR_RCT")],
)
def test_a_jpeg_2000_frame_is_held_against_its_colour_transform(tmp_path, transform, right, wrong):
    frame = jpeg_2000(SMOOTH, mct=int(transform))
    header: dict[str, Any] = {"syntax": JPEG_2000, "frames": [frame]}
    for kind in right:
        path = write_dicom(tmp_path / "x.dcm", SMOOTH, PhotometricInterpretation=kind, **header)
        assert np.array_equal(decode_image(path, 3), SMOOTH)
    path = write_dicom(tmp_path / "x.dcm", SMOOTH, PhotometricInterpretation=wrong, **header)
    with pytest.raises(
        DataError, match=f"expected pixels of the kind {wrong}, got a JPEG 2000 frame with(out)? a colo"
    ):
        decode_image(path, 3)


@pytest.mark.parametrize("planar", [0, 1, None])
def test_compressed_colour_is_read_whatever_the_planar_configuration_says(tmp_path, planar):
    for syntax, frame, kind in ((JPEG, RGB, "RGB"), (JPEG_2000, jpeg_2000(SMOOTH, mct=1), "YBR_RCT")):
        header: dict[str, Any] = {"syntax": syntax, "frames": [frame], "PhotometricInterpretation": kind}
        path = write_dicom(tmp_path / "x.dcm", SMOOTH, PlanarConfiguration=planar, **header)
        assert np.array_equal(decode_image(path, 3), by_pillow(frame))


def test_ybr_in_jpeg_2000_without_a_transform_is_converted(tmp_path):
    ybr = np.asarray(Image.fromarray(SMOOTH).convert("YCbCr"))
    header: dict[str, Any] = {"syntax": JPEG_2000, "frames": [jpeg_2000(ybr, mct=0)]}
    path = write_dicom(tmp_path / "x.dcm", SMOOTH, PhotometricInterpretation="YBR_FULL", **header)
    assert np.abs(decode_image(path, 3) - SMOOTH.astype(int)).max() <= 3  # rounded twice
