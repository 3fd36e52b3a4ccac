"""Kinds of PNG and TIFF: the right grey levels, worked out by hand, or a refusal that names the kind."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import packed, png, png_chunk, png_rows, tiff
from PIL import Image

from raygrid.data.images.decode import decode_image, image_size
from raygrid.data.images.intensity import as_levels
from raygrid.errors import DataError

SIZE = (16, 8)  # width, height
RAMP = np.arange(16 * 8).reshape(8, 16)
GREY = (RAMP * 2).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
OPACITY = (255 - GREY)[..., None]
DEEP = RAMP * 500
SIGNED, FLOATING = [2], [3]


def grey(path: Path) -> np.ndarray:
    return decode_image(path, 1)[..., 0]


def with_opacity(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values.reshape(8, 16, -1), OPACITY], axis=-1)


def planes(values: np.ndarray) -> list[bytes]:
    return [values[..., channel].tobytes() for channel in range(values.shape[-1])]


# TIFF


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_tiff_of_up_to_8_bits_is_scaled_to_the_whole_range(
    tmp_path: Path, depth: int, white_is_zero: bool, big_endian: bool
) -> None:
    most = 2**depth - 1
    values = RAMP * 7 % (most + 1)
    path = tiff(
        tmp_path / "x.tif", [packed(values, depth)], SIZE, big_endian, bits=[depth], kind=[0 if white_is_zero else 1]
    )
    levels = values * 255 // most
    assert np.array_equal(grey(path), 255 - levels if white_is_zero else levels)


def test_16_and_12_bit_tiff_keep_their_upper_8_bits(tmp_path: Path) -> None:
    assert np.array_equal(grey(tiff(tmp_path / "a.tif", [DEEP.astype("<u2").tobytes()], SIZE, bits=[16])), DEEP >> 8)
    path = tiff(tmp_path / "b.tif", [DEEP.astype(">u2").tobytes()], SIZE, True, bits=[16])
    assert np.array_equal(grey(path), DEEP >> 8)
    path = tiff(tmp_path / "c.tif", [(65535 - DEEP).astype("<u2").tobytes()], SIZE, bits=[16], kind=[0])
    assert np.array_equal(grey(path), DEEP >> 8)
    path = tiff(tmp_path / "d.tif", [packed(RAMP * 32, 12)], SIZE, bits=[12])
    assert np.array_equal(grey(path), RAMP * 32 >> 4)
    assert np.array_equal(decode_image(path, 1, window=(100, 2000))[..., 0], as_levels(RAMP * 32, (100, 2000)))


COLOUR_TIFF: dict[str, tuple[list[bytes], dict[str, Any]]] = {
    "interleaved": ([COLOUR.tobytes()], {"bits": [8] * 3, "kind": [2]}),
    "planar": (planes(COLOUR), {"bits": [8] * 3, "kind": [2], "planar": [2]}),
    "16 bits": ([(COLOUR.astype("<u2") * 257).tobytes()], {"bits": [16] * 3, "kind": [2]}),
    "opacity": ([with_opacity(COLOUR).tobytes()], {"bits": [8] * 4, "kind": [2], "extra": [2]}),
    "opacity, planar": (planes(with_opacity(COLOUR)), {"bits": [8] * 4, "kind": [2], "extra": [2], "planar": [2]}),
    "unspecified fourth value": ([with_opacity(COLOUR).tobytes()], {"bits": [8] * 4, "kind": [2], "extra": [0]}),
    "opacity, 16 bits": (
        [(with_opacity(COLOUR).astype("<u2") * 257).tobytes()],
        {"bits": [16] * 4, "kind": [2], "extra": [2]},
    ),
}


@pytest.mark.parametrize("kind", COLOUR_TIFF)
def test_colour_tiff_is_read_without_its_opacity(tmp_path: Path, kind: str) -> None:
    strips, tags = COLOUR_TIFF[kind]
    assert np.array_equal(decode_image(tiff(tmp_path / "x.tif", strips, SIZE, **tags), 3), COLOUR)


def test_grey_tiff_is_read_without_its_opacity(tmp_path: Path) -> None:
    for extra in (0, 2):
        path = tiff(tmp_path / "x.tif", [with_opacity(GREY).tobytes()], SIZE, bits=[8, 8], extra=[extra])
        assert np.array_equal(grey(path), GREY)


def test_premultiplied_colour_is_divided_by_its_opacity(tmp_path: Path) -> None:
    half = np.full((8, 16, 1), 128, np.uint8)
    values = np.concatenate([COLOUR // 2, half], axis=-1)
    path = tiff(tmp_path / "x.tif", [values.tobytes()], SIZE, bits=[8] * 4, kind=[2], extra=[1])
    expected = (COLOUR // 2).astype(float) * 255 / 128
    assert np.abs(decode_image(path, 3) - expected).max() <= 1


def test_a_palette_of_16_bit_colours_is_resolved(tmp_path: Path) -> None:
    steps = np.arange(256)
    colours = np.concatenate([steps * 257, steps[::-1] * 257, np.full(256, 30_000)])
    path = tiff(tmp_path / "x.tif", [GREY.tobytes()], SIZE, kind=[3], colours=colours.tolist())
    expected = np.stack([GREY, 255 - GREY, np.full_like(GREY, 30_000 >> 8)], axis=-1)
    assert np.array_equal(decode_image(path, 3), expected)


def test_cmyk_ycbcr_and_lab_become_rgb(tmp_path: Path) -> None:
    inks = np.concatenate([COLOUR, np.full((8, 16, 1), 51, np.uint8)], axis=-1)
    path = tiff(tmp_path / "a.tif", [inks.tobytes()], SIZE, bits=[8] * 4, kind=[5])
    expected = (255 - COLOUR.astype(float)) * (255 - 51) / 255
    assert np.abs(decode_image(path, 3) - expected).max() <= 1
    coded = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    path = tiff(tmp_path / "b.tif", [coded.tobytes()], SIZE, bits=[8] * 3, kind=[6])
    assert np.abs(decode_image(path, 3).astype(int) - COLOUR).max() <= 3
    red = np.tile(np.array([138, 81, 70], np.uint8), (8, 16, 1))  # L* 54.3, a* 80.8, b* 69.9: red of sRGB in D50
    path = tiff(tmp_path / "c.tif", [red.tobytes()], SIZE, bits=[8] * 3, kind=[8])
    assert np.abs(decode_image(path, 3).astype(int) - [255, 0, 0]).max() <= 6
    assert abs(grey(path)[0, 0] - 0.299 * 255) <= 4


REFUSED_TIFF: dict[str, tuple[list[bytes], dict[str, Any], str]] = {
    "8 bits signed": ([GREY.tobytes()], {"format": SIGNED}, "signed, 32-bit or floating-point pixels"),
    "16 bits signed": ([DEEP.astype("<i2").tobytes()], {"bits": [16], "format": SIGNED}, "signed, 32-bit or floating"),
    "32 bits": ([DEEP.astype("<u4").tobytes()], {"bits": [32]}, "signed, 32-bit or floating-point pixels"),
    "float32": ([DEEP.astype("<f4").tobytes()], {"bits": [32], "format": FLOATING}, "signed, 32-bit or floating-point"),
    "float16": (
        [DEEP.astype("<f2").tobytes()],
        {"bits": [16], "format": FLOATING},
        r"a TIFF image of a kind that Pillow cannot read \(1 floating-point values of 16 bits per pixel, "
        r"PhotometricInterpretation 1, Compression 1\); save it as PNG, or as TIFF",
    ),
    "float64": ([DEEP.astype("<f8").tobytes()], {"bits": [64], "format": FLOATING}, "floating-point values of 64 bits"),
    "signed colour": ([COLOUR.tobytes()], {"bits": [8] * 3, "kind": [2], "format": SIGNED * 3}, "3 signed values of 8"),
    "10 bits": ([packed(RAMP, 10)], {"bits": [10]}, "1 unsigned values of 10 bits per pixel"),
    "12 bits, white is 0": ([packed(RAMP, 12)], {"bits": [12], "kind": [0]}, "of 12 bits per pixel, Photo.* 0"),
    "16-bit planes": (
        planes(COLOUR.astype("<u2")),
        {"bits": [16] * 3, "kind": [2], "planar": [2]},
        "16-bit colour stored plane by plane; save it with the channels interleaved",
    ),
    "grey and opacity in planes": (
        planes(with_opacity(GREY)),
        {"bits": [8, 8], "extra": [2], "planar": [2]},
        "grey with transparency stored plane by plane",
    ),
    "grey times opacity": ([with_opacity(GREY).tobytes()], {"bits": [8, 8], "extra": [1]}, "pixels of mode La; save"),
    "palette of 8-bit values": (
        [GREY.tobytes()],
        {"kind": [3], "colours": list(range(256)) * 3},
        r"a palette of 8-bit values \(the brightest is 255 of 65535\); save it as grey or RGB",
    ),
    "palette without colours": ([GREY.tobytes()], {"kind": [3]}, "PhotometricInterpretation 3"),
    "colour filter of a camera": ([GREY.tobytes()], {"kind": [32803]}, "PhotometricInterpretation 32803"),
}


@pytest.mark.parametrize("kind", REFUSED_TIFF)
def test_other_kinds_of_tiff_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    strips, tags, message = REFUSED_TIFF[kind]
    with pytest.raises(
        DataError, match=r"x\.tif: expected a complete PNG, JPEG, TIFF or DICOM image, got .*" + message
    ):
        decode_image(tiff(tmp_path / "x.tif", strips, SIZE, **tags), 1)


# PNG


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_png_is_scaled_to_the_whole_range(tmp_path: Path, depth: int) -> None:
    values = RAMP * 7 % 2**depth
    (tmp_path / "x.png").write_bytes(png(SIZE, png_rows(values, depth), depth))
    assert np.array_equal(grey(tmp_path / "x.png"), values * 255 // (2**depth - 1))


@pytest.mark.parametrize(("kind", "values"), [(4, GREY), (6, COLOUR)], ids=["grey", "colour"])
def test_16_bit_png_is_read_without_its_opacity(tmp_path: Path, kind: int, values: np.ndarray) -> None:
    deep = with_opacity(values).astype(np.int64) * 256 + 77
    (tmp_path / "x.png").write_bytes(png(SIZE, png_rows(deep, 16), 16, kind))
    levels = decode_image(tmp_path / "x.png", 3)
    assert np.array_equal(levels, np.broadcast_to(values.reshape(8, 16, -1), (8, 16, 3)))


@pytest.mark.parametrize(
    "extra",
    [
        png_chunk(b"tRNS", (20).to_bytes(2, "big")),
        png_chunk(b"gAMA", (100_000).to_bytes(4, "big")),
        png_chunk(b"sBIT", b"\5"),
        png_chunk(b"bKGD", (99).to_bytes(2, "big")),
    ],
    ids=["one transparent level", "gamma", "significant bits", "background"],
)
def test_chunks_about_display_do_not_change_the_levels(tmp_path: Path, extra: bytes) -> None:
    (tmp_path / "x.png").write_bytes(png(SIZE, png_rows(GREY, 8), extra=extra))
    assert np.array_equal(grey(tmp_path / "x.png"), GREY)


# Several images in one file


def frames(count: int) -> list[Image.Image]:
    return [Image.fromarray(np.roll(COLOUR, number, axis=1)) for number in range(count)]


def test_an_animated_png_is_refused(tmp_path: Path) -> None:
    first, *others = frames(3)
    first.save(tmp_path / "x.png", save_all=True, append_images=others)
    with pytest.raises(DataError, match=r"got an animated PNG image of 3 frames; save each frame as a separate file"):
        decode_image(tmp_path / "x.png", 3)
    first.save(tmp_path / "x.png", save_all=True)
    assert np.array_equal(decode_image(tmp_path / "x.png", 3), COLOUR)


def test_photographs_of_one_size_in_one_jpeg_file_are_refused_and_previews_are_not(tmp_path: Path) -> None:
    first, *others = frames(3)
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=others)
    with pytest.raises(DataError, match=r"got 3 photographs in one JPEG file; save each photograph"):
        decode_image(tmp_path / "x.jpg", 3)
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[first.resize((8, 4))])
    plain = io.BytesIO()
    first.save(plain, "JPEG")
    with Image.open(tmp_path / "x.jpg") as picture:
        assert picture.format == "MPO"
    with Image.open(plain) as picture:
        assert np.array_equal(decode_image(tmp_path / "x.jpg", 3), np.asarray(picture))


def test_pages_of_reduced_resolution_are_named(tmp_path: Path) -> None:
    first, second = frames(2)
    first.save(tmp_path / "x.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=r"got 2 pages in one file; save each page as a separate file"):
        decode_image(tmp_path / "x.tif", 3)
    first.encoderinfo = {}
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "x.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=r"got 2 pages in one file, 1 of them of reduced resolution \(a pyramid or a "):
        decode_image(tmp_path / "x.tif", 3)


# Pixels that are not square


def test_pixels_that_are_not_square_are_refused(tmp_path: Path) -> None:
    message = r"got pixels that are not square \(resolution 204 across, 98 down\); resample the image to square pixels"
    path = tiff(tmp_path / "x.tif", [GREY.tobytes()], SIZE, x_resolution=[204, 1], y_resolution=[98, 1])
    with pytest.raises(DataError, match=message):
        decode_image(path, 1)
    Image.fromarray(GREY).save(tmp_path / "x.jpg", dpi=(204, 98))
    with pytest.raises(DataError, match=message):
        decode_image(tmp_path / "x.jpg", 1)
    for unit in (0, 1):  # a ratio, pixels per metre
        density = png_chunk(b"pHYs", (2000).to_bytes(4, "big") + (1000).to_bytes(4, "big") + bytes([unit]))
        (tmp_path / "x.png").write_bytes(png(SIZE, png_rows(GREY, 8), extra=density))
        with pytest.raises(DataError, match=r"x\.png: .*got pixels that are not square"):
            decode_image(tmp_path / "x.png", 1)
    assert image_size(tmp_path / "x.png") == (8, 16)


@pytest.mark.parametrize("density", [(72, 72), (1, 1), (0, 0), (300, 0), (204, 196)])
def test_resolutions_that_say_nothing_or_almost_the_same_are_accepted(tmp_path: Path, density: tuple[int, int]) -> None:
    across, down = density
    path = tiff(tmp_path / "x.tif", [GREY.tobytes()], SIZE, x_resolution=[across, 1], y_resolution=[down, 1])
    assert np.array_equal(grey(path), GREY)
    path = tiff(path, [GREY.tobytes()], SIZE, x_resolution=[0, 0], y_resolution=[300, 1])
    assert np.array_equal(grey(path), GREY)
    Image.fromarray(GREY).save(tmp_path / "x.jpg", dpi=density)
    assert decode_image(tmp_path / "x.jpg", 1).shape == (8, 16, 1)
    chunk = png_chunk(b"pHYs", across.to_bytes(4, "big") + down.to_bytes(4, "big") + b"\1")
    (tmp_path / "x.png").write_bytes(png(SIZE, png_rows(GREY, 8), extra=chunk))
    assert np.array_equal(grey(tmp_path / "x.png"), GREY)
