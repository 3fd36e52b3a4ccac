"""The file that a wrong path in a table most likely means: another prefix, suffix, case or spelling of its name."""

import os
import re
import unicodedata
from collections import defaultdict
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
_NFC = partial(unicodedata.normalize, "NFC")
_DIGITS = re.compile(r"\d+")
_MOST_FILES = 500_000  # of a folder that are looked at
_MOST_COMPARED = 20_000  # names, for those of similar letters; equal names are found among any number
_MOST_SEARCHES = 20  # among similar names


class NearestFiles:
    """The image files below a folder, listed when the first path is looked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._searches = 0

    def nearest(self, path: str) -> str:
        """Return the path, relative to the folder, of the file that `path` may mean; "" if none is near."""
        parts = _parts(path)
        if not parts:
            return ""
        stem = _stem(parts[-1])
        found = self._by_stem.get(stem) or self._similar(stem)
        return min(found, key=lambda p: (-_num_equal_ends(parts, _parts(p)), p), default="")

    def sentence(self, path: str) -> str:
        """Return "the nearest file is ..." for a message; "" if none is near."""
        near = self.nearest(path)
        if not near:
            return ""
        looks_equal = near != path and _NFC(near) == _NFC("".join(c for c in path if unicodedata.category(c) != "Cf"))
        return f"the nearest file is {near!r}" + ", with its letters in another encoding" * looks_equal

    def _similar(self, stem: str) -> list[str]:
        """Return the files of similar names; other digits mean another image, which a user must not take for this."""
        if self._searches == _MOST_SEARCHES or len(self._by_stem) > _MOST_COMPARED:
            return []
        self._searches += 1
        near = get_close_matches(stem, self._by_stem, n=5, cutoff=0.8)
        return next((self._by_stem[n] for n in near if _DIGITS.findall(n) == _DIGITS.findall(stem)), [])

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        count = 0
        for folder, folders, files in os.walk(self._folder):
            folders.sort()
            inside = os.path.relpath(folder, self._folder)
            for name in sorted(files):
                count += 1
                suffix = os.path.splitext(name)[1].lower()
                if suffix in IMAGE_SUFFIXES or not suffix:
                    path = name if inside == os.curdir else f"{inside}/{name}"
                    found[_stem(_parts(name)[-1])].append(path)
            if count > _MOST_FILES:
                break
        return dict(found)


def _parts(path: str) -> list[str]:
    """Return the parts of a path in one spelling of slashes, encodings, letters and accents."""
    if path.isascii() and "%" not in path and "\\" not in path:  # most paths, at a fifth of the time
        return [part.strip() for part in path.lower().split("/") if part.strip() not in ("", ".")]
    visible = "".join(c for c in unquote(path.replace("\\", "/")) if unicodedata.category(c) != "Cf")
    plain = _NFC(visible).casefold()
    return [part.strip() for part in PurePosixPath(plain).parts if part.strip(" /")]


def _stem(name: str) -> str:
    suffix = os.path.splitext(name)[1]
    return name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name


def _num_equal_ends(one: list[str], other: list[str]) -> float:
    """Return how many parts are equal from the end; a name of another suffix counts as half."""
    equal = 1.0 if one[-1] == other[-1] else 0.5
    for a, b in zip(reversed(one[:-1]), reversed(other[:-1]), strict=False):
        if a != b:
            break
        equal += 1
    return equal
