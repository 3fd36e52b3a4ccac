"""What every data set gives: a table of its images, and a way to read one of them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.errors import DataError
from raygrid.hashing import digest

PARTS = ("development", "test", "")
_CONTROL = "[\x00-\x1f\x7f-\x9f]"
INDEX_COLUMNS = ("image_id", "patient_id", "part", "locator", "content")


@dataclass(frozen=True)
class Reject:
    """An image that cannot be used, and why: file or row, what was expected, how to mend it."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class Index:
    """All images of a data set, one row each, before anything is read.

    `table` has the columns `image_id` (unique), `patient_id`, `part` (`development` or `test` where the
    data set comes with an official division, else empty), `locator` (what `Dataset.read` needs to find the
    image), `content` (what stands for the image's bytes in the fingerprint: size, checksum or generator
    version) and one 0/1 column of dtype uint8 per name in `labels`.

    `rejects` are images that the label files name and that cannot stand in `table` (a file that is absent or empty,
    a row that contradicts another); they count towards the permitted share of rejects. `notes` are sentences that
    the user must read, such as patches that each count as a patient; they are printed and written to the manifest.
    """

    labels: tuple[str, ...]
    table: pd.DataFrame
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        absent = [name for name in (*INDEX_COLUMNS, *self.labels) if name not in self.table.columns]
        if absent:
            raise DataError(f"the index lacks the columns {absent}; it has {list(self.table.columns)}")
        repeated = self.table["image_id"][self.table["image_id"].duplicated()]
        if len(repeated):
            raise DataError(f"{len(repeated)} image ids stand in the index twice, the first is {repeated.iloc[0]!r}")

        for column in ("image_id", "patient_id"):
            wrong = self.table[column].astype(str)
            wrong = wrong[wrong.str.contains(_CONTROL, regex=True)]
            if len(wrong):  # they would not survive splits.csv
                raise DataError(
                    f"{len(wrong)} rows of the index have control characters in {column}, the first is "
                    f"{wrong.iloc[0]!r}; expected text of one line: repair them"
                )

    def fingerprint(self) -> str:
        """Return a hash of every row (ids, patients, parts, labels, content), independent of row order."""
        columns = [c for c in (*INDEX_COLUMNS, *self.labels) if c != "locator"]
        ordered = self.table.sort_values("image_id")[columns]
        rows = pd.util.hash_pandas_object(ordered, index=False).to_numpy()
        return digest({"labels": list(self.labels), "rows": rows.tobytes().hex()})


class Dataset(Protocol):
    """One raw data set on disk, or a generator of phantoms.

    Attributes:
        title: what a report calls it.
        phantom: true if the images are generated; every table and figure made from it says so.
        published: (images, official test images or None, outputs) of the whole data set, to plan a study before it is
            there; None where that cannot be known.
    """

    title: str
    phantom: bool
    published: tuple[int, int | None, int] | None

    def missing(self) -> list[str]:
        """Return one line for each file that was looked for and not found, empty if all are there."""
        ...

    def index(self) -> Index:
        """Return the table of all images. Raises DataError for label files that cannot be used."""
        ...

    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one prepared image, uint8 (height, width, channel). Raises DataError if it is unreadable."""
        ...

    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels of the image as the data set holds it; cheap, from the file's header.

        Raises DataError if the header is unreadable.
        """
        ...
