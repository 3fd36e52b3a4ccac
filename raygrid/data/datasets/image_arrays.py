"""Checks of the arrays of an archive: images (n, height, width[, channels]) and the labels of each image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.data.datasets.npz import NpzHeader
from raygrid.errors import DataError, listed

_MOST_CLASSES = 1000
_MOST_SHOWN = 5
_WANTED = "of shape (n, height, width) or (n, height, width, 3), uint8"


def check_images(path: Path, name: str, header: NpzHeader) -> None:
    """Raise DataError, with the way to convert the array, unless it holds images that raygrid can read."""
    shape, dtype = header.shape, header.dtype
    remedy = _remedy_of_shape(shape) or _remedy_of_dtype(dtype)
    if remedy:
        raise DataError(f"{path}: expected {name} {_WANTED}; got {shape}, {dtype}: {remedy}")


def _remedy_of_shape(shape: tuple[int, ...]) -> str:
    """Return what such an array is and how to convert it; "" for images."""
    if 0 in shape:
        return "it holds no image; every part needs at least one, so divide the images again"
    match shape:
        case (_, _, 1 | 3 | 4):
            return "a single colour image; save an array of images, images[None]"
        case (_, _, _) | (_, _, _, 1 | 3):
            return ""
        case (_, _, _, 2 | 4):
            return "the last channel is transparency; drop it, images[..., :-1]"
        case (_, 1 | 3, _, _):
            return "the channels come first; move them to the end, numpy.moveaxis(images, 1, -1)"
        case (_, 2 | 4, _, _):
            return (
                "the channels come first, the last one is transparency; drop it and move the others to the end, "
                "numpy.moveaxis(images[:, :-1], 1, -1)"
            )
        case (_, _, _, _) | (_, _, _, _, _):
            return "volumes (the 3D sets of MedMNIST) are not supported; choose a 2D set, or save slices as images"
    return "another number of dimensions; save one array of images"


def _remedy_of_dtype(dtype: np.dtype[np.generic]) -> str:
    match dtype.kind:
        case "f":
            return "floats; convert values from 0 to 1 by numpy.rint(255 * images).astype(numpy.uint8)"
        case "b":
            return "true and false, such as a mask; save the images, or (255 * images).astype(numpy.uint8)"
        case "u" if dtype.itemsize == 1:
            return ""
        case "i" | "u":
            return "wider integers; scale the values to 0 to 255 and save them with .astype(numpy.uint8)"
    return "no numbers; save the pixels as uint8"


def label_table(path: Path, part: str, values: NDArray[Any], num_images: int) -> NDArray[np.int64]:
    """Return labels as whole numbers, (num_images, columns): one column of classes, or several of 0 and 1.

    Raises DataError, with the way to convert the array, if it has another length, shape or content.
    """
    place = f"{path}: expected {part}_labels of shape ({num_images}, k), whole numbers, one row per image; got"
    got = f"{values.shape}, {values.dtype}"
    if values.ndim not in (1, 2) or 0 in values.shape[1:]:
        remedy = "save one class per image, or a column of 0 and 1 per label"
        raise DataError(f"{place} {got}: labels of one image have {max(0, values.ndim - 1)} dimensions; {remedy}")
    if len(values) != num_images:
        raise DataError(
            f"{place} {got}: {part}_images has {num_images} images and {part}_labels {len(values)} rows; save as many "
            "labels as images, with the images along the first axis"
        )
    if values.dtype.kind not in "iub":
        raise DataError(f"{place} {got}: {_of_other_kind(values)}")
    given = values.reshape(num_images, -1)
    many = given.shape[1] > 1
    table = given if given.dtype.kind != "b" else given.astype(np.uint8)
    wrong = np.argwhere((table < 0) | (many & (table > 1)) | (table > _MOST_CLASSES))
    if len(wrong):
        row, column = wrong[0]
        expected = "0 or 1" if many else f"a class from 0 to {_MOST_CLASSES}"
        raise DataError(
            f"{path}, {part}_labels, row {row}: expected {expected}, got {table[row, column]}; number the classes "
            "0, 1, … and leave out images of unknown label"
        )
    return table.astype(np.int64)


def check_classes(path: Path, tables: Mapping[str, NDArray[np.int64]]) -> str:
    """Return a note on classes that no image has; "" if every class from 0 to the largest occurs.

    Raises DataError if the classes are not numbered from 0, or most of the numbers are no class.
    """
    found = {int(value) for table in tables.values() for value in np.unique(table)}
    absent = [value for value in range(max(found) + 1) if value not in found]
    if not absent or max(found) <= 1:
        return ""
    if 0 in absent or len(absent) > len(found):
        raise DataError(
            f"{path}: expected classes numbered 0, 1, … in the label arrays, got {_listed(found)}; number them by "
            "numpy.unique(labels, return_inverse=True)[1] over all parts, or set positive, the classes to count as 1"
        )
    return f"no image has the class {_listed(absent)}"


def is_one_hot(tables: Mapping[str, NDArray[np.int64]]) -> bool:
    """Whether each row of every table has exactly one 1 among several columns."""
    return all(table.shape[1] > 1 and bool((table.sum(axis=1) == 1).all()) for table in tables.values())


def _of_other_kind(values: NDArray[Any]) -> str:
    if values.dtype.kind == "f":
        numbers = values.astype(np.float64)
        if np.isnan(numbers).any():
            return "floats, of which some are not a number (NaN); leave these images out and save whole numbers"
        if np.array_equal(numbers, np.rint(numbers)):
            return "whole numbers stored as floats; save labels.astype(numpy.int64)"
        return "fractions, such as probabilities; save the class of each image as a whole number"
    if values.dtype.kind in "US":
        shown = listed([repr(value) for value in np.unique(values)[: _MOST_SHOWN + 1].tolist()])
        return f"text such as {shown}; number the classes 0, 1, …"
    return "no numbers; number the classes 0, 1, …"


def _listed(numbers: "set[int] | list[int]") -> str:
    return listed([str(number) for number in sorted(numbers)])
