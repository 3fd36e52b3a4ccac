"""Archives of arrays: headers that lie, types that are not numbers, pickles, bombs and damaged bytes."""

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_edits import Edit, edited, edits
from fuzzing import Fuzz, Marker, few_changes, outcome
from hypothesis import strategies as st
from sound_index import require_sound

from raygrid.data.datasets import open_dataset
from raygrid.io.paths import CACHE_VARIABLE
from raygrid.spec import DatasetSpec

PARTS = ("train", "val", "test")
NAMES = tuple(f"{part}_{kind}" for part in PARTS for kind in ("images", "labels"))
SIDE = 20
DTYPES = ("|u1", "|i1", "<u2", ">i4", "<i8", "<f4", "|b1", "<U3", "|S2", "|O", "<M8[s]", "<c8", "|V0", "<V4", "<f16")
SHAPES = (
    *("()", "(0,)", "(3,)", "(3, 1)", "(3, 2)", "(4, 1)", "(-1,)", "(3, -1)", "(1.5,)", "(True,)", "('a',)", "3"),
    *("(3, 20, 20)", "(3, 20, 20, 3)", "(3, 20, 20, 4)", "(3, 3, 20, 20)", "(3, 20, 20, 20)", "(3, 0, 20)"),
    *("(2**70,)", "(18446744073709551615,)", "(3, 99999999999)", "(1073741824,)", "(3,) * 9", f"({'3,' * 70})"),
)
HEADERS = ("", "{", "(" * 5000, "{'descr': '|u1'}", "[1]", "'" + "a" * 9000, "\0", "__import__('os')", "{**{}}")


@dataclass(frozen=True)
class Member:
    """One array, whose header may state another type and shape than its bytes have."""

    descr: str = ""
    shape: str = ""
    header: str | None = None
    fortran: str = "False"
    version: tuple[int, int] = (1, 0)
    values: int = 0

    def content(self, array: np.ndarray[Any, Any], folder: Path) -> bytes:
        descr, shape = self.descr or array.dtype.str, self.shape or str(array.shape)
        text = f"{{'descr': {descr!r}, 'fortran_order': {self.fortran}, 'shape': {shape}, }}"
        encoded = (text if self.header is None else self.header).encode()
        length = len(encoded).to_bytes(2 if self.version[0] == 1 else 4, "little")
        body = [
            array.tobytes(),
            pickle.dumps(Marker(folder)),
            b"\xff" * array.nbytes,
            np.full(array.shape, 200, array.dtype).tobytes(),
            array.tobytes()[:-1],
        ]
        return b"\x93NUMPY" + bytes(self.version) + length + encoded + body[self.values]


@dataclass(frozen=True)
class Archive:
    """An archive of three images and labels in each part, with changed members, then damaged bytes."""

    labels: str
    colour: bool
    members: Mapping[str, Member | None] = field(default_factory=dict)
    doubled: str = ""
    extra: str = ""
    deflated: bool = True
    damage: Sequence[Edit] = ()

    def content(self, folder: Path) -> bytes:
        rng = np.random.default_rng(0)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if self.deflated else zipfile.ZIP_STORED) as archive:
            for name in [*NAMES, *([self.doubled] if self.doubled else [])]:
                shape = (3, SIDE, SIDE, 3) if self.colour else (3, SIDE, SIDE)
                array = rng.integers(0, 256, shape).astype(np.uint8) if "images" in name else self._labels()
                member = self.members.get(name, Member())
                if member is not None:
                    archive.writestr(f"{name}.npy", member.content(array, folder))
            if self.extra:
                archive.writestr(self.extra, b"x")
        return edited(file.getvalue(), self.damage)

    def _labels(self) -> np.ndarray[Any, Any]:
        return {
            "two": np.array([[0], [1], [0]], np.uint8),
            "many": np.array([[0], [4], [2]], np.uint8),
            "columns": np.array([[0, 1], [1, 1], [0, 0]], np.uint8),
        }[self.labels]


MEMBERS = few_changes(
    Member,
    2,
    {},
    descr=st.sampled_from(DTYPES),
    shape=st.sampled_from(SHAPES),
    header=st.sampled_from(HEADERS),
    fortran=st.sampled_from(("True", "0", "None")),
    version=st.sampled_from(((2, 0), (3, 0), (9, 9))),
    values=st.integers(1, 4),
)
ARCHIVES = few_changes(
    Archive,
    2,
    {"labels": st.sampled_from(("two", "many", "columns")), "colour": st.booleans()},
    members=st.dictionaries(st.sampled_from(NAMES), st.none() | MEMBERS, min_size=1, max_size=2),
    doubled=st.sampled_from(NAMES),
    extra=st.sampled_from(("../x.npy", "/x.npy", "x" * 5000, "train_images")),
    deflated=st.just(False),
    damage=edits(8000),
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_is_read_or_refused(fuzz: Fuzz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    (tmp_path / "medmnist").mkdir()
    marker = Marker(tmp_path)
    number = 0

    def check(archive: Archive) -> None:
        nonlocal number
        number += 1  # opened arrays are remembered by path and time of change
        path = tmp_path / "medmnist" / f"{number}.npz"
        path.write_bytes(archive.content(tmp_path))
        spec = DatasetSpec(loader="medmnist", image_size=SIDE, channels=3, options={"file": path.name})
        dataset = open_dataset(spec, tmp_path)
        index = outcome(dataset.index, path.name)
        if index is not None:
            require_sound(index)
            for locator in index.table["locator"]:
                image = outcome(partial(dataset.read, locator), path.name)
                if image is not None:
                    assert image.shape == (SIDE, SIDE, 3)
                    assert image.dtype == np.uint8
                    assert dataset.source_size(locator) == (SIDE, SIDE)
        marker.require_absent()
        for leftover in [path, *cache.glob(f"{number}-*")]:
            leftover.unlink()

    fuzz(check, ARCHIVES)
