"""Which patients a model may see: test, d1 and d2, their training and validation parts, and the smaller splits.

Everything is decided per patient, by the seed, the patients' ids and their labels alone. At each level patients are
ordered by their findings, rarest finding first, and taken at even distances: each finding is shared out nearly in
proportion, and the numbers of patients are exact. The order among equal findings and the starting point are drawn
anew, under another key, at each level; else "every second of every second" would always fall on the same places.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from raygrid.errors import DataError, SpecError, listed, unknown_name
from raygrid.hashing import keyed_seed
from raygrid.spec import SPLITS, SplitSpec

COLUMNS = ("patient_id", "part", "split", "role", "in_d2_half", "in_d1_tenth")
ROLES = ("train", "validation")
_PLACES = {  # every (part, split, role) that a patient may have
    ("test", "", ""),
    ("unused", "", ""),
    *(("development", split, role) for split in ("d1", "d2") for role in ROLES),
}


def assign_splits(table: pd.DataFrame, labels: tuple[str, ...], spec: SplitSpec, seed: int) -> pd.DataFrame:
    """Return where each patient of an index table stands, one row per patient, sorted by `patient_id`.

    Columns: `patient_id`, `part` (development, test, unused), `split` (d1, d2 or empty), `role` (train, validation
    or empty), `in_d2_half`, `in_d1_tenth` (bool). An odd development patient is `unused`. The order of rows and the
    number of images of a patient change nothing. With few patients d2_half or d1_tenth can lack training patients.

    Raises DataError if there are too few patients, a label is not 0 or 1, or the official division is asked for and
    absent or overlapping. Source: docs/explanation/protocol.md, Splits.
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


def table_of_splits(patients: Collection[str], test: Collection[str], groups: Mapping[str, set[str]]) -> pd.DataFrame:
    """Return the checked table of `assign_splits` for patients whose places are known.

    `groups` gives the patients of `d1`, `d2`, `validation` (of both), `d2_half` and `d1_tenth`; who is in none and
    not in `test` is unused. Raises DataError as `check_splits` does.
    """
    splits = pd.DataFrame([_row(p, test, groups) for p in sorted(patients)], columns=list(COLUMNS))
    check_splits(splits)
    return splits


def members(splits: pd.DataFrame, split: str, role: str) -> list[str]:
    """Return the patient ids, sorted, of one role (`train`, `validation`) of a split named in `spec.SPLITS`.

    `development` is d1 and d2 together. The list can be empty (a tenth of fewer than ten patients).
    Raises SpecError for an unknown split or role.
    """
    if split not in SPLITS:
        raise SpecError(unknown_name("split", split, SPLITS))
    if role not in ROLES:
        raise SpecError(unknown_name("role", role, ROLES))
    inside = {
        "d1": splits["split"] == "d1",
        "d2": splits["split"] == "d2",
        "d2_half": splits["in_d2_half"],
        "d1_tenth": splits["in_d1_tenth"],
        "development": splits["part"] == "development",
    }[split]
    return sorted(splits["patient_id"][inside & (splits["role"] == role)])


def test_patients(splits: pd.DataFrame) -> list[str]:
    """Return the ids of the test patients, sorted."""
    return sorted(splits["patient_id"][splits["part"] == "test"])


def check_splits(splits: pd.DataFrame) -> None:
    """Return nothing if a table of splits keeps every rule of `assign_splits`; else raise DataError naming patients.

    No patient twice (in two of d1, d2, test, or in training and validation) and none of these empty; d1 and d2 equal
    in patients and in validation patients; d2_half = half of d2's training patients and all of its validation patients;
    d1_tenth = a tenth of d1's training patients and a tenth, at least one, of its validation patients; rounded down.
    """
    absent = [name for name in COLUMNS if name not in splits.columns]
    if absent:
        raise DataError(f"splits: expected the columns {list(COLUMNS)}, lacking {absent}")
    ids, split, role = splits["patient_id"], splits["split"], splits["role"]
    places = pd.Series(list(zip(splits["part"], split, role, strict=True)), index=splits.index, dtype=object)
    twice = splits[ids.duplicated(keep=False)]
    if len(twice):
        stand = [f"{row.patient_id} in {row.part} {row.split} {row.role}".rstrip() for row in twice.itertuples()]
        raise DataError(
            f"splits: {twice['patient_id'].nunique()} patients stand twice: {listed(stand)}; expected one row each"
        )
    _refuse(
        ids[~places.isin(list(_PLACES))],
        f"have a part, split and role that do not go together, not of {sorted(_PLACES)}",
    )
    _refuse(ids[splits["in_d2_half"] & (split != "d2")], "are in d2_half but not in d2")
    _refuse(ids[(split == "d2") & (role == "validation") & ~splits["in_d2_half"]], "validate d2 but not d2_half")
    _refuse(ids[splits["in_d1_tenth"] & (split != "d1")], "are in d1_tenth but not in d1")
    _check_sizes(splits)


def _check_sizes(splits: pd.DataFrame) -> None:
    """Raise DataError if a part is empty, or larger or smaller than `check_splits` says."""
    counts = {s: (len(members(splits, s, "train")), len(members(splits, s, "validation"))) for s in SPLITS[:4]}
    empty = [f"{s} {role}" for s in ("d1", "d2") for role, n in zip(ROLES, counts[s], strict=True) if not n]
    empty += [] if test_patients(splits) else ["test"]
    if empty:
        raise DataError(f"splits: no patients in {', '.join(empty)}; expected at least one in each")
    if counts["d1"] != counts["d2"]:
        odd = splits["patient_id"][splits["split"] == max("d1", "d2", key=lambda s: sum(counts[s]))]
        raise DataError(
            f"splits: d1 has {counts['d1']} (training, validation) patients and d2 {counts['d2']}, expected equal; "
            f"the larger begins with {listed(list(odd))}"
        )
    if counts["d2_half"][0] != counts["d2"][0] // 2:
        halved = listed(members(splits, "d2_half", "train"))
        raise DataError(
            f"splits: d2_half trains on {counts['d2_half'][0]} of d2's {counts['d2'][0]}, expected half: {halved}"
        )
    num_train, num_validation = counts["d1"]
    tenth = (num_train // 10, min(num_validation, max(1, num_validation // 10)))
    if counts["d1_tenth"] != tenth:
        raise DataError(
            f"splits: d1_tenth has {counts['d1_tenth']} (training, validation) patients of d1's {counts['d1']}, "
            f"expected {tenth}: {listed(members(splits, 'd1_tenth', 'train'))}"
        )


def strata_of(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, int]:
    """Return patient -> rank of its set of findings; neighbours in rank share their rarest findings.

    Raises DataError for an image without patient or a label that is not 0 or 1.
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
    """Return the test patients of a data set's own division.

    Raises DataError if an image has no official part or a patient is in both.
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
            "lists unchanged, or set test_fraction to draw the test patients anew"
        )
    return set(pairs["patient"][pairs["part"] == "test"])


def _drawn_test(strata: Mapping[str, int], fraction: float, seed: int) -> set[str]:
    return _select(list(strata), strata, round(fraction * len(strata)), seed, "test")


def _divide(
    development: Sequence[str], strata: Mapping[str, int], validation_fraction: float, seed: int
) -> dict[str, set[str]]:
    """Return the patients of d1, d2, validation, d2_half and d1_tenth (smaller splits with their validation part)."""
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


def draw_d2_half(train: set[str], validation: set[str], strata: Mapping[str, int], seed: int) -> set[str]:
    """Return half of d2's training patients and all of its validation patients."""
    return _select(train, strata, len(train) // 2, seed, "d2_half") | validation


def draw_d1_tenth(train: set[str], validation: set[str], strata: Mapping[str, int], seed: int) -> set[str]:
    """Return a tenth of d1's training patients and a tenth, at least one, of its validation patients."""
    tenth = _select(train, strata, len(train) // 10, seed, "d1_tenth", "train")
    return tenth | _select(validation, strata, max(1, len(validation) // 10), seed, "d1_tenth", "validation")


def _row(patient: str, test: Collection[str], groups: Mapping[str, set[str]]) -> tuple[str, str, str, str, bool, bool]:
    if patient in test:
        return (patient, "test", "", "", False, False)
    split = next((name for name in ("d1", "d2") if patient in groups[name]), "")
    if not split:
        return (patient, "unused", "", "", False, False)
    role = "validation" if patient in groups["validation"] else "train"
    return (patient, "development", split, role, patient in groups["d2_half"], patient in groups["d1_tenth"])


def _select(patients: Collection[str], strata: Mapping[str, int], count: int, seed: int, *key: str) -> set[str]:
    """Return exactly `count` patients at even distances of the order (stratum, keyed hash), from a keyed start.

    Of any run of neighbouring strata the share taken is the overall share, to within one patient.
    """
    num_patients = len(patients)
    order = sorted(patients, key=lambda p: (strata[p], keyed_seed(seed, *key, p), p))
    start = keyed_seed(seed, *key) % max(1, num_patients)
    taken = [(i * count + start) // max(1, num_patients) for i in range(num_patients + 1)]
    return {p for i, p in enumerate(order) if taken[i + 1] > taken[i]}


def _floor(value: float) -> int:
    return math.floor(value + 1e-9)  # 0.1 * 30 is 3.0000000000000004, 0.29 * 100 is 28.999999999999996


def _refuse(patients: "pd.Series[str]", claim: str) -> None:
    if len(patients):
        names = sorted(set(patients.astype(str)))
        raise DataError(f"splits: {len(names)} patients {claim}: {listed(names)}")
