"""Kinds of pixels and their bits in DICOM files: right values by hand, or an error that names the element."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import compressed, item_of, write_dicom

from raygrid.data.damage import SuspectImageWarning
from raygrid.data.images.decode import decode_image, image_size
from raygrid.data.images.dicom_header import pixel_format
from raygrid.data.images.dicom_pixels import stored_values
from raygrid.errors import DataError

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64  # 0 to 4032: 12 bits
SIGNED = (RAMP.astype(int) - 2048).astype(np.int16)
TWELVE = {"BitsStored": 12, "HighBit": 11}
IMPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


def grey(path: Path, values: np.ndarray, **header: Any) -> np.ndarray:
    return decode_image(write_dicom(path / "x.dcm", values, **header), 1)[..., 0]


def shown(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(float) - low) * 255 / (high - low)), 0, 255)


# Bits beyond BitsStored


GARBAGE = np.random.default_rng(1).integers(0, 16, (8, 8)).astype(np.uint16) << 12


@pytest.mark.parametrize("rle", [False, True], ids=["native", "RLE"])
@pytest.mark.parametrize("values", [RAMP, SIGNED], ids=["unsigned", "signed"])
def test_bits_beyond_bits_stored_are_left_out_and_told(tmp_path, values, rle):
    stored = ((values.view(np.uint16) & 0x0FFF) | GARBAGE).view(values.dtype)
    path = write_dicom(tmp_path / "x.dcm", stored, **TWELVE)
    path = compressed(path) if rle else path
    with pytest.warns(
        SuspectImageWarning, match=r"[0-9]+ of 64 values have bits beyond BitsStored 12, which raygrid i"
    ):
        levels = decode_image(path, 1)[..., 0]
    assert np.array_equal(levels, shown(values, values.min(), values.max()))


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("values", [RAMP, SIGNED], ids=["unsigned", "signed"])
def test_bits_beyond_bits_stored_are_left_out_after_any_decoder(tmp_path, values, syntax):
    stored = ((values.view(np.uint16) & 0x0FFF) | GARBAGE).view(values.dtype)
    # A decoder that gives the same values for every transfer syntax: not every one has a decoder installed.
    path = write_dicom(tmp_path / "x.dcm", stored, syntax=syntax, frames=[_frame(syntax, 8, 8)], **TWELVE)
    decoder = SimpleNamespace(is_available=True, as_array=lambda dataset, **options: (stored, {}))
    pretended = SimpleNamespace(pixels=SimpleNamespace(get_decoder=lambda syntax: decoder))
    dataset = pydicom.dcmread(path)
    with pytest.warns(SuspectImageWarning, match="values have bits beyond BitsStored 12"):
        got = stored_values(path, pretended, dataset, pixel_format(path, dataset, syntax))
    assert np.array_equal(got, values)


def _frame(syntax: str, height: int, width: int) -> bytes:
    """Return the shortest frame that has a header for one component of 16 bits, and an end."""
    if syntax == JPEG_LS:
        size = bytes([16, 0, height, 0, width, 1, 1, 0x11, 0])
        return b"\xff\xd8\xff\xf7\x00\x0b" + size + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"\0\xff\xd9"
    sides = b"".join(side.to_bytes(4, "big") for side in (width, height, 0, 0, width, height, 0, 0))
    return b"\xff\x4f\xff\x51\x00\x29\x00\x00" + sides + b"\x00\x01\x0f\x01\x01" + b"\xff\xd9"


def test_signed_values_are_read_with_and_without_their_sign_continued(tmp_path, recwarn):
    right = shown(SIGNED, -2048, 1984)
    assert np.array_equal(grey(tmp_path, SIGNED, **TWELVE), right)
    assert not recwarn.list
    with pytest.warns(SuspectImageWarning, match="32 of 64 values are negative without sign extension: check PixelRep"):
        assert np.array_equal(grey(tmp_path, (SIGNED.view(np.uint16) & 0x0FFF).view(np.int16), **TWELVE), right)


def test_an_overlay_in_unused_bits_is_left_out_without_a_warning(tmp_path, recwarn):
    path = write_dicom(tmp_path / "x.dcm", RAMP | GARBAGE, **TWELVE)
    dataset = pydicom.dcmread(path)
    for element, value in zip((0x0010, 0x0011, 0x0100, 0x0102), (8, 8, 16, 12), strict=True):
        dataset.add_new((0x6000, element), "US", value)
    dataset.save_as(path)
    assert np.array_equal(decode_image(path, 1)[..., 0], shown(RAMP, 0, 4032))
    assert not recwarn.list


def test_a_continued_sign_in_unsigned_values_is_refused(tmp_path):
    message = r"expected unsigned values of 12 bits \(PixelRepresentation 0\), got 32 of 64 with sign extension"
    with pytest.raises(DataError, match=message):
        grey(tmp_path, SIGNED, PixelRepresentation=0, **TWELVE)


@pytest.mark.parametrize(("bits", "kind"), [(8, "u1"), (16, "<u2"), (32, "<u4"), (64, "<u8"), (32, "<i4"), (16, ">u2")])
def test_values_of_every_width_are_read(tmp_path, bits, kind):
    values = np.arange(64).reshape(8, 8).astype(kind) - (20 if "i" in kind else 0)
    syntax = BIG if kind.startswith(">") else IMPLICIT
    assert np.array_equal(grey(tmp_path, values, syntax=syntax), shown(values, values.min(), values.max()))
    assert bits == 8 * values.itemsize


def test_values_of_one_bit_are_read(tmp_path):
    bits = np.random.default_rng(2).integers(0, 2, (8, 8)).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    header = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed}
    assert np.array_equal(grey(tmp_path, bits, **header), 255 * bits)


# Elements that contradict each other


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "packed 12 bits": ({"BitsAllocated": 12, **TWELVE}, "expected BitsAllocated 1, 8, 16, 32 or 64, got 12; correct"),
    "24 bits": ({"BitsAllocated": 24}, "expected BitsAllocated 1, 8, 16, 32 or 64, got 24"),
    "too many bits": ({"BitsStored": 17}, "expected BitsStored from 1 to BitsAllocated, which is 16, got 17"),
    "no bits": ({"BitsStored": 0}, "expected BitsStored from 1 to BitsAllocated, which is 16, got 0"),
    "absent bits": ({"BitsStored": None}, "expected BitsStored with one integer, got None"),
    "high bit": ({"BitsStored": 12, "HighBit": 15}, r"expected HighBit 11 \(BitsStored - 1\), got 15; correct"),
    "sign": ({"PixelRepresentation": 2}, "expected PixelRepresentation 0 or 1, got 2"),
    "no sign": ({"PixelRepresentation": None}, "expected PixelRepresentation with one integer, got None"),
    "grey of 3": ({"SamplesPerPixel": 3}, "expected SamplesPerPixel 1 for MONOCHROME2, got 3"),
    "colour of 1": ({"PhotometricInterpretation": "RGB"}, "expected SamplesPerPixel 3 for RGB, got 1"),
    "no kind": ({"PhotometricInterpretation": None}, "got no PhotometricInterpretation; export it as RGB"),
    "aspect": ({"PixelAspectRatio": [4, 3]}, r"expected square pixels, got PixelAspectRatio 4\\3; resample the image"),
    "spacing": ({"PixelSpacing": [0.7, 2.5]}, r"expected square pixels, got PixelSpacing 0.7\\2.5; resample"),
    "spacing of the detector": ({"ImagerPixelSpacing": [0.1, 0.2]}, r"got ImagerPixelSpacing 0.1\\0.2; resample"),
    "spacing in a group": (
        {"SharedFunctionalGroupsSequence": [item_of(PixelMeasuresSequence=[item_of(PixelSpacing=[1, 2])])]},
        r"expected square pixels, got PixelSpacing 1\\2",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_header_that_contradicts_itself_is_refused_by_name(tmp_path, name):
    header, message = CONTRADICTIONS[name]
    with pytest.raises(DataError, match=r"x\.dcm: .*" + message):
        grey(tmp_path, RAMP, **header)


def test_a_transfer_syntax_outside_the_standard_is_refused(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", RAMP)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"))
    with pytest.raises(
        DataError, match=r"expected a TransferSyntaxUID of the standard, got '1.2.840.113619.5.2'; corr"
    ):
        decode_image(path, 1)


def test_equal_aspects_and_rounded_spacings_are_square(tmp_path):
    header = {"PixelAspectRatio": [3, 3], "PixelSpacing": [0.143, 0.144], "HighBit": None}
    assert np.array_equal(grey(tmp_path, RAMP, **header), shown(RAMP, 0, 4032))


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_pixels_are_refused_by_name(tmp_path, name):
    values = RAMP.astype(np.float32 if name == "FloatPixelData" else np.float64)
    header = {"BitsAllocated": 8 * values.itemsize, "BitsStored": None, "HighBit": None, "PixelData": None}
    with pytest.raises(DataError, match=f"expected integers in PixelData, got {name}; export it with 16 bits"):
        grey(tmp_path, values, **header, **{name: values.tobytes()})
    assert image_size(tmp_path / "x.dcm") == (8, 8)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_text_of_several_lines_in_the_header_makes_no_message_of_several_lines(tmp_path):
    path = write_dicom(tmp_path / "lines.dcm", np.zeros((4, 4), np.uint8), PhotometricInterpretation="A\nB\x1bC")
    with pytest.raises(DataError, match=r"lines\.dcm: .*A\\nB\\x1bC"):
        decode_image(path, 1)
