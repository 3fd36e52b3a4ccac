"""A user's own images: a CSV or Parquet table of files, patients, labels and, optionally, parts."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.damage import with_remedy
from raygrid.data.datasets.base import Index, Reject
from raygrid.data.datasets.label_files import (
    absent_paths,
    check_labels,
    check_spec,
    leaves_folder,
    path_inside,
    read_rows,
    require_all,
    require_some_images,
    size_of,
    unusable_file,
)
from raygrid.data.datasets.label_values import read_label
from raygrid.data.datasets.nearest_files import NearestFiles
from raygrid.data.datasets.parquet_table import read_parquet_rows
from raygrid.data.images.crop import crop_field_of_view
from raygrid.data.images.decode import decode_image, image_size
from raygrid.data.images.intensity import Window, resize_square
from raygrid.data.patients import CONTROL, Patients, declared_different
from raygrid.errors import DataError, SpecError, unknown_name
from raygrid.hashing import Json
from raygrid.spec import DatasetSpec

_OPTIONS = (
    "table",
    "labels",
    "image_column",
    "patient_column",
    "split_column",
    "different_patients",
    "crop",
    "window",
    "title",
)
_PARTS = {
    "development": "development",
    "train": "development",
    "val": "development",
    "validation": "development",
    "test": "test",
}
_CROPS = ("field_of_view",)
_ADVICE = "Paths in the table are relative to the table's folder; docs/how-to/own-images.md shows the layout."
_REMEDY = "copy or export the file again"
_MOST_HINTS = 1_000  # absent images whose nearest file is named


class TableDataset:
    """The images of a table, one row each.

    Options:
        table: CSV (UTF-8, commas) or Parquet file, relative to the data root; image paths are relative to its folder.
        labels: names of the 0/1 columns, in the order of the model's outputs.
        image_column, patient_column: names of these columns, `image` and `patient` if not given.
        split_column: name of the column with the official division, development (or train, val, validation) or test
            in every row; if not given, `split` where the table has it. None ignores such a column.
        different_patients: ids that are persons of their own although they look like another id (`00012` and `12`) or
            like a placeholder (`NA`); True for all ids that look like another.
        crop: `field_of_view` cuts off the dark border of fundus photographs.
        window: [low, high], grey intensities that become black and white (rescaled units for DICOM).
        title: name of the data in reports; the table's file name if not given.
    """

    phantom = False
    published: tuple[int, int | None, int] | None = None

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        check_spec(spec, channels=(1, 3), options=_OPTIONS)
        options = spec.options
        self._path = path_inside(data_root, "table", options.get("table"))
        if self._path.suffix.lower() not in (".csv", ".parquet"):
            raise SpecError(
                f"option table is {options['table']!r}; expected a file that ends in .csv or .parquet; "
                "unpack it, or save it as CSV UTF-8 with commas"
            )
        self._labels = check_labels(options.get("labels"))
        self._image = _text(options, "image_column", "image")
        self._patient = _text(options, "patient_column", "patient")
        self._columns = (self._image, self._patient, *self._labels)
        self._split = _text(options, "split_column", "split") if options.get("split_column", "split") else ""
        if len({*self._columns, self._split}) < len(self._columns) + 1:
            raise SpecError(f"the columns {[*self._columns, self._split]} hold one name twice; expected each once")
        self._different = declared_different(options)
        self._split_is_named = bool(self._split) and "split_column" in options
        self._crops = _crops(options, spec.channels)
        self._window = _window(options)
        self._channels, self._size = spec.channels, spec.image_size
        self.title = _text(options, "title", self._path.stem)

    def missing(self) -> list[str]:
        """Return a line if the table is absent."""
        return absent_paths([self._path], "Option `table` is relative to the data root; see docs/how-to/own-images.md.")

    def index(self) -> Index:
        """Return the table of all images; an image with an absent or empty file is a reject.

        Raises MissingDataError if the table or every image is absent, DataError (with file and row) if a column is
        absent, a value is invalid, an image occurs twice or two patient ids are spellings of one person.
        """
        require_all(self.missing())
        patients = Patients(self._different, f"a patient in column {self._patient!r}")
        first_place: dict[str, str] = {}
        rows: list[tuple[str | int, ...]] = []
        rejects: list[Reject] = []
        files = NearestFiles(self._path.parent)
        for place, values in self._rows():
            image = _image_id(place, self._image, values[self._image], files)
            patient = patients.add(place, values[self._patient])
            row = self._parsed(place, values)
            if image in first_place:
                raise DataError(f"{place}: image {image!r} is already in {first_place[image]}; remove one row")
            first_place[image] = place
            size = size_of(self._path.parent / image)
            if reason := unusable_file(self._path.parent / image, size, _REMEDY):
                near = files.sentence(image) if size is None and len(rejects) < _MOST_HINTS else ""
                rejects.append(Reject(image, f"{reason} ({place}{'; ' * bool(near)}{near})"))
            else:
                rows.append((image, image, f"image file, {size} bytes", patient, *row))
        if not first_place:
            raise DataError(f"{self._path}: expected a row for each image, got only a header; add rows")
        patients.check()
        near = files.sentence(rejects[0].image_id) if len(rejects) == len(first_place) else ""
        advice = f"{_ADVICE} For {rejects[0].image_id}, {near}." if near else _ADVICE
        kept = require_some_images(rejects, len(first_place), self._path.parent, advice)
        columns = ["image_id", "locator", "content", "patient_id", "part", *self._labels]
        table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(self._labels, np.uint8))
        return Index(self._labels, table, kept, patients.notes(), different_patients=self._different)

    @with_remedy(_REMEDY)
    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one image, uint8 (image_size, image_size, channels). Raises DataError if the file is unreadable."""
        path = self._path.parent / locator
        size = None if self._crops else self._size
        image = decode_image(path, self._channels, size=size, upright=True, window=self._window)
        return resize_square(crop_field_of_view(image, path), self._size) if self._crops else image

    @with_remedy(_REMEDY)
    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels, upright and uncropped. Raises DataError if the file is unreadable."""
        return image_size(self._path.parent / locator, upright=True)

    def _rows(self) -> Iterator[tuple[str, dict[str, str]]]:
        split = (self._split,) if self._split else ()
        required = (*self._columns, *split) if self._split_is_named else self._columns
        if self._path.suffix.lower() == ".csv":
            return read_rows(self._path, required, split, exact=True)
        return read_parquet_rows(self._path, required, split)

    def _parsed(self, place: str, values: Mapping[str, str]) -> tuple[str | int, ...]:
        """Return part and labels of one row. Raises DataError if one of them is invalid."""
        part = ""
        if self._split and self._split in values:
            given = values[self._split]
            if given.lower() not in _PARTS:
                raise DataError(
                    f"{place}: column {self._split!r}: {unknown_name('part', given, _PARTS)}; "
                    "repair the row, or ignore the column with split_column=None"
                )
            part = _PARTS[given.lower()]
        return (part, *(read_label(place, name, values[name]) for name in self._labels))


def _image_id(place: str, column: str, path: str, files: NearestFiles) -> str:
    """Return the path in its shortest form: one id per file.

    Raises DataError if it could leave the folder or has control characters.
    """
    if not path or leaves_folder(path) or CONTROL.search(path):
        near = files.nearest(path)
        remedy = f"write {near!r}" if near else "move the images there and repair the row"
        raise DataError(
            f"{place}: expected a path relative to the table's folder in column {column!r}, with / and without .., "
            f"got {path!r}; {remedy}"
        )
    return PurePosixPath(path).as_posix()


def _text(options: Mapping[str, Json], name: str, default: str) -> str:
    value = options.get(name, default)
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"option {name} is {value!r}; expected a text such as {default!r}")
    return value


def _crops(options: Mapping[str, Json], channels: int) -> bool:
    crop = options.get("crop")
    if crop is not None and crop not in _CROPS:
        raise SpecError(unknown_name("crop", str(crop), _CROPS))
    if crop is not None and channels != 3:
        raise SpecError(f"option crop is {crop!r}, made for colour photographs; set channels=3, got {channels}")
    return crop is not None


def _window(options: Mapping[str, Json]) -> Window | None:
    window = options.get("window")
    if window is None:
        return None
    match window:
        case [int() | float() as low, int() | float() as high] if (
            low < high and not {type(low), type(high)} & {bool} and math.isfinite(high - low)
        ):
            return (float(low), float(high))
    raise SpecError(f"option window is {window!r}; expected two intensities [low, high], low below high")
