"""Images with identical pixels under two patients or with contradictory labels, found among the prepared images.

A copied or linked file can stand under two patients, one of them for training and one for testing, or under two labels.
Names do not show this, the pixels do. Blank images, of one single grey level, are identical by nature and are left out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LISTING = "identical-images.csv"


@dataclass(frozen=True)
class IdenticalImages:
    """The images that are identical to an image of another patient, or to one with other labels.

    Attributes:
        table: one row per image, the identical ones together: `group` (from 1), `image_id`, `patient_id`, `place`, the
            label columns, `other_patient` and `other_labels` (whether an identical image has another patient, or other
            labels).
        notes: sentences for the user; first the test images that are also in development.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def contradictory(self) -> pd.DataFrame:
        """The rows whose labels an identical image contradicts."""
        return self.table[self.table["other_labels"]]


def pixel_digest(image: NDArray[np.uint8]) -> str:
    """Return 16 bytes, as 32 hexadecimal digits, that stand for the pixels of an image of any shape."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Return whether every pixel of an image, (height, width, channel), has the same value."""
    return bool((image == image[:1, :1]).all())


def identical_images(images: pd.DataFrame, labels: Sequence[str]) -> IdenticalImages:
    """Return the images with identical pixels that cannot all be right.

    Identical images of one patient with equal labels do no harm and are left out.

    Args:
        images: columns `image_id`, `patient_id`, `place` (`d1`, `d2` or `test`), `pixels` (digests) and the labels.
        labels: names of the label columns.
    """
    twins = images[images.duplicated("pixels", keep=False)]
    groups = twins.groupby("pixels")
    other_patient = groups["patient_id"].transform("nunique") > 1
    other_labels = pd.Series(False, index=twins.index)
    for label in labels:
        other_labels |= groups[label].transform("nunique") > 1
    twins = twins.assign(other_patient=other_patient, other_labels=other_labels)[other_patient | other_labels]
    across = twins.groupby("pixels")["place"].transform("nunique") > 1
    twins = twins.assign(across=across, group=twins["pixels"].map(_numbers(twins["pixels"])))
    twins = twins.sort_values(["group", "image_id"], ignore_index=True)
    notes = _notes(twins, int((images["place"] == "test").sum()))
    columns = ["group", "image_id", "patient_id", "place", *labels, "other_patient", "other_labels"]
    return IdenticalImages(twins[columns], notes)


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
            f"{len(wrong)} images have labels that an identical image contradicts; {_example(twins, wrong)}. Correct "
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
