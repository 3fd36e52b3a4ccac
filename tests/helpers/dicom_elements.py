"""DICOM files as nested lists of elements that may lie about their type and length, for fuzzing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
_ITEM = b"\xfe\xff\x00\xe0"
_META_LENGTH = (2, 0)
_UNDEFINED = 0xFFFFFFFF


@dataclass
class Element:
    """One element; `items` are those of a sequence, `claimed` replaces its length."""

    tag: tuple[int, int]
    vr: bytes
    value: bytes = b""
    items: list[list["Element"]] = field(default_factory=list)
    claimed: int | None = None


def parsed(content: bytes) -> list[Element]:
    """Return the elements of a file in explicit little endian; the preamble is left out.

    Pixels of undefined length are the rest of the file.
    """
    return list(_elements(content[132:]))


def _elements(content: bytes) -> Iterator[Element]:
    at = 0
    while at < len(content):
        tag = (int.from_bytes(content[at : at + 2], "little"), int.from_bytes(content[at + 2 : at + 4], "little"))
        vr = content[at + 4 : at + 6]
        start = at + 12 if vr in _LONG else at + 8
        length = int.from_bytes(content[start - 4 : start] if vr in _LONG else content[at + 6 : at + 8], "little")
        if length == _UNDEFINED:
            yield Element(tag, vr, content[start:], claimed=_UNDEFINED)
            return
        value = content[start : start + length]
        yield Element(tag, vr, items=list(_items(value))) if vr == b"SQ" else Element(tag, vr, value)
        at = start + length


def _items(content: bytes) -> Iterator[list[Element]]:
    at = 0
    while at < len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        yield list(_elements(content[at + 8 : at + 8 + length]))
        at += 8 + length


def written(elements: list[Element]) -> bytes:
    """Return the file; the length of its meta information is right unless the element claims another."""
    meta = [e for e in elements if e.tag[0] == _META_LENGTH[0] and e.tag != _META_LENGTH]
    length = len(_encoded(meta)).to_bytes(4, "little")
    kept = [Element(e.tag, e.vr, length, claimed=e.claimed) if e.tag == _META_LENGTH else e for e in elements]
    return bytes(128) + b"DICM" + _encoded(kept)


def _encoded(elements: list[Element]) -> bytes:
    return b"".join(map(_one, elements))


def _one(element: Element) -> bytes:
    value = element.value + b"".join(_item(item) for item in element.items)
    length = len(value) if element.claimed is None else element.claimed
    tag = element.tag[0].to_bytes(2, "little") + element.tag[1].to_bytes(2, "little")
    if element.vr in _LONG:
        return tag + element.vr + b"\0\0" + (length % 2**32).to_bytes(4, "little") + value
    return tag + element.vr + (length % 2**16).to_bytes(2, "little") + value


def _item(elements: list[Element]) -> bytes:
    content = _encoded(elements)
    return _ITEM + len(content).to_bytes(4, "little") + content


def all_lists(elements: list[Element]) -> list[list[Element]]:
    """Return the list itself and those of its sequences, of any depth."""
    return [elements, *(inner for e in elements for item in e.items for inner in all_lists(item))]
