"""Rescale, window, padding and functional groups of DICOM files: right levels by hand, or an error that names them."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import item_of, table_item, write_dicom

from raygrid.data.damage import SuspectImageWarning
from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64  # 0 to 4032


def grey(path: Path, values: np.ndarray, **header: Any) -> np.ndarray:
    return decode_image(write_dicom(path / "x.dcm", values, **header), 1)[..., 0]


def shown(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(float) - low) * 255 / (high - low)), 0, 255)


def with_text(path: Path, **texts: bytes) -> Path:
    """Replace the number 31415926 in the elements, in the order of the file, by texts that pydicom would not write."""
    content = path.read_bytes()
    for text in texts.values():
        content = content.replace(b"31415926", text.ljust(8), 1)
    path.write_bytes(content)
    return path


# Rescale


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [("absent", -1024), ("", -1024), (2, "absent"), (2, ""), ("", ""), (-1, 4000), (2, -1024)],
)
def test_an_absent_or_empty_slope_is_1_and_intercept_is_0(tmp_path, slope, intercept):
    given = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    header = {name: value for name, value in given.items() if value != "absent"}
    slope, intercept = (
        default if value in ("", "absent") else value for value, default in ((slope, 1), (intercept, 0))
    )
    levels = grey(tmp_path, RAMP, WindowCenter="500", WindowWidth="1000", **header)
    assert np.array_equal(levels, shown(RAMP * float(slope) + float(intercept), 0, 999))
    levels = decode_image(tmp_path / "x.dcm", 1, window=(-100, 900))[..., 0]
    assert np.array_equal(levels, shown(RAMP * float(slope) + float(intercept), -100, 900))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            {"RescaleSlope": "0"},
            r"expected a RescaleSlope other than 0 and finite results, got 0 and RescaleIntercept 0",
        ),
        ({"RescaleSlope": ["1", "2"]}, "expected one number in RescaleSlope, got 2"),
        ({"RescaleSlope": "1e306"}, r"expected a RescaleSlope other than 0 and finite results, got 1e\+306"),
    ],
)
def test_a_rescale_without_meaning_is_refused(tmp_path, header, message):
    with pytest.raises(DataError, match=message):
        grey(tmp_path, RAMP, **header)


@pytest.mark.parametrize("text", [b"1,5", b"nan", b"inf", b"1e999", b"0x10", b"1_0", b"one", b"1.5;2"])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "WindowCenter"])
def test_a_text_that_is_no_decimal_number_is_refused_with_its_element(tmp_path, name, text):
    header = {name: "31415926"} | ({"WindowWidth": "100"} if name == "WindowCenter" else {})
    path = with_text(write_dicom(tmp_path / "x.dcm", RAMP, **header), **{name: text})
    with pytest.raises(DataError, match=f"expected decimal numbers with a point in {name}, got '{text.decode()}'"):
        decode_image(path, 1)


# Windows


@pytest.mark.parametrize("second", ["9", ""])
def test_the_first_of_several_windows_is_taken(tmp_path, second):
    levels = grey(tmp_path, RAMP, WindowCenter=["1000", second], WindowWidth=["501", second])
    assert np.array_equal(levels, shown(RAMP, 749.5, 1249.5))


@pytest.mark.parametrize(("name", "other"), [("WindowCenter", "WindowWidth"), ("WindowWidth", "WindowCenter")])
def test_half_a_window_is_refused_and_an_empty_one_is_none(tmp_path, name, other):
    for header in ({name: "100"}, {name: "100", other: ""}):
        with pytest.raises(DataError, match=f"expected WindowCenter and WindowWidth, got only {name}; repair the file"):
            grey(tmp_path, RAMP, **header)
        assert decode_image(tmp_path / "x.dcm", 1, window=(0, 4032))[7, 7, 0] == 255
    assert np.array_equal(grey(tmp_path, RAMP, **{name: "", other: ""}), shown(RAMP, 0, 4032))


def test_an_image_of_one_grey_level_after_windowing_is_told(tmp_path):
    with pytest.warns(SuspectImageWarning, match=r"x\.dcm: one grey level \(0\) after windowing, from values 0 to 40"):
        assert not grey(tmp_path, RAMP, WindowCenter="9000", WindowWidth="10").any()
    with pytest.warns(SuspectImageWarning, match="one grey level"):
        decode_image(write_dicom(tmp_path / "y.dcm", RAMP), 1, window=(-20, -10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one value before, one level after
        grey(tmp_path, np.full((8, 8), 5, np.uint16), WindowCenter="9000", WindowWidth="10")


# Inversion


@pytest.mark.parametrize(("kind", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_monochrome1_is_inverted_once_whatever_its_presentation_shape_repeats(tmp_path, kind, shape):
    levels = grey(tmp_path, RAMP, PhotometricInterpretation=kind, PresentationLUTShape=shape)
    expected = shown(RAMP, 0, 4032)
    assert np.array_equal(levels, 255 - expected if kind == "MONOCHROME1" else expected)


@pytest.mark.parametrize(("kind", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")])
def test_a_presentation_shape_that_contradicts_the_kind_is_refused(tmp_path, kind, shape):
    message = f"expected PresentationLUTShape .* with {kind}, got {shape}; correct one of the two"
    with pytest.raises(DataError, match=message):
        grey(tmp_path, RAMP, PhotometricInterpretation=kind, PresentationLUTShape=shape)


# Padding


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_does_not_set_the_range_of_an_image_without_a_window(tmp_path, kind):
    values = (RAMP.astype(int) - 1000).astype(np.int16)
    values[:, 0] = -2000
    inside = values[values != -2000]
    expected = shown(values, inside.min(), inside.max())
    for syntax, padding in (("1.2.840.10008.1.2.1", -2000), ("1.2.840.10008.1.2", -2000)):
        levels = grey(tmp_path, values, PixelPaddingValue=padding, PhotometricInterpretation=kind, syntax=syntax)
        assert np.array_equal(levels, 255 - expected if kind == "MONOCHROME1" else expected)


def test_a_range_of_padding_values_is_left_out_and_padding_alone_is_kept(tmp_path):
    values = RAMP.copy()
    values[:, 0] = np.arange(60000, 60008)
    levels = grey(tmp_path, values, PixelPaddingValue=60000, PixelPaddingRangeLimit=60007)
    assert np.array_equal(levels, shown(values, 64, 4032))
    assert np.array_equal(grey(tmp_path, RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=5000), shown(RAMP, 0, 4032))


# Signs


def test_a_sign_that_contradicts_the_smallest_and_largest_value_is_refused(tmp_path):
    high = RAMP * 16  # 0 to 64512
    said = {"SmallestImagePixelValue": 0, "LargestImagePixelValue": 64512}
    assert np.array_equal(grey(tmp_path, high, **said), shown(high, 0, 64512))
    path = write_dicom(tmp_path / "x.dcm", high, **said)
    content = path.read_bytes()
    sign = content.index(b"\x28\x00\x03\x01US\x02\x00") + 8
    path.write_bytes(content[:sign] + b"\1\0" + content[sign + 2 :])
    message = (
        "expected values from 0 to 64512, the range of SmallestImagePixelValue and LargestImagePixelValue, got -32"
    )
    with pytest.raises(DataError, match=message + r"768 to 31744 with PixelRepresentation 1; correct Pixel"):
        decode_image(path, 1)


def test_smallest_and_largest_values_that_are_merely_wrong_are_not_believed(tmp_path):
    levels = grey(tmp_path, RAMP, SmallestImagePixelValue=3, LargestImagePixelValue=278)
    assert np.array_equal(levels, shown(RAMP, 0, 4032))


# Functional groups


HOUNSFIELD = item_of(RescaleSlope="1", RescaleIntercept="-1024", RescaleType="HU")
BRAIN = item_of(WindowCenter="40", WindowWidth="400")
GROUP = item_of(PixelValueTransformationSequence=[HOUNSFIELD], FrameVOILUTSequence=[BRAIN])
NOTHING = item_of(StackID="1")


@pytest.mark.parametrize(
    ("shared", "frame"),
    [
        ([GROUP], [NOTHING]),
        ([NOTHING], [GROUP]),
        ([], [GROUP]),
        ([item_of(FrameVOILUTSequence=[BRAIN])], [item_of(PixelValueTransformationSequence=[HOUNSFIELD])]),
        ([GROUP], [GROUP]),
    ],
    ids=["shared", "frame", "frame alone", "one in each", "the same in both"],
)
def test_rescale_and_window_are_read_from_functional_groups(tmp_path, shared, frame):
    groups = {"SharedFunctionalGroupsSequence": shared, "PerFrameFunctionalGroupsSequence": frame}
    path = write_dicom(tmp_path / "x.dcm", RAMP, NumberOfFrames=1, **groups)
    hounsfield = RAMP.astype(int) - 1024
    assert np.array_equal(decode_image(path, 1)[..., 0], shown(hounsfield, -160, 239))
    assert np.array_equal(decode_image(path, 1, window=(-160, 240))[..., 0], shown(hounsfield, -160, 240))


def test_a_voi_table_and_a_function_are_read_from_functional_groups(tmp_path):
    table = table_item([4096, -1024 + 2**16, 16], np.arange(4096, dtype=np.uint16).tobytes())
    group = item_of(
        PixelValueTransformationSequence=[HOUNSFIELD], FrameVOILUTSequence=[item_of(VOILUTSequence=[table])]
    )
    levels = grey(tmp_path, RAMP, SharedFunctionalGroupsSequence=[group])
    assert np.array_equal(levels, shown(RAMP, 0, 4095))
    exact = item_of(WindowCenter="1000", WindowWidth="500", VOILUTFunction="LINEAR_EXACT")
    levels = grey(tmp_path, RAMP, SharedFunctionalGroupsSequence=[item_of(FrameVOILUTSequence=[exact])])
    assert np.array_equal(levels, shown(RAMP, 750, 1250))


def test_settings_in_two_places_are_refused_unless_they_are_equal(tmp_path):
    same = {"RescaleSlope": "1", "RescaleIntercept": "-1024.0", "WindowCenter": "40", "WindowWidth": "400"}
    header = {"SharedFunctionalGroupsSequence": [GROUP]}
    assert np.array_equal(grey(tmp_path, RAMP, **header, **same), shown(RAMP.astype(int) - 1024, -160, 239))
    other = item_of(PixelValueTransformationSequence=[item_of(RescaleSlope="1", RescaleIntercept="0")])
    in_two = header | {"PerFrameFunctionalGroupsSequence": [other]}
    for changed in (header | same | {"RescaleIntercept": "0"}, header | {"RescaleSlope": "2"}, in_two):
        message = "expected one value of each of RescaleSlope.*, got different ones in PixelValueTransformationSequence"
        with pytest.raises(DataError, match=message):
            grey(tmp_path, RAMP, **changed)
    for changed in (same | {"WindowWidth": "80"}, same | {"VOILUTFunction": "SIGMOID"}):
        with pytest.raises(DataError, match="got different ones in FrameVOILUTSequence and elsewhere"):
            grey(tmp_path, RAMP, **header, **changed)
        assert decode_image(tmp_path / "x.dcm", 1, window=(-1024, 3008))[7, 7, 0] == 255


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"WindowCenter": "40.0", "WindowWidth": "400", "VOILUTFunction": "LINEAR"},
        {"WindowCenter": ["40", "-600"], "WindowWidth": ["400", "1500"]},
    ],
    ids=["the default function by name", "a further window"],
)
def test_settings_that_mean_the_same_in_two_places_are_read(tmp_path, elsewhere):
    levels = grey(tmp_path, RAMP, SharedFunctionalGroupsSequence=[GROUP], **elsewhere)
    assert np.array_equal(levels, shown(RAMP.astype(int) - 1024, -160, 239))
