"""DICOM files: headers with any values, types, lengths and nesting, and damaged bytes."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from byte_edits import Edit, edited, edits
from dicom_elements import Element, all_lists, parsed, written
from dicom_files import write_dicom
from fuzzing import Fuzz, outcome
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from raygrid.data.images.decode import decode_image, image_size

HEIGHT, WIDTH = 6, 8
GREY = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
NUMBERS = (0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 15, 16, 17, 24, 32, 64, 255, 256, 257, 4096, 32767, 32768, 65535)
TEXTS = (
    *("", "0", "1", "-1", "2", "6", "0.5", "1e400", "-1e400", "nan", "inf", "1\\2", "\\", "abc", "1e-320", "１", "\0"),
    *("9" * 60, "MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420"),
    *("YBR_RCT", "YBR_ICT", "HSV", "ARGB", "CMYK", "LINEAR", "SIGMOID", "LINEAR_EXACT", "\x1b[31m", "ISO 2022 IR 87"),
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.3"),
    *("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57"),
    *("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.100"),
)
TAGS = (
    *((0x28, number) for number in (2, 4, 6, 8, 0x10, 0x11, 0x34, 0x100, 0x101, 0x102, 0x103, 0x106, 0x107, 0x120)),
    *((0x28, number) for number in (0x1050, 0x1051, 0x1052, 0x1053, 0x1054, 0x1056, 0x1101, 0x1201, 0x3000, 0x3010)),
    *((0x28, number) for number in (0x3002, 0x3006, 0x1221, 0x9110)),
    *((0x7FE0, number) for number in (1, 2, 8, 9, 0x10)),
    *((0x5200, 0x9229), (0x5200, 0x9230), (8, 5), (8, 0x16), (2, 0), (2, 0x10), (0x6000, 0x3000), (0xFFFE, 0xE000)),
)
VRS = (b"US", b"SS", b"UL", b"DS", b"IS", b"CS", b"UI", b"LO", b"OB", b"OW", b"SQ", b"UN", b"FD", b"AT", b"OF", b"??")
LENGTHS = (0, 1, 2, 3, 65535, 2**31, 2**32 - 2, 2**32 - 1)


def lut(depth: int, first: int = 0) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [64, first, depth]
    table.LUTData = np.arange(64, dtype="<u2").tobytes()
    table["LUTData"].VR = "OW"
    return table


def groups() -> dict[str, Any]:
    rescale, window, shared = Dataset(), Dataset(), Dataset()
    rescale.RescaleIntercept, rescale.RescaleSlope = -10, 2
    window.WindowCenter, window.WindowWidth = 20, 30
    shared.PixelValueTransformationSequence, shared.FrameVOILUTSequence = [rescale], [window]
    return {"SharedFunctionalGroupsSequence": [shared], "NumberOfFrames": 1}


def encoded(kind: str, values: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def palette() -> dict[str, Any]:
    found: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        found[f"{colour}PaletteColorLookupTableDescriptor"] = [64, 0, 16]
        found[f"{colour}PaletteColorLookupTableData"] = np.arange(0, 65536, 1024, dtype="<u2").tobytes()
    return found


def make_sound(folder: Path) -> list[list[Element]]:
    """Return the elements of sound files of each kind."""
    grey8, grey16, colour = GREY.astype(np.uint8), GREY.astype(np.uint16), np.stack([GREY] * 3, -1).astype(np.uint8)
    kinds: list[tuple[np.ndarray[Any, Any], dict[str, Any]]] = [
        (grey8, {}),
        (grey16, {"BitsStored": 12, "HighBit": 11, "WindowCenter": ["20", "9"], "WindowWidth": ["30", "9"]}),
        (GREY.astype(np.int16), {"RescaleIntercept": "-1024", "RescaleSlope": "2", "RescaleType": "HU"}),
        (grey16, {"PhotometricInterpretation": "MONOCHROME1", "VOILUTSequence": [lut(8)]}),
        (
            grey16,
            {"ModalityLUTSequence": [lut(16)], "WindowCenter": 20, "WindowWidth": 30, "VOILUTFunction": "SIGMOID"},
        ),
        (grey16, groups()),
        (colour, {}),
        (colour, {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 1}),
        (grey8, palette()),
        (grey8, {"PixelAspectRatio": [1, 1], "SpecificCharacterSet": "ISO_IR 192", "PixelPaddingValue": 3}),
    ]
    path = folder / "sound.dcm"
    files = [write_dicom(path, values, **header).read_bytes() for values, header in kinds]
    compressed: list[tuple[str, Callable[[], bytes], np.ndarray[Any, Any]]] = [
        (JPEGBaseline8Bit, lambda: encoded("JPEG", grey8), grey8),
        (JPEGBaseline8Bit, lambda: encoded("JPEG", colour), colour),
        (JPEG2000Lossless, lambda: encoded("JPEG2000", grey16), grey16),
    ]
    for syntax, pixels, values in compressed:
        dataset = dcmread(write_dicom(path, values, syntax=syntax))
        dataset.PixelData = encapsulate([pixels()])
        dataset.save_as(path)
        files.append(path.read_bytes())
    for values in (grey16, colour):
        dataset = dcmread(write_dicom(path, values))
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
        files.append(path.read_bytes())
    return [parsed(file) for file in files]


@dataclass(frozen=True)
class Change:
    """One change in a list of elements: of the file, or of an item of a sequence."""

    kind: str
    level: int
    place: int
    tag: tuple[int, int]
    vr: bytes
    value: bytes
    length: int

    def apply(self, elements: list[Element]) -> None:
        lists = all_lists(elements)
        there = lists[self.level % len(lists)]
        if self.kind == "add" or not there:
            there.insert(self.place % (len(there) + 1), Element(self.tag, self.vr, self.value))
            return
        named = [e for e in there if e.tag == self.tag]
        element = named[0] if named else there[self.place % len(there)]
        match self.kind:
            case "value":
                element.value, element.items = self.value, []
            case "remove":
                there.remove(element)
            case "double":
                there.append(element)
            case "retype":
                element.vr = self.vr
            case "claim":
                element.claimed = self.length
            case "empty":
                element.value, element.items = b"", []
            case "nest":
                element.items = [[Element(self.tag, b"SQ", items=[[copied(e) for e in there[:20]]])]]


@dataclass(frozen=True)
class DicomFile:
    """A sound file of one kind with changes, then damaged bytes."""

    kind: int
    changes: Sequence[Change]
    damage: Sequence[Edit]
    suffix: str

    def content(self, sound: Sequence[Sequence[Element]]) -> bytes:
        elements = [copied(element) for element in sound[self.kind % len(sound)]]
        for change in self.changes:
            change.apply(elements)
        return edited(written(elements), self.damage)


def copied(element: Element) -> Element:
    items = [[copied(inner) for inner in item] for item in element.items]
    return Element(element.tag, element.vr, element.value, items, element.claimed)


def values() -> st.SearchStrategy[bytes]:
    shorts = st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4)
    return (
        shorts.map(lambda numbers: b"".join(n.to_bytes(2, "little") for n in numbers))
        | st.sampled_from(TEXTS).map(lambda text: (text + " " * (len(text) % 2)).encode())
        | st.lists(st.sampled_from(TEXTS[:16]), max_size=3).map(lambda texts: "\\".join(texts).encode())
        | st.binary(max_size=16)
        | st.just(bytes(200_000))
    )


CHANGES = st.builds(
    Change,
    kind=st.sampled_from(("value", "value", "value", "add", "remove", "double", "retype", "claim", "empty", "nest")),
    level=st.just(0) | st.integers(0, 5),
    place=st.integers(0, 30),
    tag=st.sampled_from(TAGS),
    vr=st.sampled_from(VRS),
    value=values(),
    length=st.sampled_from(LENGTHS),
)
FILES = st.builds(
    DicomFile,
    kind=st.integers(0, 14),
    changes=st.lists(CHANGES, max_size=4),
    damage=st.just([]) | edits(1500),
    suffix=st.sampled_from((".dcm", ".dcm", "", ".png")),
)


def test_a_file_is_decoded_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    sound = make_sound(tmp_path)
    for number, elements in enumerate(sound):
        path = tmp_path / "again.dcm"
        path.write_bytes(written(elements))
        assert outcome(lambda: decode_image(path, 1), path) is not None, number  # noqa: B023

    def check(file: DicomFile) -> None:
        path = tmp_path / f"image{file.suffix}"
        path.write_bytes(file.content(sound))
        for channels, window in ((1, None), (3, None), (1, (-100.0, 50.0))):
            size = outcome(lambda: image_size(path), path)
            image = outcome(lambda: decode_image(path, channels, window=window), path)  # noqa: B023
            if image is not None:
                assert size is not None
                assert image.shape == (*size, channels)
                assert image.dtype == np.uint8

    fuzz(check, FILES)
