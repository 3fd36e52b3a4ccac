"""MedMNIST: standard small sets of medical images, one `.npz` archive each, at several image sizes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.damage import with_remedy
from raygrid.data.datasets.base import Index
from raygrid.data.datasets.image_arrays import check_images, label_table
from raygrid.data.datasets.label_files import absent_paths, check_labels, check_spec, path_inside, require_all
from raygrid.data.datasets.label_tasks import task_of
from raygrid.data.datasets.npz import NpzHeader, read_npz_array, read_npz_header, read_npz_names, read_npz_row
from raygrid.data.images.intensity import resize_square, with_channels
from raygrid.errors import DataError, SpecError, listed
from raygrid.hashing import Json
from raygrid.spec import DatasetSpec

_PARTS = {"train": "development", "val": "development", "test": "test"}
_ADVICE = "Get the .npz files of MedMNIST from Zenodo (medmnist.com); docs/how-to/data-sets.md shows the layout."

_REMEDY = "download the archive again (medmnist.com)"


class MedMnist:
    """One archive in `data_root/medmnist`, divided as published; train and val are the development part.

    A task of two classes has one label, which is 1 for class 1. Several 0/1 columns are one label each, and k classes
    are k labels, one against the rest. A note says what the labels mean, where the archive is one of MedMNIST's.

    Options:
        file: the archive, such as `pneumoniamnist_224.npz`.
        positive: classes to count as 1; the task then has one label.
        labels: names of the labels; if not given, `class_1` for two classes, `class_0`, `class_1`, ... for more,
            `label_0`, `label_1`, ... for columns, and `positive` with the option positive.
    """

    phantom = False
    published: tuple[int, int | None, int] | None = None

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        check_spec(spec, channels=(1, 3), options=("file", "labels", "positive"))
        self._path = path_inside(data_root / "medmnist", "file", spec.options.get("file"))
        self._names = check_labels(spec.options["labels"]) if "labels" in spec.options else ()
        self._positive = _positive(spec.options)
        self._channels, self._size = spec.channels, spec.image_size
        self._checked: set[str] = set()
        self.title = f"MedMNIST, {self._path.stem}"

    def missing(self) -> list[str]:
        """Return a line if the archive is absent, then where to get it."""
        return absent_paths([self._path], _ADVICE)

    @with_remedy(_REMEDY)
    def index(self) -> Index:
        """Return the table of all images, each its own patient.

        Raises MissingDataError if the archive is absent, DataError if it is damaged, holds anything but flat 8-bit
        images, or has labels that are neither classes nor 0/1 columns, SpecError if the options do not fit its labels.
        """
        require_all(self.missing())
        self._require_arrays()
        headers = {part: self._images(part) for part in _PARTS}
        labels = {part: self._labels(part, headers[part].shape[0]) for part in _PARTS}
        task = task_of(self._path, labels, self._names, self._positive)
        tables = [_table(part, headers[part], task.names, task.columns[part]) for part in _PARTS]
        note = (
            f"{self.title}: the archive names no patients, so each image counts as its own; images of one patient can "
            "be in both d1 and d2"
        )
        notes = (note, *(f"{self.title}: {sentence}" for sentence in task.notes))
        return Index(task.names, pd.concat(tables, ignore_index=True), notes=notes, meanings=task.meanings)

    @with_remedy(_REMEDY)
    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one image, uint8 (image_size, image_size, channels). Raises DataError if the archive is damaged."""
        part, number = locator.split("/")
        if part not in self._checked:  # a process reads many images of a part
            self._images(part)
            self._checked.add(part)
        return resize_square(
            with_channels(read_npz_row(self._path, f"{part}_images", int(number)), self._channels), self._size
        )

    @with_remedy(_REMEDY)
    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels of the images of a part. Raises DataError if the archive is damaged."""
        _, height, width = self._images(locator.split("/")[0]).shape[:3]
        return (height, width)

    def _require_arrays(self) -> None:
        """Raise DataError if the archive lacks an array."""
        held = read_npz_names(self._path)
        absent = [name for part in _PARTS for name in (f"{part}_images", f"{part}_labels") if name not in held]
        if absent:
            raise DataError(
                f"{self._path}: expected an array {absent[0]!r}, got {held or 'an empty archive'}; lacking "
                f"{listed(absent, len(absent))}; {_REMEDY}, or save the images and labels of train, val and test in it"
            )

    def _images(self, part: str) -> NpzHeader:
        header = read_npz_header(self._path, f"{part}_images")
        check_images(self._path, f"{part}_images", header)
        return header

    def _labels(self, part: str, num_images: int) -> NDArray[np.int64]:
        return label_table(self._path, part, read_npz_array(self._path, f"{part}_labels"), num_images)


def _positive(options: Mapping[str, Json]) -> tuple[int, ...]:
    classes = options.get("positive", ())
    numbers = tuple(c for c in classes if type(c) is int and c >= 0) if isinstance(classes, (list, tuple)) else ()
    if "positive" in options and (not numbers or len(numbers) < len(options["positive"])):  # type: ignore[arg-type]
        raise SpecError(f"option positive is {classes!r}; expected a list of classes such as [2, 3, 4]")
    return numbers


def _table(part: str, header: NpzHeader, names: tuple[str, ...], columns: NDArray[np.int64]) -> pd.DataFrame:
    ids = [f"{part}-{i:06d}" for i in range(header.shape[0])]
    table = {
        "image_id": ids,
        "patient_id": ids,
        "part": _PARTS[part],
        "locator": [f"{part}/{i}" for i in range(header.shape[0])],
        "content": f"array of shape {header.shape}, checksum {header.crc:08x}",
    }
    return pd.DataFrame(table | {name: columns[:, i].astype(np.uint8) for i, name in enumerate(names)})
