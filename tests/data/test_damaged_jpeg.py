"""Damage inside JPEG streams is found, and healthy streams of unusual kinds are not refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raygrid.data.damage import DamagedFileError
from raygrid.data.images.decode import decode_image
from raygrid.data.images.jpeg import require_whole_jpeg
from raygrid.errors import DataError

RNG = np.random.default_rng(1)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 255, (20, 20, 3), np.uint8)).resize((203, 197), Image.Resampling.BICUBIC)
)
PHOTO = np.clip(SMOOTH.astype(int) + RNG.integers(-9, 10, SMOOTH.shape), 0, 255).astype(np.uint8)
START, SCAN, END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "RGB": {"keep_rgb": True},
    "restart markers": {"restart_marker_rows": 1},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
}


def stream(size: tuple[int, int] = (203, 197), mode: str = "RGB", **options: Any) -> bytes:
    """Return the photograph as JPEG, (width, height) pixels."""
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).resize(size).convert(mode).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def flipped(content: bytes) -> bytes:
    """Return the stream with 400 other bytes in its middle, none of them a marker."""
    half = len(content) // 2
    return content[:half] + RNG.integers(1, 200, 400, np.uint8).tobytes() + content[half + 400 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "cut in the end marker": lambda content: content[:-1],
    "zeros to the end": lambda content: content[: len(content) // 2] + bytes(len(content) // 2),
    "cut, with an end marker": lambda content: content[: len(content) // 2] + END,
    "zeros to the end marker": lambda content: content[: len(content) // 2] + bytes(len(content) // 2) + END,
    "hole of zeros": lambda content: content[: len(content) // 2] + bytes(600) + content[len(content) // 2 + 600 :],
    "hole of ones": lambda content: content[: len(content) // 2] + b"\xff" * 600 + content[len(content) // 2 + 600 :],
    "flipped bytes": flipped,
    "lost bytes": lambda content: content[: len(content) // 2] + content[len(content) // 2 + 600 :],
    "cut, with a second stream": lambda content: content[: len(content) // 2] + content,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_inside_a_jpeg_file_is_found(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(DAMAGE[damage](stream(**KINDS[kind])))
    with pytest.raises(DamagedFileError, match=r"x\.jpg: expected a complete PNG, JPEG, TIFF or DICOM image, got "):
        decode_image(path, 3)


@pytest.mark.parametrize("size", [(1, 1), (17, 1), (7, 9), (16, 8), (203, 197)])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_jpeg_files_are_read_as_pillow_reads_them(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(stream(size, **KINDS[kind]))
    with Image.open(path) as picture:
        assert np.array_equal(decode_image(path, 3), np.asarray(picture.convert("RGB")))


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def after_start(extra: bytes) -> Callable[[bytes], bytes]:
    return lambda content: START + extra + content[2:]


def before_end(extra: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:-2] + extra + END


def with_scan_parameters(content: bytes) -> bytes:
    """Return a baseline stream whose scan says that it ends at coefficient 0, as some encoders write."""
    scan = content.index(SCAN)
    parameters = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big") - 3
    return content[:parameters] + bytes(3) + content[parameters + 3 :]


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "JFIF of version 9": lambda content: content.replace(b"JFIF\0\1", b"JFIF\0\x09"),
    "unknown Adobe transform": after_start(segment(0xEE, b"Adobe\0\x64\0\0\0\0\x09")),
    "scan without coefficients": with_scan_parameters,
    "stray bytes in the header": lambda content: content[:20] + b"stray" + content[20:],
    "preview with an end marker": after_start(segment(0xE1, b"Exif\0\0" + stream((40, 40)))),
    "cut preview": after_start(segment(0xE1, b"Exif\0\0" + stream((40, 40))[:900])),
    "comment": after_start(segment(0xFE, SCAN * 9)),
    "zeros after the end": lambda content: content + bytes(900),
    "film after the end": lambda content: content + RNG.bytes(200_000) + SCAN * 3,
    "second picture, cut": lambda content: content + content[:2000],
    "zeros before the end": before_end(bytes(900)),
    "fill bytes before the end": before_end(b"\xff" * 900),
}


@pytest.mark.parametrize("kind", ["baseline", "grey", "optimised", "4:4:4"])
@pytest.mark.parametrize("oddity", HARMLESS)
def test_oddities_of_healthy_files_are_accepted(tmp_path: Path, kind: str, oddity: str) -> None:
    path = tmp_path / "x.jpg"
    content = stream(**KINDS[kind])
    path.write_bytes(HARMLESS[oddity](content))
    assert path.read_bytes() != content
    with Image.open(io.BytesIO(content)) as picture:
        assert np.array_equal(decode_image(path, 3), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restart markers"])
@pytest.mark.parametrize("oddity", sorted(set(HARMLESS) - {"zeros before the end", "scan without coefficients"}))
def test_an_oddity_does_not_hide_damage(kind: str, oddity: str) -> None:
    content = HARMLESS[oddity](DAMAGE["hole of zeros"](stream(**KINDS[kind])))
    with pytest.raises(DamagedFileError, match=r"x: expected .*, got damaged JPEG data"):
        require_whole_jpeg(Path("x"), content)


@pytest.mark.parametrize("length", [64, 500])
@pytest.mark.parametrize("kind", ["baseline", "grey", "RGB", "restart markers", "4:4:4", "4:2:2"])
def test_a_hole_of_zeros_is_found_wherever_it_is(kind: str, length: int) -> None:
    content = stream(**KINDS[kind])
    first = content.index(SCAN) + 20
    for start in range(first, len(content) - length - 2, len(content) // 40):
        with pytest.raises(DamagedFileError, match=r"x: expected .*, got damaged JPEG data"):
            require_whole_jpeg(Path("x"), content[:start] + bytes(length) + content[start + length :])


@pytest.mark.parametrize(("length", "least"), [(1, 0.2), (20, 0.6), (200, 0.9)])
def test_the_documented_share_of_changed_passages_is_found(length: int, least: float) -> None:
    found, tried = 0, 0
    for options in KINDS.values():
        content = stream(**options)
        generator = np.random.default_rng(length)
        for start in generator.integers(800, len(content) - length - 2, 40):
            damaged = bytearray(content)
            damaged[start : start + length] = generator.integers(1, 200, length, np.uint8).tobytes()
            tried += 1
            try:
                require_whole_jpeg(Path("x"), bytes(damaged))
            except DamagedFileError:
                found += 1
    assert found / tried >= least


def test_a_progressive_file_without_its_last_scans_is_found() -> None:
    content = stream(progressive=True)
    scans = [place for place in range(len(content)) if content[place : place + 2] == SCAN]
    assert len(scans) > 5
    for scan in scans[1:]:
        tables = content.rfind(b"\xff\xc4", 0, scan)  # each scan has its own Huffman table, except some of the first
        end = tables if scan - tables < 200 else scan
        with pytest.raises(DamagedFileError, match="got a JPEG image without its last scans"):
            require_whole_jpeg(Path("x"), content[:end] + END)
    require_whole_jpeg(Path("x"), content)


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC7, 0xCB, 0xF7], ids=lambda kind: f"{kind:x}")
def test_of_a_stream_that_cannot_be_decoded_here_the_end_is_checked(monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    content = stream().replace(b"\xff\xc0", bytes([0xFF, kind]), 1)  # lossless, hierarchical, JPEG-LS
    monkeypatch.setattr("simplejpeg.decode_jpeg", None)  # it writes behind its buffer for lossless streams
    require_whole_jpeg(Path("x"), content)
    with pytest.raises(DamagedFileError, match="got a JPEG image without its end"):
        require_whole_jpeg(Path("x"), content[:-2])


def test_a_stream_of_12_bits_is_checked() -> None:
    content = stream(mode="L").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c", 1)
    assert b"\xff\xc1" in content
    require_whole_jpeg(Path("x"), content)
    with pytest.raises(DamagedFileError, match="got damaged JPEG data"):
        require_whole_jpeg(Path("x"), DAMAGE["hole of zeros"](content))


def test_a_stream_that_claims_too_many_pixels_is_not_decoded() -> None:
    content = stream(progressive=True)
    frame = content.index(b"\xff\xc2") + 5
    with pytest.raises(DataError, match=r"x: expected at most 150 megapixels, got 65500 x 65500 pixels in the header"):
        require_whole_jpeg(Path("x"), content[:frame] + (65500).to_bytes(2, "big") * 2 + content[frame + 4 :])


@pytest.mark.parametrize("content", [b"", START, b"\xff\x4f\xff\x51" + bytes(90) + END, b"not JPEG"])
def test_other_content_is_left_to_its_decoder(content: bytes) -> None:
    require_whole_jpeg(Path("x"), content)
