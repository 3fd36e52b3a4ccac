"""Damage inside PNG files that Pillow does not report; healthy files are read."""

from pathlib import Path

import numpy as np
import pytest
from image_files import png, png_chunk, png_rows
from PIL import Image

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.decode import decode_image
from raygrid.errors import DataError

GREY = np.arange(128, dtype=np.uint8).reshape(8, 16)


def test_every_changed_byte_of_a_png_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for depth, values in ((8, GREY), (8, np.zeros((64, 64), np.uint8))):
        content = png((values.shape[1], values.shape[0]), png_rows(values, depth), depth)
        path.write_bytes(content)
        assert np.array_equal(decode_image(path, 1)[..., 0], values)
        for place in range(16, len(content) - 12):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(DataError, match=r"x\.png: expected "):
                decode_image(path, 1)


ROWS_OF_A_PNG = np.concatenate([GREY[:5], np.zeros((3, 16), np.uint8)])


def test_absent_rows_of_a_png_file_are_found_and_black_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png((16, 8), png_rows(ROWS_OF_A_PNG, 8)))
    assert np.array_equal(decode_image(path, 1)[..., 0], ROWS_OF_A_PNG)
    path.write_bytes(png((16, 8), png_rows(ROWS_OF_A_PNG[:5], 8)))
    message = r"x\.png: expected .*, got a PNG image with 85 bytes of pixels instead of 136: rows are missing"
    with pytest.raises(DamagedFileError, match=message):
        decode_image(path, 1)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (9, 13)])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_black_png_files_are_whole(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    path = tmp_path / "x.png"
    Image.new(mode, size).save(path)
    assert decode_image(path, 1).shape == (size[1], size[0], 1)


def test_an_interlaced_png_file_is_read(tmp_path: Path) -> None:
    passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
    parts = [png_rows(GREY[row::down, column::across], 8) for column, across, row, down in passes]
    path = tmp_path / "x.png"
    path.write_bytes(png((16, 8), b"".join(parts), interlaced=True))
    assert np.array_equal(decode_image(path, 1)[..., 0], GREY)
    path.write_bytes(png((16, 8), b"".join(parts[:-1]), interlaced=True))
    with pytest.raises(DamagedFileError, match="rows are missing"):
        decode_image(path, 1)


@pytest.mark.parametrize(("count", "enough"), [(0, False), (1, False), (127, False), (128, True), (256, True)])
def test_pixels_without_a_colour_in_the_palette_are_found(tmp_path: Path, count: int, enough: bool) -> None:
    colours = np.repeat(np.arange(count, dtype=np.uint8), 3).tobytes()
    palette = png_chunk(b"PLTE", colours) if count else b""
    path = tmp_path / "x.png"
    path.write_bytes(png((16, 8), png_rows(GREY, 8), 8, 3, palette))
    if enough:
        assert np.array_equal(decode_image(path, 1)[..., 0], GREY)
        return
    message = rf"got a PNG image with {count} palette colours, but a pixel of colour 128"
    with pytest.raises(DamagedFileError, match=message):
        decode_image(path, 1)
