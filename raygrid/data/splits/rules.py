"""The table of splits: its columns, the rules it keeps, and how to read patients from it.

A table of splits has one row per patient, sorted by `patient_id`, with the columns

    patient_id    the patient
    part          development, test or unused
    split         d1 or d2; empty outside the development part
    role          train or validation; empty outside the development part
    in_d2_half    whether the patient belongs to d2_half, a part of d2
    in_d1_tenth   whether the patient belongs to d1_tenth, a part of d1
"""

from collections.abc import Collection, Mapping

import pandas as pd

from raygrid.errors import DataError, SpecError, listed, unknown_name
from raygrid.spec import SPLITS

COLUMNS = ("patient_id", "part", "split", "role", "in_d2_half", "in_d1_tenth")
ROLES = ("train", "validation")
_PLACES = {  # every (part, split, role) that a patient may have
    ("test", "", ""),
    ("unused", "", ""),
    *(("development", split, role) for split in ("d1", "d2") for role in ROLES),
}


def table_of_splits(patients: Collection[str], test: Collection[str], groups: Mapping[str, set[str]]) -> pd.DataFrame:
    """Return the table of splits for patients whose places are known.

    `groups` holds the patients of `d1`, `d2`, `validation` (of both), `d2_half` and `d1_tenth`. A patient in none of
    these and not in `test` is unused.

    Raises DataError if the table breaks a rule of `check_splits`.
    """
    splits = pd.DataFrame([_row(p, test, groups) for p in sorted(patients)], columns=list(COLUMNS))
    check_splits(splits)
    return splits


def members(splits: pd.DataFrame, split: str, role: str) -> list[str]:
    """Return the sorted ids of the patients with one role (`train`, `validation`) in a split of `spec.SPLITS`.

    `development` is d1 and d2 together. The list can be empty: d1_tenth has no training patient if d1 has fewer than
    ten.

    Raises SpecError if the split or the role is unknown.
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
    """Return the sorted ids of the test patients."""
    return sorted(splits["patient_id"][splits["part"] == "test"])


def check_splits(splits: pd.DataFrame) -> None:
    """Check that a table of splits keeps every rule.

    - Each patient has one row, so nobody is in two of d1, d2 and test, or in training and validation.
    - d1 and d2 have equally many training patients and equally many validation patients.
    - d1, d2 (training and validation) and test are not empty.
    - d2_half is half of d2's training patients and all of its validation patients.
    - d1_tenth is a tenth of d1's training patients and a tenth, but at least one, of its validation patients.

    Halves and tenths are rounded down.

    Raises DataError, which names the first patients concerned, if a rule is broken or a column is missing.
    """
    absent = [name for name in COLUMNS if name not in splits.columns]
    if absent:
        raise DataError(f"splits: expected the columns {list(COLUMNS)}, lacking {absent}")
    ids, split, role = splits["patient_id"], splits["split"], splits["role"]
    places = pd.Series(list(zip(splits["part"], split, role, strict=True)), index=splits.index, dtype=object)
    repeated = splits[ids.duplicated(keep=False)]
    if len(repeated):
        rows = [f"{row.patient_id} in {row.part} {row.split} {row.role}".rstrip() for row in repeated.itertuples()]
        raise DataError(
            f"splits: {repeated['patient_id'].nunique()} patients have more than one row: {listed(rows)}; "
            "expected one row each"
        )
    _refuse(
        ids[~places.isin(list(_PLACES))],
        f"have an invalid combination of part, split and role; expected one of {sorted(_PLACES)}",
    )
    _refuse(ids[splits["in_d2_half"] & (split != "d2")], "are in d2_half but not in d2")
    _refuse(ids[(split == "d2") & (role == "validation") & ~splits["in_d2_half"]], "validate d2 but not d2_half")
    _refuse(ids[splits["in_d1_tenth"] & (split != "d1")], "are in d1_tenth but not in d1")
    _check_sizes(splits)


def _check_sizes(splits: pd.DataFrame) -> None:
    """Raise DataError if a split is empty or its size breaks a rule of `check_splits`."""
    counts = {s: (len(members(splits, s, "train")), len(members(splits, s, "validation"))) for s in SPLITS[:4]}
    empty = [f"{s} {role}" for s in ("d1", "d2") for role, n in zip(ROLES, counts[s], strict=True) if not n]
    empty += [] if test_patients(splits) else ["test"]
    if empty:
        raise DataError(f"splits: no patients in {', '.join(empty)}; expected at least one in each")
    if counts["d1"] != counts["d2"]:
        larger = splits["patient_id"][splits["split"] == max("d1", "d2", key=lambda s: sum(counts[s]))]
        raise DataError(
            f"splits: d1 has {counts['d1']} (training, validation) patients and d2 {counts['d2']}, expected equal; "
            f"the larger begins with {listed(list(larger))}"
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


def _row(patient: str, test: Collection[str], groups: Mapping[str, set[str]]) -> tuple[str, str, str, str, bool, bool]:
    if patient in test:
        return (patient, "test", "", "", False, False)
    split = next((name for name in ("d1", "d2") if patient in groups[name]), "")
    if not split:
        return (patient, "unused", "", "", False, False)
    role = "validation" if patient in groups["validation"] else "train"
    return (patient, "development", split, role, patient in groups["d2_half"], patient in groups["d1_tenth"])


def _refuse(patients: "pd.Series[str]", broken_rule: str) -> None:
    if len(patients):
        names = sorted(set(patients.astype(str)))
        raise DataError(f"splits: {len(names)} patients {broken_rule}: {listed(names)}")
