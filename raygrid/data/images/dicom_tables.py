"""Lookup tables in DICOM headers: modality, VOI and palette tables, as they are found in files.

A table's descriptor has three numbers: of entries, the first value mapped, and bits of an entry. The bytes do not say
whether the second is signed, nor whether 8-bit entries fill bytes or 16-bit words, nor how many bits the entries use.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.data.images.dicom_header import CORRECT
from raygrid.errors import DataError

_PALETTE = ("Red", "Green", "Blue")
_NARROW = 12  # bits: a palette of 16 bits without a brighter entry is one of fewer bits


@dataclass(frozen=True)
class LookupTable:
    """The entries for the values from `first` on; other values map to the first or the last entry."""

    entries: NDArray[np.int64]
    first: int

    @property
    def depth(self) -> int:
        """The bits that the largest entry needs, whatever the descriptor says: viewers scale by it."""
        return max(1, int(self.entries.max()).bit_length())

    def apply(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the entries for integers of any shape."""
        places = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places])


def grey_table(
    path: Path, item: Any, name: str, values: NDArray[Any], may_be_negative: bool, little: bool
) -> LookupTable:
    """Return the table in an item of a ModalityLUTSequence or VOILUTSequence, `name`, for these integers.

    `may_be_negative` is whether the values' range, not only the values, goes below 0; `little` is the byte order.

    Raises DataError if the table contradicts its descriptor, or no value reaches it.
    """
    for element in ("LUTDescriptor", "LUTData"):
        if item.get(element) is None:
            raise DataError(f"{path}: expected a table in {name}, got one without {element}; {CORRECT}")
    count, first, bits = _descriptor(path, f"LUTDescriptor of {name}", item.LUTDescriptor, little)
    entries = _entries(path, f"LUTData of {name}", _bytes(item.LUTData, little), (count, bits), little)
    return LookupTable(entries, _first_mapped(path, name, first, count, values, may_be_negative))


def palette_colours(path: Path, dataset: Any, values: NDArray[Any], little: bool) -> NDArray[np.uint8]:
    """Return the colours, uint8 (height, width, 3), of palette indices (height, width).

    Raises DataError if a table is absent, contradicts its descriptor or differs from the others in its descriptor.
    """
    tables, descriptors = [], []
    for colour in _PALETTE:
        name = f"{colour}PaletteColorLookupTable"
        raw = dataset.get(f"{name}Descriptor")
        if raw is None:
            raise DataError(f"{path}: expected a {name}Descriptor for PALETTE COLOR, got none; {CORRECT}")
        count, first, bits = _descriptor(path, f"{name}Descriptor", raw, little)
        descriptors.append((count, first, bits))
        if f"{name}Data" in dataset:
            content = _bytes(dataset[f"{name}Data"].value, little)
            tables.append(_entries(path, f"{name}Data", content, (count, bits), little))
        elif f"Segmented{name}Data" in dataset:
            content = _bytes(dataset[f"Segmented{name}Data"].value, little)
            tables.append(_segmented_entries(path, f"Segmented{name}Data", content, count, bits, little))
        else:
            raise DataError(f"{path}: expected {name}Data for PALETTE COLOR, got none; {CORRECT}")
    if len(set(descriptors)) > 1:
        raise DataError(f"{path}: expected palettes of one size, got the descriptors {descriptors}; {CORRECT}")
    count, first, bits = descriptors[0]
    first = _first_mapped(path, "the palette", first, count, values, may_be_negative=bool(values.min() < 0))
    entries = np.stack(tables, axis=-1)
    depth = int(entries.max()).bit_length()
    depth = depth if depth <= _NARROW else max(depth, bits)
    places = np.clip(values.astype(np.int64) - first, 0, count - 1)
    return np.asarray(entries[places] >> max(0, depth - 8), np.uint8)


def _descriptor(path: Path, name: str, raw: Any, little: bool) -> tuple[int, int, int]:
    """Return (entries, first value mapped as unsigned, bits)."""
    if isinstance(raw, bytes):  # of a VR that pydicom does not read as numbers
        raw = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2" if little else ">u2").tolist()
    numbers = [raw] if isinstance(raw, int) else list(raw)
    if len(numbers) != 3 or not all(isinstance(number, int) for number in numbers):
        raise DataError(f"{path}: expected a {name} of three numbers, got {raw!r}; {CORRECT}")
    count, first, bits = (int(number) & 0xFFFF for number in numbers)  # pydicom may have read all as signed
    if not 1 <= bits <= 16:
        raise DataError(f"{path}: expected a {name} with 8 to 16 bits, got {bits}; {CORRECT}")
    return count or 2**16, first, bits


def _bytes(value: Any, little: bool) -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    numbers = [value] if isinstance(value, int) else list(value or ())
    return (np.array(numbers, np.int64) & 0xFFFF).astype("<u2" if little else ">u2").tobytes()


def _entries(path: Path, name: str, content: bytes, said: tuple[int, int], little: bool) -> NDArray[np.int64]:
    """Return the entries: 16-bit words, or else bytes if there are as many bytes as entries."""
    count, bits = said
    if len(content) == 2 * count:
        return np.frombuffer(content, "<u2" if little else ">u2").astype(np.int64)
    if len(content) == count + count % 2:
        words = np.frombuffer(content, np.uint16)
        packed = words if little else words.byteswap()  # of a word, the low byte comes first
        return packed.view(np.uint8)[:count].astype(np.int64)
    raise DataError(
        f"{path}: expected {count} entries of {bits} bits in {name}, as its descriptor says, got {len(content)} bytes; "
        f"{CORRECT}"
    )


def _first_mapped(path: Path, name: str, first: int, count: int, values: NDArray[Any], may_be_negative: bool) -> int:
    """Return the first value mapped with its sign: negative if the range of values is signed (PS3.3 C.11.2.1.1).

    Where no value reaches the table with that sign, the other one is taken.
    """
    low, high = int(values.min()), int(values.max())
    signed = first - 2**16 if first >= 2**15 else first
    for one in (signed, first) if may_be_negative else (first, signed):
        if one <= high and low < one + count:
            return one
    raise DataError(
        f"{path}: expected a table in {name} for the values from {low} to {high}, got one for {first} to "
        f"{first + count - 1}; {CORRECT}"
    )


def _segmented_entries(path: Path, name: str, content: bytes, count: int, bits: int, little: bool) -> NDArray[np.int64]:
    """Return the entries of a segmented palette (PS3.3 C.7.9.2)."""
    kind = "u1" if bits <= 8 else "<u2" if little else ">u2"
    width = np.dtype(kind).itemsize
    raw = np.frombuffer(content[: len(content) // width * width], kind)
    if bits <= 8 and not little:
        raw = raw[: len(raw) // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    entries: list[int] = []
    try:
        _expand(raw.tolist(), 0, None, 8 * width, entries)
    except (IndexError, RecursionError):
        entries = []
    if len(entries) != count:
        raise DataError(f"{path}: expected {count} entries in {name}, got {len(entries)}; {CORRECT}")
    return np.array(entries, np.int64)


def _expand(codes: list[int], position: int, segments: int | None, bits: int, entries: list[int]) -> None:
    """Append the entries of this many segments from a position on, or of all. Raises IndexError if codes are absent."""
    while position < len(codes) - 1 if segments is None else segments > 0:
        kind, length = codes[position : position + 2]
        if len(entries) > 2**16 or kind > 2:
            raise IndexError
        if kind == 0:  # the entries themselves
            entries += codes[position + 2 : position + 2 + length]
            position += 2 + length
        elif kind == 1:  # a line from the last entry to this one
            start, end = entries[-1], codes[position + 2]
            entries += [round(start + (end - start) * step / length) for step in range(1, length + 1)]
            position += 3
        else:  # segments at another place, counted in bytes
            parts = codes[position + 2 : position + 2 + 32 // bits]
            offset = sum(part << (bits * place) for place, part in enumerate(parts))
            _expand(codes, offset * 8 // bits, length, bits, entries)
            position += 2 + 32 // bits
        segments = None if segments is None else segments - 1
