"""Images with identical pixels under two patients or with contradictory labels, found among the prepared images.

A copied or linked file can stand under two patients, one of them for training and one for testing, or under two labels.
Names do not show this, the pixels do. Blank images, of one single grey level, are identical by nature and are left out.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LISTING = "identical-images.csv"


@dataclass(frozen=True)
class IdenticalImages:
    """The images that are identical to an image of another patient, or to one with other labels.

    Attributes:
        table: one row per image, the identical ones together: `group` (from 1), `image_id`, `patient_id`, `place`,
            `other_patient` and `other_labels` (whether an identical image has another patient, or other labels).
        labels: the labels of the same rows, one 0/1 column each.
        notes: sentences for the user; first the test images that are also in development.
    """

    table: pd.DataFrame
    labels: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def contradictory(self) -> pd.DataFrame:
        """The rows of `table` whose labels differ from those of an identical image."""
        return self.table[self.table["other_labels"]]

    def listing(self, rows: pd.DataFrame) -> str:
        """Return some rows of `table`, with their labels, as CSV."""
        return pd.concat([rows, self.labels.loc[rows.index]], axis=1).to_csv(index=False)


def pixel_digest(image: NDArray[np.uint8]) -> str:
    """Return 16 bytes, as 32 hexadecimal digits, that stand for the pixels of an image of any shape."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Return whether every pixel of an image, (height, width, channel), has the same value."""
    return bool((image == image[:1, :1]).all())


def identical_images(images: pd.DataFrame, labels: pd.DataFrame) -> IdenticalImages:
    """Return the images with identical pixels that cannot all be right.

    Identical images of one patient with equal labels do no harm and are left out.

    Args:
        images: columns `image_id`, `patient_id`, `place` (`d1`, `d2` or `test`) and `pixels` (digests).
        labels: the labels of the same rows, one 0/1 column each. A label can have any name, so it has a table of its
            own.
    """
    twins = images[images.duplicated("pixels", keep=False)]
    groups = twins.groupby("pixels")
    other_patient = groups["patient_id"].transform("nunique") > 1
    label_sets = labels.loc[twins.index].groupby(twins["pixels"]).transform("nunique")
    twins = twins.assign(
        across=groups["place"].transform("nunique") > 1,
        other_patient=other_patient,
        other_labels=(label_sets > 1).any(axis=1),
    )
    twins = twins[twins["other_patient"] | twins["other_labels"]]
    twins = twins.assign(group=twins["pixels"].map(_numbers(twins["pixels"]))).sort_values(["group", "image_id"])
    columns = ["group", "image_id", "patient_id", "place", "other_patient", "other_labels"]
    notes = _notes(twins, int((images["place"] == "test").sum()))
    return IdenticalImages(twins[columns], labels.loc[twins.index], notes)


def _numbers(pixels: "pd.Series[str]") -> dict[str, int]:
    """Return digest -> number of its group, in the order of the images."""
    return {digest: number for number, digest in enumerate(pixels.unique(), start=1)}


def _notes(twins: pd.DataFrame, num_test: int) -> tuple[str, ...]:
    notes = []
    in_development = set(twins["pixels"][twins["place"] != "test"])
    leaked = twins[(twins["place"] == "test") & twins["pixels"].isin(in_development)]
    if len(leaked):
        notes.append(
            f"{len(leaked)} of {num_test} test images are also in development, under another patient: models are "
            f"tested on images that they may have learned; {_example(twins, leaked)}"
        )
    shared = twins[twins["other_patient"]]
    if len(shared):
        notes.append(
            f"{len(shared)} images are identical to an image of another patient, {int(shared['across'].sum())} of them "
            f"across d1, d2 and test; {_example(twins, shared)}. If one person has two ids, write one; else remove the "
            "copies"
        )
    wrong = twins[twins["other_labels"]]
    if len(wrong):
        notes.append(
            f"{len(wrong)} images contradict the labels of an identical image; {_example(twins, wrong)}. Correct "
            "the labels"
        )
    return tuple(f"{note} (all are listed in {LISTING})" for note in notes)


def _example(twins: pd.DataFrame, concerned: pd.DataFrame) -> str:
    """Return the first image concerned and one identical to it, of another place, patient or label if there is one."""
    one = concerned.iloc[0]
    others = twins[(twins["pixels"] == one["pixels"]) & (twins["image_id"] != one["image_id"])]
    differs = (others["place"] != one["place"]) * 2 + (others["patient_id"] != one["patient_id"])
    other = others.loc[differs.idxmax()]
    first, second = (f"{row['image_id']!r} of patient {row['patient_id']!r} ({row['place']})" for row in (one, other))
    return f"the first are {first} and {second}"
