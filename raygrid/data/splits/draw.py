"""Splits drawn at random: test, d1 and d2, their training and validation parts, and the smaller splits.

The draw depends only on the seed, the ids of the patients and their labels, and splits hold whole patients. Each draw
sorts the patients by their findings, rarest finding first, and takes them at even distances. So every finding is
divided nearly in proportion, and the numbers of patients are exact. The order among equal findings and the starting
point are drawn anew, with another key, for each draw; otherwise "every second of every second" would always take the
same positions.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from raygrid.data.splits.rules import table_of_splits
from raygrid.errors import DataError, listed
from raygrid.hashing import keyed_seed
from raygrid.spec import SplitSpec


def assign_splits(table: pd.DataFrame, labels: tuple[str, ...], spec: SplitSpec, seed: int) -> pd.DataFrame:
    """Return the table of splits (`raygrid.data.splits.rules`) for the patients of an index table.

    If the number of development patients is odd, one is `unused`. The order of the rows and the number of images of a
    patient do not change the result. With few patients, d2_half or d1_tenth can have no training patients.

    Raises DataError if there are too few patients, a label is not 0 or 1, or `spec` asks for the official division and
    the data set has none or its parts overlap. Source: docs/explanation/protocol.md, Splits.
    """
    strata = strata_of(table, labels)
    test = official_test(table) if spec.test_fraction is None else _drawn_test(strata, spec.test_fraction, seed)
    development = [p for p in strata if p not in test]
    if not test or len(development) < 4:
        raise DataError(
            f"{len(strata)} patients give {len(test)} for testing and {len(development)} for development; "
            "expected at least 1 and 4: use more patients or change test_fraction"
        )
    groups = _divide(development, strata, spec.validation_fraction, seed)
    return table_of_splits(strata, test, groups)


def strata_of(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, int]:
    """Return patient -> rank of the patient's set of findings; neighbours in rank share their rarest findings.

    Raises DataError if an image has no patient or a label is not 0 or 1.
    """
    if table["patient_id"].isna().any():
        raise DataError(f"{int(table['patient_id'].isna().sum())} images have no patient id; expected one for each")
    values = table[list(labels)]
    if not values.isin([0, 1]).all(axis=None):
        raise DataError(f"the labels {list(labels)} must be 0 or 1 for every image; the index has other values")
    patients = values.astype(np.uint8).groupby(table["patient_id"].astype(str)).max()
    findings = patients.to_numpy()
    rarest_first = np.argsort(findings.sum(axis=0), kind="stable")
    _, ranks = np.unique(findings[:, rarest_first], axis=0, return_inverse=True)
    return dict(zip(patients.index, ranks.reshape(-1).tolist(), strict=True))


def official_test(table: pd.DataFrame) -> set[str]:
    """Return the test patients of the data set's official division.

    Raises DataError if an image has no official part or a patient is in both parts.
    """
    pairs = pd.DataFrame({"patient": table["patient_id"].astype(str), "part": table["part"]}).drop_duplicates()
    outside = pairs[~pairs["part"].isin(["development", "test"])]
    if len(outside):
        raise DataError(
            f"test_fraction is None, but {len(outside)} patients have no official part: "
            f"{listed(sorted(outside['patient']))}; set test_fraction for a data set without official division "
            "(with split files: name the file 'test')"
        )
    both = sorted(pairs["patient"][pairs["patient"].duplicated()])
    if both:
        raise DataError(
            f"{len(both)} patients are in both official parts, development and test: {listed(both)}; use the official "
            "lists unchanged, or set test_fraction to draw the test patients"
        )
    return set(pairs["patient"][pairs["part"] == "test"])


def draw_d2_half(train: set[str], validation: set[str], strata: Mapping[str, int], seed: int) -> set[str]:
    """Return half of d2's training patients and all of its validation patients."""
    return _select(train, strata, len(train) // 2, seed, "d2_half") | validation


def draw_d1_tenth(train: set[str], validation: set[str], strata: Mapping[str, int], seed: int) -> set[str]:
    """Return a tenth of d1's training patients and a tenth, but at least one, of its validation patients."""
    tenth = _select(train, strata, len(train) // 10, seed, "d1_tenth", "train")
    return tenth | _select(validation, strata, max(1, len(validation) // 10), seed, "d1_tenth", "validation")


def _drawn_test(strata: Mapping[str, int], fraction: float, seed: int) -> set[str]:
    return _select(list(strata), strata, round(fraction * len(strata)), seed, "test")


def _divide(
    development: Sequence[str], strata: Mapping[str, int], validation_fraction: float, seed: int
) -> dict[str, set[str]]:
    """Return the patients of d1, d2, validation (of both), d2_half and d1_tenth."""
    size = len(development) // 2
    num_validation = min(max(1, _floor(validation_fraction * size)), size - 1)
    unused = _select(development, strata, len(development) % 2, seed, "unused")
    usable = set(development) - unused
    d1 = _select(usable, strata, size, seed, "d1")
    d2 = usable - d1
    validation_1 = _select(d1, strata, num_validation, seed, "validation", "d1")
    validation_2 = _select(d2, strata, num_validation, seed, "validation", "d2")
    return {
        "d1": d1,
        "d2": d2,
        "validation": validation_1 | validation_2,
        "d2_half": draw_d2_half(d2 - validation_2, validation_2, strata, seed),
        "d1_tenth": draw_d1_tenth(d1 - validation_1, validation_1, strata, seed),
    }


def _select(patients: Collection[str], strata: Mapping[str, int], count: int, seed: int, *key: str) -> set[str]:
    """Return exactly `count` patients at even distances of the order (stratum, keyed hash), from a keyed start.

    In any run of neighbouring strata, the share of selected patients is the overall share, to within one patient.
    """
    num_patients = len(patients)
    order = sorted(patients, key=lambda p: (strata[p], keyed_seed(seed, *key, p), p))
    start = keyed_seed(seed, *key) % max(1, num_patients)
    taken = [(i * count + start) // max(1, num_patients) for i in range(num_patients + 1)]
    return {p for i, p in enumerate(order) if taken[i + 1] > taken[i]}


def _floor(value: float) -> int:
    return math.floor(value + 1e-9)  # 0.1 * 30 is 3.0000000000000004, 0.29 * 100 is 28.999999999999996
