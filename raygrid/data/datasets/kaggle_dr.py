"""Kaggle Diabetic Retinopathy Detection (EyePACS): colour fundus photographs, two eyes per patient."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.damage import with_remedy
from raygrid.data.datasets.base import Index, Reject
from raygrid.data.datasets.label_files import (
    absent_paths,
    check_spec,
    file_sizes,
    read_rows,
    require_all,
    require_some_images,
    unusable_file,
)
from raygrid.data.images.crop import crop_field_of_view, crop_middle
from raygrid.data.images.decode import decode_image, image_size
from raygrid.data.images.intensity import resize_square
from raygrid.data.patients import Patients, declared_different
from raygrid.errors import DataError, SpecError
from raygrid.spec import DatasetSpec

_LABEL_FILES = {"train": "trainLabels.csv", "test": "retinopathy_solution.csv"}
_SUFFIXES = (".jpeg", ".jpg", ".png")  # the official files are .jpeg; shrunken copies come as the others
_NAME = re.compile(r"([0-9]+)_(left|right)")
_GRADES = ("0", "1", "2", "3", "4", "5")  # Kaggle grades 0 to 4; others add 5, advanced diabetic eye disease
_REFERABLE = 2  # moderate non-proliferative retinopathy, the grade from which a patient is referred
_MEANINGS = {"referable": f"diabetic retinopathy of grade {_REFERABLE} or more"}
_SOURCE = "www.kaggle.com/c/diabetic-retinopathy-detection"
_ADVICE = (
    f'Get "diabetic-retinopathy-detection" from Kaggle ({_SOURCE}), '
    "join and unpack the archives; docs/how-to/data-sets.md shows the layout."
)
_REMEDY = f"extract the file again from its archive, or download the archive again ({_SOURCE})"


class KaggleDR:
    """The data set in `data_root/kaggle_dr`: `train/`, `test/` and their two label files, merged.

    The division of the competition is not used (`part` is empty). The label `referable` is 1 from grade 2.

    Options:
        central_field: share of the field of view to keep, measured along its diameter; 1 if not given.
        different_patients: numbers of patients who differ although they look like one, such as `010` and `10`; True
            for all of them.

    Source: docs/explanation/protocol.md, Data.
    """

    title = "Kaggle Diabetic Retinopathy Detection"
    phantom = False
    published: tuple[int, int | None, int] | None = (88_702, None, 1)

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        check_spec(spec, channels=(3,), options=("central_field", "different_patients"))
        share = spec.options.get("central_field", 1.0)
        if not isinstance(share, (int, float)) or not 0.3 <= share <= 1:
            raise SpecError(f"kaggle_dr: central_field is {share!r}; expected a share from 0.3 to 1, such as 0.8")
        self._different = declared_different(spec.options)
        self._size, self._share = spec.image_size, float(share)
        self._root = data_root / "kaggle_dr"

    def missing(self) -> list[str]:
        """Return one line for each absent folder or label file, then where to get them."""
        paths = [self._root / name for part, labels in _LABEL_FILES.items() for name in (part, labels)]
        return absent_paths(paths, _ADVICE)

    def index(self) -> Index:
        """Return the table of all graded images of both parts.

        An image with an absent or empty file is a reject.

        Raises MissingDataError if a label file, a folder or every image is absent, DataError if a row has an invalid
        name or grade, or repeats an image, or two numbers of patients are one, such as `010` and `10`.
        """
        require_all(self.missing())
        patients = Patients(self._different, "the number of a patient in column 'image'")
        rows: dict[str, tuple[str, str, str, str, int]] = {}
        rejects: dict[str, str] = {}
        for part, label_file in _LABEL_FILES.items():
            files: dict[str, tuple[str, int | None]] = {}
            for found, num_bytes in file_sizes(self._root / part, _SUFFIXES).items():
                files.setdefault(Path(found).stem, (found, num_bytes))
            for place, values in read_rows(self._root / label_file, ("image", "level")):
                name = values["image"]
                number, grade = _parsed(place, name, values["level"])
                patient = patients.add(place, number)
                if name in rows or name in rejects:
                    raise DataError(
                        f"{place}: image {name!r} was graded before (in either part); expected once: remove one row"
                    )
                file, size = files.get(name, (f"{name}.jpeg", None))
                if reason := unusable_file(self._root / part / file, size, _REMEDY):
                    rejects[name] = reason
                    continue
                rows[name] = (patient, "", f"{part}/{file}", f"image file, {size} bytes", int(grade >= _REFERABLE))
        patients.check()
        unusable = [Reject(name, reason) for name, reason in rejects.items()]
        kept = require_some_images(unusable, len(rows) + len(unusable), self._root, _ADVICE)
        columns = ["patient_id", "part", "locator", "content", "referable"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("image_id").reset_index()
        table = table.astype({"referable": np.uint8})
        return Index(("referable",), table, kept, patients.notes(), _MEANINGS, different_patients=self._different)

    @with_remedy(_REMEDY)
    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return the field of view, cropped and padded to a square, uint8 (image_size, image_size, 3).

        An image whose field is uncertain is kept whole, with a SuspectImageWarning.

        Raises DataError if the file is unreadable.
        """
        path = self._root / locator
        field = crop_field_of_view(decode_image(path, 3), path)
        return resize_square(crop_middle(field, self._share), self._size)

    @with_remedy(_REMEDY)
    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels of the whole photograph. Raises DataError if the file is unreadable."""
        return image_size(self._root / locator)


def _parsed(place: str, name: str, grade: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{place}: expected an image name such as '10_left' or '10_right', got {name!r}; repair the row"
        )
    if grade not in _GRADES:
        raise DataError(f"{place}: expected a grade from 0 to 5 in column 'level', got {grade!r}; repair the row")
    return match[1], int(grade)
