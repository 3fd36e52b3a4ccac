"""PatchCamelyon: patches of lymph node sections, in six HDF5 files."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.damage import DamagedFileError, with_remedy
from raygrid.data.datasets.base import Index
from raygrid.data.datasets.label_files import absent_paths, check_spec, read_rows, require_all
from raygrid.data.datasets.text_files import what_is
from raygrid.data.images.intensity import resize_square
from raygrid.data.patients import Patients, declared_different, slide_key
from raygrid.errors import DataError
from raygrid.spec import DatasetSpec

_PARTS = {"train": "development", "valid": "development", "test": "test"}
_SIDE = 96  # pixels
_SLICE = 256  # patches read at once: 7 MB
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError)  # of h5py for damaged files
_SOURCE = "github.com/basveeling/pcam"
_ADVICE = (
    f"Get the six .h5.gz files (and, for slide ids, the three _meta.csv) from {_SOURCE} and unpack "
    "them with gunzip; docs/how-to/data-sets.md shows the layout."
)
_REMEDY = f"unpack the file again from its .gz, or download it again ({_SOURCE})"
_NO_SLIDES = (
    "PatchCamelyon without its _meta.csv files: each patch counts as its own patient, so patches of one slide can be "
    "in both d1 and d2 (docs/how-to/data-sets.md, Slides as patients)"
)


class PCam:
    """The data set in `data_root/pcam`. A patient is a slide if the `_meta.csv` files are there, else a single patch.

    Options:
        different_patients: slide ids that are different slides although they look like one, such as `s1` and
            `b/s1.tif`; True for all of them.

    The object can be pickled at any time: open files are left out, and the copy opens them at its first read.
    Source: docs/explanation/protocol.md, Data.
    """

    title = "PatchCamelyon"
    phantom = False
    published: tuple[int, int | None, int] | None = (327_680, 32_768, 1)

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        check_spec(spec, channels=(3,), options=("different_patients",))
        self._different = declared_different(spec.options)
        self._size = spec.image_size
        self._root = data_root / "pcam"
        self._open: dict[tuple[int, str], Any] = {}
        self._slice: tuple[tuple[str, int] | None, Any] = (None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_slice": (None, None)}

    def missing(self) -> list[str]:
        """Return one line for each absent HDF5 file, then where to get them."""
        return absent_paths([self._path(part, kind) for part in _PARTS for kind in ("x.h5", "y.h5")], _ADVICE)

    @with_remedy(_REMEDY)
    def index(self) -> Index:
        """Return the table of all patches, label `metastasis`.

        Raises MissingDataError if a file is absent, DataError if a file is damaged or of another shape, a label is
        neither 0 nor 1, only some parts have slide ids, or one slide has two spellings.
        """
        require_all(self.missing())
        with_slides = [part for part in _PARTS if self._path(part, "meta.csv").exists()]
        if len(with_slides) not in (0, len(_PARTS)):
            raise DataError(
                f"{self._root}: expected _meta.csv for all of {list(_PARTS)} or for none, got it for {with_slides}; "
                "download the others, or remove these to count each patch as a patient"
            )
        slides = Patients(self._different, "a slide id in column 'wsi'", slide_key) if with_slides else None
        table = pd.concat([self._table(part, slides) for part in _PARTS], ignore_index=True)
        if slides:
            slides.check()
        notes = slides.notes() if slides else (_NO_SLIDES,)
        meanings = {"metastasis": "metastatic tissue in the centre of the patch"}
        return Index(("metastasis",), table, notes=notes, meanings=meanings, different_patients=self._different)

    @with_remedy(_REMEDY)
    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one patch, uint8 (image_size, image_size, 3); resized only if image_size is not 96.

        Raises DataError if the file is damaged.
        """
        part, number = locator.split("/")
        try:
            patch = self._patch(part, int(number))
        except _DAMAGE as error:
            raise _unreadable(self._path(part, "x.h5"), f"a readable patch {number}", error) from error
        return resize_square(patch, self._size)

    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (96, 96), the size of every patch."""
        del locator
        return (_SIDE, _SIDE)

    def _patch(self, part: str, number: int) -> NDArray[np.uint8]:
        """Return one patch, uint8 (96, 96, 3); the slice around it is kept, since patches are read in order."""
        # a handle must not be shared with a forked process: both would move one file position
        key = (os.getpid(), part)
        if key not in self._open:
            path = self._path(part, "x.h5")
            self._open[key] = _dataset(h5py.File(path, "r"), "x", path)
        dataset = self._open[key]
        chunk = dataset.chunks[0] if dataset.chunks else 1
        step = chunk * max(1, _SLICE // chunk)  # whole chunks: each is unpacked once
        start = number // step * step
        if self._slice[0] != (part, start):
            try:
                self._slice = ((part, start), dataset[start : start + step])
            except _DAMAGE:  # somewhere in the slice: its other patches may be whole
                return np.asarray(dataset[number])
        patch: NDArray[np.uint8] = self._slice[1][number - start].copy()
        return patch

    def _path(self, part: str, kind: str) -> Path:
        return self._root / f"camelyonpatch_level_2_split_{part}_{kind}"

    def _table(self, part: str, slides: Patients | None) -> pd.DataFrame:
        shape, size = self._shape(part), self._path(part, "x.h5").stat().st_size
        labels = self._labels(part, shape[0])
        ids = [f"{part}-{i:06d}" for i in range(shape[0])]
        return pd.DataFrame(
            {
                "image_id": ids,
                "patient_id": self._slides(part, shape[0], slides) if slides else ids,
                "part": _PARTS[part],
                "locator": [f"{part}/{i}" for i in range(shape[0])],
                "content": f"HDF5 file, {size} bytes, shape {shape}",
                "metastasis": labels,
            }
        )

    def _shape(self, part: str) -> tuple[int, ...]:
        path = self._path(part, "x.h5")
        try:
            with h5py.File(path, "r") as file:
                images = _dataset(file, "x", path)
                shape, kind = tuple(int(n) for n in images.shape), str(images.dtype)
        except _DAMAGE as error:
            raise _unreadable(path, "an HDF5 file", error) from error
        if len(shape) != 4 or shape[1:] != (_SIDE, _SIDE, 3) or kind != "uint8":
            raise DamagedFileError(
                f"{path}: expected 'x' of shape (n, {_SIDE}, {_SIDE}, 3), uint8; got {shape}, {kind}"
            )
        return shape

    def _labels(self, part: str, num_patches: int) -> NDArray[np.uint8]:
        path = self._path(part, "y.h5")
        try:
            with h5py.File(path, "r") as file:
                values = np.asarray(_dataset(file, "y", path)).reshape(-1)
        except _DAMAGE as error:
            raise _unreadable(path, "an HDF5 file", error) from error
        if len(values) != num_patches:
            raise DamagedFileError(f"{path}: expected {num_patches} labels, one per patch of {part}, got {len(values)}")
        wrong = np.flatnonzero((values != 0) & (values != 1))
        if len(wrong):
            raise DamagedFileError(f"{path}, row {wrong[0]}: expected the label 0 or 1, got {values[wrong[0]]}")
        return values.astype(np.uint8)

    def _slides(self, part: str, num_patches: int, known: Patients) -> list[str]:
        path = self._path(part, "meta.csv")
        slides = [known.add(place, values["wsi"]) for place, values in read_rows(path, ("wsi",))]
        if len(slides) != num_patches:
            raise DamagedFileError(f"{path}: expected {num_patches} rows, one per patch of {part}, got {len(slides)}")
        return slides


def _dataset(file: Any, name: str, path: Path) -> Any:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise DamagedFileError(f"{path}: expected a dataset {name!r} in the HDF5 file, got {list(file)}")
    return found


def _unreadable(path: Path, expected: str, error: Exception) -> DamagedFileError:
    return DamagedFileError(f"{path}: expected {expected}, got {type(error).__name__}: {error}{what_is(path)}")
