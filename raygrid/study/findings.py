"""Doubtful images that the prepare stage finds: identical images under two patients or labels, and suspect images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raygrid.data.identical import LISTING, IdenticalImages, identical_images
from raygrid.errors import DataError
from raygrid.io.files import write_text
from raygrid.study.shards import BLANK

SUSPECTS = "suspect-images.csv"
_SHOWN = 5  # contradictions in an error message, kinds of observation on the terminal
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Findings:
    """The doubtful images of one modality.

    Attributes:
        identical: images with identical pixels that cannot all be right.
        suspects: columns `image_id` and `observation`, one row per observation.
        num_earlier: shards of an earlier version of raygrid, whose images were not compared.
    """

    identical: IdenticalImages
    suspects: pd.DataFrame
    num_earlier: int


def findings_of(
    table: pd.DataFrame, splits: pd.DataFrame, labels: Sequence[str], reports: Sequence[Mapping[str, Any]]
) -> Findings:
    """Return the doubtful images of a modality from the reports of its shards (`raygrid.study.shards`).

    Args:
        table: the rows of the index in development and test, with the label columns.
        splits: the table of splits.
        labels: names of the label columns.
    """
    pixels: dict[str, str] = {}
    suspects: list[Mapping[str, str]] = []
    for report in reports:
        pixels |= report.get("pixels", {})
        suspects += report.get("suspects", [])
    blank = {row["image_id"] for row in suspects if row["observation"] == BLANK}
    split = table["patient_id"].map(splits.set_index("patient_id")["split"])
    images = table[["image_id", "patient_id"]].assign(
        place=split.where(table["part"] == "development", "test"),
        pixels=table["image_id"].astype(str).map(pixels),
    )
    images = images[images["pixels"].notna() & ~images["image_id"].astype(str).isin(blank)]
    return Findings(
        identical_images(images, table.loc[images.index, list(labels)]),
        pd.DataFrame(suspects, columns=["image_id", "observation"]),
        sum("pixels" not in report for report in reports),
    )


def refuse_contradictions(modality: str, found: Findings, total: int, permitted: float, folder: Path) -> None:
    """Raise DataError if identical images contradict the labels of more than the share `permitted` of `total` images.

    The error counts these images and shows the first; a CSV file in `folder` lists all of them.
    """
    wrong = found.identical.contradictory
    if len(wrong) <= permitted * total:
        return
    listing = folder / f"{modality}-contradictions.csv"
    write_text(listing, found.identical.listing(wrong))
    groups = [rows for _, rows in wrong.groupby("group")][:_SHOWN]
    raise DataError(
        f"{modality}: {len(wrong)} of {total} images contradict the labels of an identical image, more than the "
        f"permitted {permitted:.1%}; all are listed in {listing}, the first are",
        *(f"  {_contradiction(rows, found.identical.labels.loc[rows.index])}" for rows in groups),
        "Correct the labels, or remove these images from the label files, or permit more with --max-rejected-share, "
        "and run again",
    )


def write_findings(found: Findings, folder: Path) -> tuple[str, ...]:
    """Write the lists of doubtful images to `folder` (none if there are no such images) and return notes about them."""
    notes = list(found.identical.notes)
    if len(found.identical.table):
        write_text(folder / LISTING, found.identical.listing(found.identical.table))
    if len(found.suspects):
        write_text(folder / SUSPECTS, found.suspects.to_csv(index=False))
        notes += _observations(found.suspects)
    if found.num_earlier:
        notes.append(
            f"{found.num_earlier} shards are from an earlier version of raygrid: their images were not compared with "
            f"others, and their files were checked less; delete {folder.name}/ to prepare them again"
        )
    return tuple(notes)


def _observations(suspects: pd.DataFrame) -> list[str]:
    """Return one sentence per kind of observation, the most frequent first; kinds differ in more than their numbers."""
    kinds = suspects.groupby(suspects["observation"].str.replace(_NUMBER, "#", regex=True), sort=False)
    ordered = sorted((rows for _, rows in kinds), key=len, reverse=True)
    notes = [
        f"{len(rows)} images are suspect: {rows['observation'].iloc[0]}; the first is {rows['image_id'].iloc[0]} "
        f"(all are listed in {SUSPECTS})"
        for rows in ordered[:_SHOWN]
    ]
    if len(ordered) > _SHOWN:
        rest = sum(map(len, ordered[_SHOWN:]))
        notes.append(f"{len(ordered) - _SHOWN} more observations, about {rest} images, are in {SUSPECTS}")
    return notes


def _contradiction(rows: pd.DataFrame, labels: pd.DataFrame) -> str:
    """Return one image of a group and the first that contradicts it, with the label in question."""
    label = next(name for name in labels.columns if labels[name].nunique() > 1)
    values = labels[label].to_numpy()
    texts = [
        f"{rows['image_id'].iloc[i]} of patient {rows['patient_id'].iloc[i]} has {label} {values[i]}"
        for i in (0, int((values != values[0]).argmax()))
    ]
    return ", the identical ".join(texts)
