"""MedMNIST: standard small sets of medical images, one `.npz` archive each, at several image sizes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.damage import DamagedFileError, with_remedy
from raygrid.data.datasets.base import Index
from raygrid.data.datasets.label_files import absent_paths, check_labels, check_spec, path_inside, require_all
from raygrid.data.datasets.npz import NpzHeader, read_npz_array, read_npz_header, read_npz_row
from raygrid.data.images.intensity import resize_square, with_channels
from raygrid.errors import DataError, SpecError
from raygrid.hashing import Json
from raygrid.spec import DatasetSpec

_PARTS = {"train": "development", "val": "development", "test": "test"}
_ADVICE = "Get the .npz files of MedMNIST from Zenodo (medmnist.com); docs/how-to/data-sets.md shows the layout."

_REMEDY = "download the archive again (medmnist.com)"

Labels = dict[str, NDArray[np.int64]]  # part -> (n, columns)


class MedMnist:
    """One archive in `data_root/medmnist`, divided as published; train and val are the development part.

    A task of two classes has one label. Several 0/1 columns are one label each, and k classes are k labels, one
    against the rest.

    Options:
        file: the archive, such as `pneumoniamnist_224.npz`.
        positive: classes to count as 1; the task then has one label.
        labels: names of the labels; `positive`, `label_0`, ... or `class_0`, ... if not given.
    """

    phantom = False
    published: tuple[int, int | None, int] | None = None

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        check_spec(spec, channels=(1, 3), options=("file", "labels", "positive"))
        self._path = path_inside(data_root / "medmnist", "file", spec.options.get("file"))
        self._names = check_labels(spec.options["labels"]) if "labels" in spec.options else ()
        self._positive = _positive(spec.options)
        self._channels, self._size = spec.channels, spec.image_size
        self.title = f"MedMNIST, {self._path.stem}"

    def missing(self) -> list[str]:
        """Return a line if the archive is absent, then where to get it."""
        return absent_paths([self._path], _ADVICE)

    @with_remedy(_REMEDY)
    def index(self) -> Index:
        """Return the table of all images, each its own patient.

        Raises MissingDataError if the archive is absent, DataError if it is damaged, holds volumes, or has labels
        that are neither classes nor 0/1 columns, SpecError if the options do not fit its labels.
        """
        require_all(self.missing())
        headers = {part: self._images(part) for part in _PARTS}
        names, columns = self._tasks({part: self._labels(part, headers[part].shape[0]) for part in _PARTS})
        tables = [_table(part, headers[part], names, columns[part]) for part in _PARTS]
        note = (
            f"{self.title}: the archive names no patients, so each image counts as its own; images of one patient can "
            "be in both d1 and d2"
        )
        return Index(names, pd.concat(tables, ignore_index=True), notes=(note,))

    @with_remedy(_REMEDY)
    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one image, uint8 (image_size, image_size, channels). Raises DataError if the archive is damaged."""
        part, number = locator.split("/")
        return resize_square(
            with_channels(read_npz_row(self._path, f"{part}_images", int(number)), self._channels), self._size
        )

    @with_remedy(_REMEDY)
    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels of the images of a part. Raises DataError if the archive is damaged."""
        _, height, width = self._images(locator.split("/")[0]).shape[:3]
        return (height, width)

    def _images(self, part: str) -> NpzHeader:
        header = read_npz_header(self._path, f"{part}_images")
        shape = header.shape
        if len(shape) == 5 or (len(shape) == 4 and shape[3] not in (1, 3)):
            raise DataError(
                f"{self._path}: expected flat images, got {part}_images of shape {shape}: volumes (the 3D sets of "
                "MedMNIST) are not supported; choose a 2D set"
            )
        if len(shape) not in (3, 4) or header.dtype != np.uint8 or 0 in shape:
            raise DamagedFileError(
                f"{self._path}: expected {part}_images of shape (n, height, width) or (n, height, width, 3), uint8; "
                f"got {shape}, {header.dtype}"
            )
        return header

    def _labels(self, part: str, num_images: int) -> NDArray[np.int64]:
        values = read_npz_array(self._path, f"{part}_labels")
        if values.ndim not in (1, 2) or len(values) != num_images or values.dtype.kind not in "iub" or not values.size:
            raise DamagedFileError(
                f"{self._path}: expected {part}_labels of shape ({num_images}, k), whole numbers, one row per image; "
                f"got {values.shape}, {values.dtype}"
            )
        table = values.astype(np.int64).reshape(num_images, -1)
        many = table.shape[1] > 1
        wrong = np.argwhere((table < 0) | (many & (table > 1)) | (table > 1000))
        if len(wrong):
            row, column = wrong[0]
            expected = "0 or 1" if many else "a class from 0 to 1000"
            raise DamagedFileError(
                f"{self._path}, {part}_labels, row {row}: expected {expected}, got {table[row, column]}"
            )
        return table

    def _tasks(self, labels: Labels) -> tuple[tuple[str, ...], Labels]:
        """Return the names of the outputs and, per part, the 0/1 columns (n, outputs)."""
        widths = {table.shape[1] for table in labels.values()}
        if len(widths) > 1:
            raise DamagedFileError(
                f"{self._path}: expected the same number of label columns in every part, got {sorted(widths)}"
            )
        num_columns = widths.pop()
        num_classes = 1 + max(int(table.max()) for table in labels.values())
        if num_columns > 1:
            if self._positive:
                raise SpecError(f"option positive needs a task of classes; {self._path.name} has {num_columns} labels")
            return self._named("label", num_columns), labels
        if self._positive:
            self._check_positive(num_classes)
            return self._named("", 1), {p: np.isin(t, self._positive).astype(np.int64) for p, t in labels.items()}
        if num_classes <= 2:
            return self._named("", 1), labels
        classes = np.arange(num_classes)
        return self._named("class", num_classes), {p: (t == classes).astype(np.int64) for p, t in labels.items()}

    def _named(self, kind: str, count: int) -> tuple[str, ...]:
        if self._names and len(self._names) != count:
            raise SpecError(f"option labels has {len(self._names)} names; {self._path.name} gives {count} label(s)")
        return self._names or (tuple(f"{kind}_{i}" for i in range(count)) if kind else ("positive",))

    def _check_positive(self, num_classes: int) -> None:
        if max(self._positive) >= num_classes or len(set(self._positive)) >= num_classes:
            raise SpecError(
                f"option positive is {list(self._positive)}; expected some, not all, of the classes 0 to "
                f"{num_classes - 1} of {self._path.name}"
            )


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
