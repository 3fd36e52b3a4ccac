"""PNG, JPEG and TIFF files: chunks, segments and tags that lie, with checksums put right, and damaged bytes."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from byte_edits import BYTES, Edit, edited, edits
from fuzzing import Fuzz, few_changes, outcome
from hypothesis import strategies as st
from PIL import Image

from raygrid.data.images.crop import crop_field_of_view
from raygrid.data.images.decode import decode_image, image_size

HEIGHT, WIDTH = 22, 26
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"gAMA", b"iCCP", b"zTXt", b"pHYs")
TAGS = (256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 317, 320, 322, 324, 325, 338, 339, 347, 530)
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 255, 32773, 34892, 50000, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def sound_files() -> list[tuple[str, bytes]]:
    """Return (suffix, content) of sound files of many kinds."""
    exif = Image.Exif()
    exif[0x0112] = 6
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    paletted = colour.convert("P")
    return [
        *((".png", saved(p, "PNG")) for p in (grey, colour, deep, paletted, grey.convert("1"), colour.convert("RGBA"))),
        (".png", saved(colour, "PNG", exif=exif)),
        *((".jpg", saved(p, "JPEG")) for p in (grey, colour, colour.convert("CMYK"))),
        (".jpg", saved(colour, "JPEG", progressive=True, exif=exif, restart_marker_blocks=1)),
        *((".tif", saved(p, "TIFF")) for p in (grey, deep, colour, paletted, grey.convert("1"))),
        *(
            (".tif", saved(colour, "TIFF", compression=c))
            for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        ),
        (".tif", saved(grey, "TIFF", tiffinfo={274: 6})),
    ]


FILES = sound_files()
MARKERS = (0xC0, 0xC1, 0xC2, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE)


@dataclass(frozen=True)
class Picture:
    """A sound file with one part changed in the way of its format, then damaged bytes."""

    file: int
    part: int = 0
    value: bytes = b""
    number: int = 0
    kind: str = ""
    damage: Sequence[Edit] = ()

    @property
    def suffix(self) -> str:
        return FILES[self.file % len(FILES)][0]

    def content(self) -> bytes:
        content = FILES[self.file % len(FILES)][1]
        if self.kind:
            content = {".png": self._png, ".jpg": self._jpeg, ".tif": self._tiff}[self.suffix](content)
        return edited(content, self.damage)

    def _png(self, content: bytes) -> bytes:
        chunks, at = [], 8
        while at < len(content):
            length = int.from_bytes(content[at : at + 4], "big")
            chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
            at += 12 + length
        place = self.part % len(chunks)
        name, data = chunks[place]
        match self.kind:
            case "write":  # width, height, depth and kind of colour are in the first bytes of IHDR
                start = self.number % (len(data) + 1)
                chunks[place] = (name, data[:start] + self.value + data[start + len(self.value) :])
            case "remove":
                del chunks[place]
            case "double":
                chunks.insert(place, chunks[place])
            case "add":
                chunks.insert(place, (CHUNKS[self.number % len(CHUNKS)], self.value))
            case "swap":
                chunks.append(chunks.pop(place))
        parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
        return content[:8] + b"".join(parts)

    def _jpeg(self, content: bytes) -> bytes:
        starts, at = [], 2
        while content[at] == 0xFF and content[at + 1] != 0xDA:
            starts.append(at)
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        start = starts[self.part % len(starts)]
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        match self.kind:
            case "write":
                there = start + 4 + self.number % (end - start - 3)
                return content[:there] + self.value + content[there + len(self.value) :]
            case "remove":
                return content[:start] + content[end:]
            case "double":
                return content[:end] + content[start:]
            case "add":
                marker = MARKERS[self.number % len(MARKERS)]
                return content[:start] + bytes((0xFF, marker)) + struct.pack(">H", 2 + len(self.value)) + self.value
        return content[:2] + content[start:end] * 2 + content[2:]

    def _tiff(self, content: bytes) -> bytes:
        """Change one entry of the first directory, in place."""
        first = struct.unpack("<I", content[4:8])[0]
        count = struct.unpack("<H", content[first : first + 2])[0]
        at = first + 2 + 12 * (self.part % count)
        tag, form, length, value = struct.unpack("<HHII", content[at : at + 12])
        match self.kind:
            case "write":
                value = NUMBERS[self.number % len(NUMBERS)]
            case "remove":
                tag = 65000
            case "double":
                tag = TAGS[self.number % len(TAGS)]
            case "add":
                length = NUMBERS[self.number % len(NUMBERS)]
            case "swap":
                form = self.number % 19
        return content[:at] + struct.pack("<HHII", tag, form, length, value) + content[at + 12 :]


PICTURES = few_changes(
    Picture,
    6,
    {"file": st.integers(0, len(FILES) - 1)},
    part=st.integers(0, 20),
    value=st.sampled_from(BYTES) | st.binary(max_size=8) | st.just(b"\0\0\x2e\xe0\0\0\x2e\xe0"),  # 12,000 x 12,000
    number=st.integers(0, 40),
    kind=st.sampled_from(("write", "remove", "double", "add", "swap")),
    damage=edits(2000),
)


def test_a_picture_is_decoded_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    def check(picture: Picture) -> None:
        path = tmp_path / f"image{picture.suffix}"
        path.write_bytes(picture.content())
        for channels, upright, size, window in (
            (3, True, None, None),
            (1, False, 16, None),
            (1, False, None, (0.0, 99.0)),
        ):
            found = outcome(lambda: image_size(path, upright=upright), path)  # noqa: B023
            image = outcome(
                lambda: decode_image(path, channels, size=size, upright=upright, window=window),  # noqa: B023
                path,
            )
            if image is not None:
                assert found is not None
                expected = (size, size) if size else found
                assert image.shape == (*expected, channels)
                assert image.dtype == np.uint8
                if channels == 3:
                    cropped = crop_field_of_view(image)
                    assert 0 < cropped.shape[0] <= image.shape[0]
                    assert 0 < cropped.shape[1] <= image.shape[1]

    fuzz(check, PICTURES)
