"""Lookup tables of DICOM files, as writers store them: right levels by hand, or an error that names the table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import table_item, write_dicom

from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError

BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)
WORDS = np.arange(256, dtype=np.uint16).reshape(16, 16)
INVERTED = 255 - np.arange(256)
RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64  # 0 to 4032
BIG, IMPLICIT = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"


def grey(path: Path, values: np.ndarray, **header: Any) -> np.ndarray:
    return decode_image(write_dicom(path / "x.dcm", values, **header), 1)[..., 0]


def scaled(values: np.ndarray, high: int) -> np.ndarray:
    """0 to `high` as 0 to 255, the rest clipped."""
    return np.clip(np.rint(values * 255.0 / high), 0, 255)


def words(entries: np.ndarray, order: str = "<") -> bytes:
    return entries.astype(f"{order}u2").tobytes()


# How entries are stored


STORED = {
    "bytes packed in words": ("OW", INVERTED.astype(np.uint8).tobytes()),
    "words": ("OW", words(INVERTED)),
    "numbers": ("US", INVERTED.tolist()),
    "bytes packed in numbers": ("US", np.frombuffer(INVERTED.astype(np.uint8).tobytes(), "<u2").tolist()),
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_entries_of_8_bits_are_read_from_bytes_and_from_words(tmp_path, sequence, bits, stored):
    data = STORED[stored][1]
    header = {sequence: [table_item([256, 0, bits], data)], "WindowCenter": "128", "WindowWidth": "256"}
    assert np.array_equal(grey(tmp_path, BYTES, **header), INVERTED.reshape(16, 16))


def test_an_odd_number_of_8_bit_entries_is_padded(tmp_path):
    entries = np.arange(0, 255, 2).astype(np.uint8)[:127]  # 0 to 252
    header = {"VOILUTSequence": [table_item([127, 10, 8], entries.tobytes() + b"\0")]}
    expected = np.clip(np.arange(256) - 10, 0, 126).reshape(16, 16) * 2
    assert np.array_equal(grey(tmp_path, BYTES, **header), expected)


@pytest.mark.parametrize("width", [1, 2])
def test_tables_in_big_endian_files(tmp_path, width):
    data = words(INVERTED, ">") if width == 2 else INVERTED.astype(np.uint8).tobytes()
    if width == 1:  # of two entries in a word, the first is the low byte
        data = np.frombuffer(data, np.uint16).byteswap().tobytes()
    values = WORDS.astype(">u2")
    header = {"VOILUTSequence": [table_item([256, 0, 8], data)], "syntax": BIG, "BitsStored": 8, "HighBit": 7}
    assert np.array_equal(grey(tmp_path, values, **header), INVERTED.reshape(16, 16))


def test_a_table_of_65536_entries_has_0_in_its_descriptor(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    table = table_item([0, 0, 16], words(np.arange(65536)[::-1]))
    expected = scaled(65535.0 - values, 65535)
    assert np.array_equal(grey(tmp_path, values, VOILUTSequence=[table]), expected)


@pytest.mark.parametrize(("bits", "top"), [(16, 4095), (16, 1023), (12, 1023), (10, 1023), (8, 4095), (16, 255)])
def test_a_voi_table_is_scaled_by_the_bits_that_its_entries_need(tmp_path, bits, top):
    entries = np.rint(np.linspace(0, top, 4096)).astype(int)
    header = {"VOILUTSequence": [table_item([4096, 0, bits], words(entries))], "BitsStored": 12, "HighBit": 11}
    assert np.array_equal(grey(tmp_path, RAMP, **header), scaled(entries[RAMP], top))


def test_a_modality_table_gives_the_values_of_the_window_whatever_its_depth(tmp_path):
    table = table_item([4096, 0, 16], words(np.arange(4096)[::-1]))
    header = {"ModalityLUTSequence": [table], "BitsStored": 12, "HighBit": 11}
    expected = np.clip(np.rint((4095.0 - RAMP - 1000) * 255 / 1000), 0, 255)
    path = write_dicom(tmp_path / "y.dcm", RAMP, **header)
    assert np.array_equal(decode_image(path, 1, window=(1000, 2000))[..., 0], expected)
    assert np.array_equal(decode_image(path, 1)[..., 0], np.rint(255 - (RAMP / 4032 * 255)))  # its own range


@pytest.mark.parametrize(
    ("descriptor", "data", "message"),
    [
        (
            [256, 0, 8],
            bytes(200),
            r"expected 256 entries of 8 bits in LUTData of VOILUTSequence.*, got 200 bytes; corr",
        ),
        ([256, 0, 12], bytes(384), r"expected 256 entries of 12 bits in LUTData"),
        ([256, 0, 16], bytes(1024), r"expected 256 entries of 16 bits in LUTData of VOILUTSequence.*, got 1024 bytes"),
        ([256, 0, 0], bytes(512), r"expected a LUTDescriptor of VOILUTSequence with 8 to 16 bits, got 0"),
        ([256, 0, 32], bytes(512), r"LUTDescriptor of VOILUTSequence with 8 to 16 bits, got 32"),
        ([256, 0], bytes(512), r"expected a LUTDescriptor of VOILUTSequence of three numbers, got \[256, 0\]"),
        (
            [4, 300, 8],
            bytes(4),
            r"expected a table in VOILUTSequence for the values from 0 to 255, got one for 300 to 303",
        ),
    ],
)
def test_a_table_that_contradicts_its_descriptor_or_the_values_is_refused(tmp_path, descriptor, data, message):
    with pytest.raises(DataError, match=message):
        grey(tmp_path, BYTES, VOILUTSequence=[table_item(descriptor, data)])


def test_a_table_without_data_is_refused(tmp_path):
    table = table_item([256, 0, 8], bytes(256))
    del table.LUTData
    with pytest.raises(DataError, match="expected a table in VOILUTSequence, got one without LUTData; correct"):
        grey(tmp_path, BYTES, VOILUTSequence=[table])


def test_a_broken_voi_table_does_not_matter_where_a_window_is_set(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", BYTES, VOILUTSequence=[table_item([256, 0, 8], bytes(9 * 2))])
    assert np.array_equal(decode_image(path, 1, window=(0, 255))[..., 0], BYTES)


# The sign of the first value mapped


THOUSAND = np.rint(np.linspace(0, 65535, 1000)).astype(int)


@pytest.mark.parametrize(
    ("syntax", "vr", "first"),
    [(None, "SS", -200), (None, "US", 65336), (IMPLICIT, "US", 65336), (IMPLICIT, "SS", -200)],
    ids=["explicit, signed", "explicit, unsigned", "implicit", "implicit, signed"],
)
def test_the_first_value_is_negative_after_a_rescale_below_zero(tmp_path, syntax, vr, first):
    header: dict[str, Any] = {"RescaleIntercept": "-1024", "RescaleSlope": "1"}
    header |= {"VOILUTSequence": [table_item([1000, first, 16], words(THOUSAND), vr)]}
    header |= {"syntax": syntax} if syntax else {}
    expected = scaled(THOUSAND[np.clip(RAMP.astype(int) - 1024 + 200, 0, 999)], 65535)
    assert np.array_equal(grey(tmp_path, RAMP, **header), expected)


def test_the_first_value_is_positive_for_signed_pixels_in_an_unsigned_range(tmp_path):
    values = (RAMP.astype(int) - 2048).astype(np.int16)  # -2048 to 1984
    header: dict[str, Any] = {"RescaleIntercept": "42048", "RescaleSlope": "1", "BitsStored": 12, "HighBit": 11}
    table = table_item([4096, 40000, 16], words(np.arange(4096) * 16))
    expected = scaled((values.astype(int) + 2048) * 16.0, 65535)
    assert np.array_equal(grey(tmp_path, values, VOILUTSequence=[table], **header), expected)
    # In implicit VR, pydicom reads the descriptor as signed here.
    assert np.array_equal(grey(tmp_path, values, VOILUTSequence=[table], syntax=IMPLICIT, **header), expected)


def test_the_first_value_of_a_modality_table_has_the_sign_of_the_pixels(tmp_path):
    values = np.arange(-128, 128, dtype=np.int16).reshape(16, 16)
    for vr, first in (("SS", -128), ("US", 65408)):
        table = table_item([256, first, 16], words(np.arange(256)[::-1]), vr)
        assert np.array_equal(grey(tmp_path, values, ModalityLUTSequence=[table]), INVERTED.reshape(16, 16))


@pytest.mark.parametrize(("intercept", "first"), [(-50000, 40000 - 2**16), (0, 65336)])
def test_where_both_signs_reach_the_table_the_range_of_values_decides(tmp_path, intercept, first):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    rescaled = 2 * values.astype(int) + intercept  # -50000 to 81070, or 0 to 131070
    table = table_item([1000, first % 2**16, 16], words(THOUSAND))
    levels = grey(tmp_path, values, VOILUTSequence=[table], RescaleSlope="2", RescaleIntercept=str(intercept))
    assert np.array_equal(levels, scaled(THOUSAND[np.clip(rescaled - first, 0, 999)], 65535))


def test_values_far_above_a_table_map_to_its_last_entry(tmp_path):
    values = np.array([[0, 1], [100, 1]], np.uint16)
    table = table_item([256, 0, 8], np.arange(256).astype(np.uint8).tobytes())
    levels = grey(tmp_path, values, VOILUTSequence=[table], RescaleSlope="1000", RescaleIntercept="0")
    assert np.array_equal(levels, [[0, 255], [255, 255]])  # 100000 is more than 16 bits


def test_a_modality_table_beside_a_rescale_is_refused(tmp_path):
    table = table_item([256, 0, 8], bytes(256))
    with pytest.raises(DataError, match="expected RescaleSlope or ModalityLUTSequence, got both"):
        grey(tmp_path, BYTES, ModalityLUTSequence=[table], RescaleSlope="2", RescaleIntercept="0")


# Palettes


RED, GREEN, BLUE = INVERTED, np.arange(256), np.minimum(2 * np.arange(256), 255)
COLOURS = np.stack([RED, GREEN, BLUE], axis=-1).reshape(16, 16, 3)


def palette(descriptor: list[int], tables: list[bytes], prefix: str = "") -> dict[str, Any]:
    header: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        header[f"{colour}PaletteColorLookupTableDescriptor"] = descriptor
        header[f"{prefix}{colour}PaletteColorLookupTableData"] = table
    return header


@pytest.mark.parametrize(
    ("bits", "width", "shift"),
    [(8, 1, 0), (16, 1, 0), (8, 2, 0), (16, 2, 0), (8, 2, 8), (16, 2, 8), (12, 2, 4), (16, 2, 4)],
    ids=[
        "bytes",
        "bytes, said 16",
        "low bytes",
        "low bytes, said 16",
        "high bytes, said 8",
        "16",
        "12",
        "12 bits, said 16",
    ],
)
def test_palettes_of_every_depth_give_the_same_colours(tmp_path, bits, width, shift):
    tables = [(table << shift).astype(f"<u{width}").tobytes() for table in (RED, GREEN, BLUE)]
    path = write_dicom(tmp_path / "x.dcm", BYTES, **palette([256, 0, bits], tables))
    assert np.array_equal(decode_image(path, 3), COLOURS)


def test_a_palette_of_an_odd_number_of_entries_is_clipped_at_its_ends(tmp_path):
    tables = [table[10:13].astype(np.uint8).tobytes() + b"\0" for table in (RED, GREEN, BLUE)]
    path = write_dicom(tmp_path / "x.dcm", BYTES, **palette([3, 10, 8], tables))
    assert np.array_equal(decode_image(path, 3), COLOURS.reshape(256, 3)[np.clip(BYTES, 10, 12)])


def test_a_dim_palette_of_16_bits_stays_dim(tmp_path):
    tables = [(table * 100).astype("<u2").tobytes() for table in (RED, GREEN, BLUE)]
    path = write_dicom(tmp_path / "x.dcm", BYTES, **palette([256, 0, 16], tables))
    assert np.array_equal(decode_image(path, 3), COLOURS * 100 >> 8)


def test_segmented_palettes_are_expanded(tmp_path):
    # PS3.3 C.7.9.2: 2 entries; a line over 126 entries; the same two segments again, from byte 0
    red = [0, 2, 10, 20, 1, 126, 146, 2, 2, 0, 0]
    expected = [10, *range(20, 147), 10, *range(20, 147)]
    path = write_dicom(
        tmp_path / "x.dcm", BYTES, **palette([256, 0, 16], [words(np.array(red))] * 3, prefix="Segmented")
    )
    assert np.array_equal(decode_image(path, 3)[..., 0], np.array(expected).reshape(16, 16))
    packed = bytes([0, 2, 10, 20, 1, 126, 146, 2, 2, 0, 0, 0, 0, 0])
    path = write_dicom(tmp_path / "y.dcm", BYTES, **palette([256, 0, 8], [packed] * 3, prefix="Segmented"))
    assert np.array_equal(decode_image(path, 3)[..., 0], np.array(expected).reshape(16, 16))


@pytest.mark.parametrize("codes", [[1, 256, 9], [0, 300, 1], [2, 1, 0, 0], [7, 1, 1], [0, 1, 5]])
def test_a_segmented_palette_that_does_not_give_its_entries_is_refused(tmp_path, codes):
    header = palette([256, 0, 16], [words(np.array(codes))] * 3, prefix="Segmented")
    with pytest.raises(DataError, match="expected 256 entries in SegmentedRedPaletteColorLookupTableData, got"):
        decode_image(write_dicom(tmp_path / "x.dcm", BYTES, **header), 3)


def test_palettes_that_contradict_each_other_or_the_pixels_are_refused(tmp_path):
    tables = [table.astype(np.uint8).tobytes() for table in (RED, GREEN, BLUE)]
    differing = palette([256, 0, 8], tables) | {"GreenPaletteColorLookupTableDescriptor": [256, 1, 8]}
    unreached = palette([256, 300, 8], tables)
    absent = palette([256, 0, 8], tables) | {"BluePaletteColorLookupTableData": None}
    short = palette([256, 0, 8], [tables[0], tables[1], tables[2][:100]])
    for header, message in (
        (differing, r"expected palettes of one size, got the descriptors \[\(256, 0, 8\), \(256, 1, 8\)"),
        (unreached, "expected a table in the palette for the values from 0 to 255, got one for 300 to 555"),
        (absent, "expected BluePaletteColorLookupTableData for PALETTE COLOR, got none"),
        (short, "expected 256 entries of 8 bits in BluePaletteColorLookupTableData, .* got 100 bytes"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "expected a RedPaletteColorLookupTableDescriptor"),
    ):
        kept = {name: value for name, value in header.items() if value is not None}
        with pytest.raises(DataError, match=message):
            decode_image(write_dicom(tmp_path / "x.dcm", BYTES, **kept), 3)
