"""The bytes of DICOM pixels against the header: lengths, fragments, and the frames' own size, depth and end."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import simplejpeg
from dicom_files import by_pillow, jpeg, jpeg_2000, lossless_jpeg, write_dicom
from PIL import Image

from raygrid.data.damage import DamagedFileError, SuspectImageWarning
from raygrid.data.images.decode import decode_image
from raygrid.data.images.dicom_codestream import read_jpeg, require_whole_lossless_jpeg
from raygrid.errors import DataError

GRAIN = np.random.default_rng(0)
GREY = (np.cumsum(GRAIN.integers(-3, 4, (64, 48)), axis=1) + 128).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 16
SMOOTH = np.asarray(
    Image.fromarray(GRAIN.integers(0, 256, (6, 6, 3)).astype(np.uint8)).resize((48, 64), Image.Resampling.BICUBIC)
)
JPEG, EXTENDED, JPEG_2000, RLE = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
)


def grey(path: Path, values: np.ndarray, **header: Any) -> np.ndarray:
    return decode_image(write_dicom(path / "x.dcm", values, **header), 1)[..., 0]


def rle(values: np.ndarray, path: Path) -> bytes:
    dataset = pydicom.dcmread(write_dicom(path / "rle.dcm", values))
    dataset.compress(RLE)
    return pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)


# Native pixels


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"Rows": 32}, r"expected 3072 bytes of pixels for 32 x 48 of MONOCHROME2, got 6144; correct the header"),
        ({"Columns": 47}, r"expected 6016 bytes of pixels for 64 x 47 of MONOCHROME2, got 6144; correct"),
        ({"Rows": 63}, r"expected 6048 bytes of pixels for 63 x 48 of MONOCHROME2, got 6144; correct"),
        ({"Rows": 65}, r"expected 6240 bytes of pixels for 65 x 48 of MONOCHROME2, got 6144$"),
        (
            {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
            "expected 3072 bytes of pixels for .*, got 6144; correct",
        ),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "expected 12288 bytes of pixels for .*, got 6144$"),
        ({"NumberOfFrames": 2}, "expected one image, got 2 frames"),
    ],
)
def test_pixels_that_are_not_as_many_as_the_header_says_are_refused(tmp_path, header, message):
    with pytest.raises(DataError, match=message):
        grey(tmp_path, DEEP, **header)


def test_padding_behind_the_pixels_is_left_out_and_told_where_it_could_be_a_row(tmp_path, recwarn):
    plain = grey(tmp_path, DEEP)
    assert np.array_equal(grey(tmp_path, DEEP, PixelData=DEEP.tobytes() + b"\1\2\3\4"), plain)
    assert not recwarn.list
    with pytest.warns(SuspectImageWarning, match="128 zero bytes after the pixels, which raygrid ignores"):
        assert np.array_equal(grey(tmp_path, DEEP, PixelData=DEEP.tobytes() + bytes(128)), plain)


@pytest.mark.parametrize("frames", [0, None])
def test_no_number_of_frames_means_one(tmp_path, frames):
    header = {} if frames is None else {"NumberOfFrames": frames}
    assert np.array_equal(grey(tmp_path, DEEP, **header), grey(tmp_path, DEEP, NumberOfFrames=1))


# Fragments


def item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content


def test_a_frame_in_several_fragments_is_joined(tmp_path):
    frame = rle(DEEP, tmp_path)
    table = item(b"\x07\0\0\0")  # a wrong offset does no harm to one frame
    for content in (
        item(b"") + item(frame[:100]) + item(frame[100:]),
        item(b"") + item(b"") + item(frame),
        table + item(frame),
    ):
        path = write_dicom(tmp_path / "x.dcm", DEEP, syntax=RLE, frames=[frame])
        dataset = pydicom.dcmread(path)
        dataset.PixelData = content
        dataset.save_as(path)
        assert np.array_equal(decode_image(path, 1)[..., 0], grey(tmp_path, DEEP))


FRAGMENTS: dict[str, tuple[Any, str]] = {
    "two frames": (lambda frame: item(b"") + item(frame) + item(frame), "expected one image, got pixels of several"),
    "two offsets": (lambda frame: item(bytes(8)) + item(frame), "expected one image, got pixels of several; export"),
    "empty": (lambda frame: item(b"") + item(b""), "expected compressed pixels, got fragments of 0 bytes"),
    "no fragment": (lambda frame: item(b""), "expected compressed pixels, got fragments of 0 bytes"),
    "part of a table": (lambda frame: item(b"\0\0") + item(frame), "basic offset table of whole numbers, got 2 bytes"),
    "long fragment": (lambda frame: item(b"") + item(frame)[:-50], "expected a fragment of [0-9]+ bytes, got [0-9]+"),
    "other bytes": (lambda frame: item(b"") + item(frame) + b"12345678", "expected a fragment at byte [0-9]+ of the p"),
}


@pytest.mark.parametrize("name", FRAGMENTS)
@pytest.mark.parametrize("code", ["RLE", "JPEG"])
def test_fragments_that_are_not_one_frame_are_refused(tmp_path, code, name):
    frame = rle(DEEP, tmp_path) if code == "RLE" else jpeg(GREY) + b"\0" * (len(jpeg(GREY)) % 2)
    values, syntax = (DEEP, RLE) if code == "RLE" else (GREY, JPEG)
    make, message = FRAGMENTS[name]
    path = write_dicom(tmp_path / "x.dcm", values, syntax=syntax, frames=[frame])
    dataset = pydicom.dcmread(path)
    dataset.PixelData = make(frame)
    dataset.save_as(path)
    with pytest.raises(DataError, match=message):
        decode_image(path, 1)


@pytest.mark.parametrize("missing", [9, 200, 1000])
def test_a_compressed_file_that_ends_early_is_truncated_not_without_pixels(tmp_path, missing):
    path = write_dicom(tmp_path / "x.dcm", DEEP, syntax=RLE, frames=[rle(DEEP, tmp_path)])
    path.write_bytes(path.read_bytes()[:-missing])
    message = "expected compressed pixels and their end mark, got a file that ends in them$"
    with pytest.raises(DamagedFileError, match=message):
        decode_image(path, 1)


def test_compressed_pixels_in_a_plain_transfer_syntax_are_refused(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", GREY, syntax=JPEG, frames=[jpeg(GREY)])
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0"))
    with pytest.raises(DataError, match=r"expected pixels in the transfer syntax Explicit VR .*, got compressed ones"):
        decode_image(path, 1)


# Frames against the header


@pytest.mark.parametrize(
    ("values", "frame", "header", "message"),
    [
        (
            GREY[:32],
            jpeg(GREY),
            {},
            "expected a frame of 32 x 48 pixels with 1 components, got 64 x 48 with 1; correct",
        ),
        (GREY, jpeg(SMOOTH), {}, "expected a frame of 64 x 48 pixels with 1 components, got 64 x 48 with 3"),
        (DEEP, jpeg(GREY), {"BitsStored": 12, "HighBit": 11}, "expected a frame of 12 bits in 16, got 8 bits"),
        (GREY, jpeg_2000(DEEP), {"syntax": JPEG_2000}, "expected a frame of 8 bits in 8, got 16 bits"),
        (GREY, jpeg_2000(GREY), {}, r"expected a JPEG frame, got bytes that begin with b'\\xffO\\xffQ'"),
        (
            GREY,
            jpeg(GREY),
            {"syntax": JPEG_2000},
            r"expected a JPEG 2000 frame, got bytes that begin with b'\\xff\\xd8",
        ),
    ],
    ids=["rows", "components", "8 of 12 bits", "16 of 8 bits", "JPEG 2000 in JPEG", "JPEG in JPEG 2000"],
)
def test_a_frame_that_contradicts_the_header_is_refused(tmp_path, values, frame, header, message):
    with pytest.raises(DataError, match=message):
        grey(tmp_path, values, frames=[frame], **({"syntax": JPEG} | header))


@pytest.mark.parametrize("syntax", [JPEG, EXTENDED])
def test_a_grey_jpeg_frame_equals_pillows(tmp_path, syntax):
    levels = grey(tmp_path, GREY, frames=[jpeg(GREY)], syntax=syntax, WindowCenter="128", WindowWidth="256")
    assert np.array_equal(levels, by_pillow(jpeg(GREY)))


def test_a_12_bit_jpeg_names_the_decoder_that_it_needs(tmp_path):
    frame = bytearray(jpeg(GREY))
    frame[frame.index(b"\xff\xc0") + 4] = 12
    header = {"BitsStored": 12, "HighBit": 11, "syntax": EXTENDED, "frames": [bytes(frame)]}
    with pytest.raises(DataError, match=r"expected pixels with an installed decoder, got .*12-bit.*; decompress it"):
        grey(tmp_path, DEEP, **header)


@pytest.mark.parametrize("stored", [12, 16])
def test_a_grey_jpeg_2000_frame_of_more_bits_than_are_stored_is_read(tmp_path, stored, recwarn):
    header = {"BitsStored": stored, "HighBit": stored - 1, "syntax": JPEG_2000, "frames": [jpeg_2000(DEEP)]}
    assert np.array_equal(grey(tmp_path, DEEP, **header), grey(tmp_path, DEEP))
    assert not recwarn.list


def test_a_jpeg_2000_frame_of_signed_values_needs_a_signed_header(tmp_path):
    values = (DEEP.astype(int) - 2048).astype(np.int16)
    frame = jpeg_2000(values.view(np.uint16), signed=True)
    header: dict[str, Any] = {"syntax": JPEG_2000, "frames": [frame]}
    assert np.array_equal(grey(tmp_path, values, **header), grey(tmp_path, values))
    with pytest.raises(DataError, match=r"expected unsigned values \(PixelRepresentation 0\), got a frame of sig"):
        grey(tmp_path, values, PixelRepresentation=0, **header)


# Damage


def zeroed(frame: bytes) -> bytes:
    return frame[: len(frame) // 2] + bytes(len(frame) - len(frame) // 2)


def closed(frame: bytes) -> bytes:
    return frame[: len(frame) // 2] + b"\xff\xd9"


@pytest.mark.parametrize("damage", [zeroed, closed, lambda frame: zeroed(frame)[:-2] + b"\xff\xd9"])
@pytest.mark.parametrize("syntax", [JPEG, EXTENDED])
def test_a_damaged_jpeg_frame_is_refused(tmp_path, syntax, damage):
    grain = GRAIN.integers(0, 256, (64, 48)).astype(np.uint8)
    with pytest.raises(DamagedFileError, match=r"x\.dcm: expected .*, got "):
        grey(tmp_path, grain, syntax=syntax, frames=[damage(jpeg(grain))])


@pytest.mark.parametrize("damage", [zeroed, closed, lambda frame: frame[:-2]])
def test_a_jpeg_2000_frame_without_its_end_is_refused(tmp_path, damage):
    with pytest.raises(DamagedFileError, match="expected a complete JPEG 2000 frame, got one without its end"):
        grey(tmp_path, DEEP, syntax=JPEG_2000, frames=[damage(jpeg_2000(DEEP))])


@pytest.mark.parametrize("change", [zeroed, lambda frame: frame[: len(frame) // 2], lambda frame: frame[:40]])
def test_an_rle_frame_of_too_few_values_is_refused(tmp_path, change):
    with pytest.raises(DamagedFileError, match="expected a complete frame in RLE Lossless, got pydicom: The "):
        grey(tmp_path, DEEP, syntax=RLE, frames=[change(rle(DEEP, tmp_path))])


def test_an_rle_frame_of_too_many_values_is_refused(tmp_path):
    frame = rle(DEEP, tmp_path)
    with pytest.raises(DamagedFileError, match="expected RLE segments of 3072 bytes, got 3082"):
        grey(tmp_path, DEEP, syntax=RLE, frames=[frame + b"\xf7\x05"])  # ten times 5


DAMAGES = {
    "closed": closed,
    "a hole": lambda frame: zeroed(frame)[:-2] + b"\xff\xd9",
    "a short hole": lambda frame: frame[:900] + bytes(50) + frame[950:],
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("precision", [8, 12, 16])
def test_a_damaged_lossless_jpeg_frame_is_found(tmp_path, precision, name):
    values = np.cumsum(GRAIN.integers(-3, 4, (64, 48)), axis=1) + 128 << precision - 8
    frame = lossless_jpeg(values, precision)
    stream = read_jpeg(tmp_path, frame)
    assert (stream.height, stream.width, stream.precision) == (64, 48, precision)
    require_whole_lossless_jpeg(tmp_path, frame, stream)
    with pytest.raises(DamagedFileError, match="expected a complete frame, got damaged JPEG data"):
        require_whole_lossless_jpeg(tmp_path, DAMAGES[name](frame), stream)


def test_the_lossless_frames_of_these_tests_are_read_as_they_were_written():
    frame = lossless_jpeg(GREY, 8)
    assert np.array_equal(simplejpeg.decode_jpeg(frame, colorspace="GRAY", strict=True)[..., 0], GREY)


@pytest.mark.parametrize("hole", [0, 31, 32, 500])
def test_a_hole_of_zeros_in_a_jpeg_ls_frame_is_refused(tmp_path, hole):
    frame = b"\xff\xd8\xff\xf7\x00\x0b\x10\x00\x40\x00\x30\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00"
    frame += b"\x12" + bytes(hole) + b"\x34\xff\xd9"
    if hole < 32:  # longer than any code of zeros
        assert read_jpeg(tmp_path, frame).precision == 16
    else:
        with pytest.raises(DamagedFileError, match="expected a complete JPEG-LS frame, got one with a hole of zeros"):
            read_jpeg(tmp_path, frame)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.97])
def test_a_file_that_ends_in_its_header_says_so_in_the_remedy(tmp_path, part):
    path = write_dicom(tmp_path / "x.dcm", GREY)
    content = path.read_bytes()
    pixels = content.rfind(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[: 132 + 2 * int(part * (pixels - 132) / 2)])
    with pytest.raises(
        DataError, match=r"expected an image, got a DICOM file without .*or copy it again if it is cut off"
    ):
        decode_image(path, 1)
