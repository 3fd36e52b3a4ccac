"""The interface of a data set: a table of its images, and methods that read one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.patients import Declared, Patients
from raygrid.errors import DataError
from raygrid.hashing import digest

_CONTROL = "[\x00-\x1f\x7f-\x9f]"
INDEX_COLUMNS = ("image_id", "patient_id", "part", "locator", "content")


@dataclass(frozen=True)
class Reject:
    """An image that cannot be used; `reason` names the file or row, the expected content and a remedy."""

    image_id: str
    reason: str

    def __str__(self) -> str:
        """Return one line for a message: the reason, after the image id unless the path in the reason has it."""
        path = self.reason.partition(": ")[0]
        return self.reason if self.image_id in path else f"{self.image_id}: {self.reason}"


@dataclass(frozen=True)
class Index:
    """All images of a data set, one row each, before any image is read.

    Attributes:
        labels: names of the label columns, in the order of the models' outputs.
        table: columns `image_id` (unique), `patient_id`, `part` (`development` or `test` by the official division,
            empty without one), `locator` (the argument of `Dataset.read`), `content` (stands for the image's bytes in
            the fingerprint: size, checksum or generator version) and one 0/1 column of dtype uint8 per label.
        rejects: images of the label files that are not in `table`, such as those with an absent or empty file; they
            count towards the permitted share of rejects.
        notes: sentences for the user, such as "each patch counts as its own patient"; printed, and written to the
            manifest.
        meanings: label -> what a 1 stands for, where the loader knows more than the label's name says. Reports show it;
            it is not part of the fingerprint.
        different_patients: ids that only look like another id or like a placeholder
            (`raygrid.data.patients.declared_different`).

    Raises DataError if a column is absent, an image id is not unique, an id has control characters, two patient ids are
    spellings of one person, or one is a placeholder such as `nan`. The splits of an index therefore divide persons.
    """

    labels: tuple[str, ...]
    table: pd.DataFrame
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    different_patients: Declared = ()

    def __post_init__(self) -> None:
        absent = [name for name in (*INDEX_COLUMNS, *self.labels) if name not in self.table.columns]
        if absent:
            raise DataError(f"expected the columns {absent} in the index, got {list(self.table.columns)}; add them")
        repeated = self.table["image_id"][self.table["image_id"].duplicated()]
        if len(repeated):
            raise DataError(
                f"expected unique image ids in the index, got {len(repeated)} twice, the first is "
                f"{repeated.iloc[0]!r}; rename or remove them"
            )
        for column in ("image_id", "patient_id"):
            wrong = self.table[column].astype(str)
            wrong = wrong[wrong.str.contains(_CONTROL, regex=True)]
            if len(wrong):  # splits.csv would not keep them
                raise DataError(
                    f"{len(wrong)} rows of the index have control characters in {column}, the first is "
                    f"{wrong.iloc[0]!r}; expected text of one line: remove these characters"
                )
        self._check_persons()

    def _check_persons(self) -> None:
        """Check the patient ids, whatever loader gave them; a loader that checks its rows gives better places."""
        if self.table["patient_id"].equals(self.table["image_id"]):
            return  # no patients are known, and each image, whose id is unique, counts as one
        first = self.table[["image_id", "patient_id"]].drop_duplicates("patient_id")
        ids = set(map(str, first["patient_id"]))
        declared = self.different_patients
        patients = Patients(declared if declared is True else tuple(n for n in declared or () if n in ids))
        for image, patient in zip(first["image_id"], first["patient_id"], strict=True):
            patients.add(f"image {image!r} of the index", str(patient))
        patients.check()

    def fingerprint(self) -> str:
        """Return a hash of every row (ids, patients, parts, labels, content), independent of row order."""
        columns = [c for c in (*INDEX_COLUMNS, *self.labels) if c != "locator"]
        ordered = self.table.sort_values("image_id")[columns]
        rows = pd.util.hash_pandas_object(ordered, index=False).to_numpy()
        return digest({"labels": list(self.labels), "rows": rows.tobytes().hex()})


class Dataset(Protocol):
    """One raw data set on disk, or a generator of phantoms.

    Attributes:
        title: its name in reports.
        phantom: whether the images are generated; if so, every table and figure made from it has a notice.
        published: (images, official test images or None, outputs) of the whole data set, to plan a study before it is
            downloaded; None where these are unknown.
    """

    title: str
    phantom: bool
    published: tuple[int, int | None, int] | None

    def missing(self) -> list[str]:
        """Return one line for each absent file, empty if all are there."""
        ...

    def index(self) -> Index:
        """Return the table of all images. Raises DataError if a label file cannot be used."""
        ...

    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one prepared image, uint8 (height, width, channel). Raises DataError if the file is unreadable."""
        ...

    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels of the original image; fast, from the file's header.

        Raises DataError if the header is unreadable.
        """
        ...
