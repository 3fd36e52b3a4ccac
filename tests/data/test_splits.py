"""Patient-level splits: no leak, exact numbers, independent of row order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import tables

from raygrid.data.splits import rules
from raygrid.data.splits.draw import assign_splits
from raygrid.errors import DataError, SpecError
from raygrid.hashing import digest
from raygrid.spec import SPLITS, SplitSpec

DRAWN = SplitSpec(test_fraction=0.2)


def made_table(
    num_patients: int, num_labels: int = 1, seed: int = 0, part: str = ""
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), rng.integers(1, 4, num_patients))
    labels = tuple(f"finding_{i}" for i in range(num_labels))
    table = pd.DataFrame(
        {"image_id": [f"i{i}" for i in range(len(patients))], "patient_id": [f"p{p}" for p in patients]}
    )
    table["part"] = part
    for i, name in enumerate(labels):
        table[name] = (rng.random(len(patients)) < 0.5 / (i + 1)).astype(np.uint8)
    return table, labels


@pytest.fixture
def assigned() -> pd.DataFrame:
    table, labels = made_table(101)
    return assign_splits(table, labels, DRAWN, 0)


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 2**40), st.floats(0.1, 0.5), st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_no_patient_leaks_and_row_order_changes_nothing(made, seed, test_fraction, validation_fraction, random):
    table, labels = made
    spec = SplitSpec(test_fraction=test_fraction, validation_fraction=validation_fraction)
    got = assign_splits(table, labels, spec, seed)
    everyone = set(table["patient_id"])
    assert list(got["patient_id"]) == sorted(everyone)
    sets = {(s, r): set(rules.members(got, s, r)) for s in SPLITS for r in rules.ROLES}
    d1, d2 = (sets[s, "train"] | sets[s, "validation"] for s in ("d1", "d2"))
    test = set(rules.test_patients(got))
    unused = everyone - d1 - d2 - test
    assert len(test) == round(test_fraction * len(everyone))
    assert len(d1) == len(d2) == (len(everyone) - len(test)) // 2
    assert len(unused) == (len(everyone) - len(test)) % 2
    assert len(d1) + len(d2) + len(test) + len(unused) == len(everyone)  # disjoint
    for split in ("d1", "d2"):
        assert not sets[split, "train"] & sets[split, "validation"]
        assert sets[split, "train"]
        assert sets[split, "validation"]
    assert sets["d2_half", "validation"] == sets["d2", "validation"]
    assert sets["d2_half", "train"] <= sets["d2", "train"]
    assert len(sets["d2_half", "train"]) == len(sets["d2", "train"]) // 2
    for role in rules.ROLES:
        assert sets["d1_tenth", role] <= sets["d1", role]
        assert sets["development", role] == sets["d1", role] | sets["d2", role]
    rows = list(table.index)
    random.shuffle(rows)
    pd.testing.assert_frame_equal(assign_splits(table.loc[rows], labels, spec, seed), got)


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(0, 2**40), st.data())
def test_check_splits_refuses_any_moved_or_repeated_patient(made, seed, data):
    """A patient of d1 or d2 who alone changes place, or gets a second place, breaks a rule."""
    got = assign_splits(*made, SplitSpec(test_fraction=0.2, validation_fraction=0.3), seed)
    row = data.draw(st.sampled_from(list(got.index[got["part"] == "development"])), label="row")
    columns = list(rules.COLUMNS[1:])
    smaller = [(half, tenth) for half in (False, True) for tenth in (False, True)]
    places = [("development", s, r, *flags) for s in ("d1", "d2") for r in rules.ROLES for flags in smaller]
    places += [(part, "", "", False, False) for part in ("test", "unused")]
    for place in places:
        moved, repeated = got.copy(), pd.concat([got, got.loc[[row]]], ignore_index=True)
        moved.loc[row, columns] = place
        repeated.loc[len(got), columns] = place
        for table in (moved, repeated) if place != tuple(got.loc[row, columns]) else (repeated,):
            with pytest.raises(DataError):
                rules.check_splits(table)
    rules.check_splits(got)


def test_the_splits_of_a_table_are_those_of_earlier_versions():
    """Known places: they depend on no process, no hash seed and no version of numpy or pandas."""
    patients = [(7 * i) % 101 for i in range(3 * 101)]
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(patients))], "patient_id": patients, "part": ""})
    labels = ("common", "rare", "none")
    for name, divisor in zip(labels, (2, 29, 1000), strict=True):
        table[name] = [int(p % divisor == 1) for p in patients]
    spec = SplitSpec(test_fraction=0.2, validation_fraction=0.2)
    got = assign_splits(table, labels, spec, 17)
    known = "26e60007e976a6e20239a8812d7f146b7d92285d1be1ceadda6e05adb4f89844"
    assert digest([list(row) for row in got.itertuples(index=False)]) == known
    categories = table.assign(patient_id=table["patient_id"].astype("category"))
    pd.testing.assert_frame_equal(assign_splits(categories, labels, spec, 17), got)
    assert (got["part"] == "unused").sum() == 1  # 81 patients for development


def test_chestxray14_sized_official_division_gives_the_published_numbers():
    rng = np.random.default_rng(3)
    labels = tuple(f"finding_{i}" for i in range(14))
    table = pd.DataFrame({"patient_id": [str(i + 1) for i in range(30805)]})
    table["image_id"] = table["patient_id"] + "_000.png"
    table["part"] = np.where(rng.permutation(30805) < 2797, "test", "development")
    frequencies = np.geomspace(0.25, 0.002, 14)
    for name, frequency in zip(labels, frequencies, strict=True):
        table[name] = (rng.random(30805) < frequency).astype(np.uint8)
    got = assign_splits(table, labels, SplitSpec(), 11)
    counts = {(s, r): len(rules.members(got, s, r)) for s in SPLITS for r in rules.ROLES}
    assert counts["d1", "train"] == counts["d2", "train"] == 12604
    assert counts["d1", "validation"] == counts["d2", "validation"] == counts["d2_half", "validation"] == 1400
    assert counts["d2_half", "train"] == 6302
    assert (counts["d1_tenth", "train"], counts["d1_tenth", "validation"]) == (1260, 140)
    assert counts["development", "train"] + counts["development", "validation"] == 28008
    assert set(rules.test_patients(got)) == set(table["patient_id"][table["part"] == "test"])
    by_patient = table.set_index("patient_id")[list(labels)]
    for split, share in (("d1", 12604), ("d2", 12604), ("d2_half", 6302), ("d1_tenth", 1260)):
        prevalence = by_patient.loc[rules.members(got, split, "train")].mean()
        expected = by_patient[table.set_index("patient_id")["part"] == "development"].mean()
        # A random draw would miss by one standard error on average, and by 3 somewhere among so many.
        error = np.sqrt(expected * (1 - expected) / share)
        assert ((prevalence - expected).abs() < 2 * error).all(), split
        assert (prevalence > 0).all()


def test_one_label_is_divided_to_within_a_patient_at_each_level():
    table, labels = made_table(400)
    got = assign_splits(table, labels, DRAWN, 5)
    positive = table.groupby("patient_id")[labels[0]].max()
    share = positive.mean()
    assert abs(positive[rules.test_patients(got)].sum() - 80 * share) <= 1
    counts = {s: positive[rules.members(got, s, "train") + rules.members(got, s, "validation")].sum() for s in SPLITS}
    assert abs(counts["d1"] - counts["d2"]) <= 2
    assert abs(counts["d1"] - 160 * share) <= 2
    validation = positive[rules.members(got, "d1", "validation")]
    assert abs(validation.sum() - 16 * share) <= 2


def test_a_nested_level_does_not_lock_onto_the_places_of_the_level_above():
    """Strata of two patients each: with one order at all levels, d2_half would take one side of d2 for every seed."""
    table = pd.DataFrame(
        {"image_id": [f"i{i:03d}" for i in range(160)], "patient_id": [f"p{i:03d}" for i in range(160)]}
    )
    table["part"] = ""
    code = np.arange(160) // 2
    labels = tuple(f"bit_{b}" for b in range(7))
    for b, name in enumerate(labels):
        table[name] = (code >> b & 1).astype(np.uint8)
    ever = {s: set() for s in ("d1", "d2_half", "d1_tenth")}
    for seed in range(40):
        got = assign_splits(table, labels, DRAWN, seed)
        for split, seen in ever.items():
            seen.update(rules.members(got, split, "train"))
    assert len(ever["d1"]) == 160
    assert len(ever["d2_half"]) >= 155
    assert len(ever["d1_tenth"]) >= 100


def test_the_seed_and_the_labels_change_the_splits():
    table, labels = made_table(200)
    first = assign_splits(table, labels, DRAWN, 0)
    assert rules.members(first, "d1", "train") != rules.members(assign_splits(table, labels, DRAWN, 1), "d1", "train")
    flipped = table.assign(**{labels[0]: np.arange(len(table), dtype=np.uint8) % 2})
    assert rules.members(first, "d1", "train") != rules.members(assign_splits(flipped, labels, DRAWN, 0), "d1", "train")


def test_validation_counts_are_not_lost_to_rounding():
    table, labels = made_table(250)  # 50 for testing, 100 each; 0.29 * 100 is 28.999999999999996
    got = assign_splits(table, labels, SplitSpec(test_fraction=0.2, validation_fraction=0.29), 0)
    assert len(rules.members(got, "d1", "validation")) == 29


def test_official_division_is_required_when_no_fraction_is_given():
    table, labels = made_table(50)
    with pytest.raises(DataError, match=r"50 patients have no official part.*test_fraction"):
        assign_splits(table, labels, SplitSpec(), 0)


def test_a_patient_in_both_official_parts_is_named():
    table, labels = made_table(50, part="development")
    table = pd.concat([table, table.iloc[[7]].assign(part="test")])
    patient = table["patient_id"].iloc[7]
    with pytest.raises(DataError, match=rf"1 patients are in both official parts.*: {patient};.*set test_fraction"):
        assign_splits(table, labels, SplitSpec(), 0)


@pytest.mark.parametrize("num_patients", [1, 4])
def test_too_few_patients_are_refused(num_patients):
    table, labels = made_table(num_patients)
    with pytest.raises(DataError, match="expected at least 1 and 4"):
        assign_splits(table, labels, DRAWN, 0)


def test_labels_other_than_0_and_1_are_refused():
    table, labels = made_table(20)
    table[labels[0]] = table[labels[0]].astype(float).replace(0.0, np.nan)
    with pytest.raises(DataError, match="must be 0 or 1"):
        assign_splits(table, labels, DRAWN, 0)


def test_an_image_without_patient_is_refused():
    table, labels = made_table(20)
    table.loc[3, "patient_id"] = None
    with pytest.raises(DataError, match="1 images have no patient id"):
        assign_splits(table, labels, DRAWN, 0)


@pytest.mark.parametrize(("split", "role", "hint"), [("d2half", "train", "d2_half"), ("d1", "validate", "validation")])
def test_unknown_names_give_near_misses(assigned, split, role, hint):
    with pytest.raises(SpecError, match=f"did you mean '{hint}'"):
        rules.members(assigned, split, role)


def changed(table: pd.DataFrame, chosen: pd.Series, **values: object) -> tuple[pd.DataFrame, str]:
    """Return a copy in which the first chosen patient has other values, and that patient's id."""
    row = table.index[chosen][0]
    copy = table.copy()
    for name, value in values.items():
        copy.loc[row, name] = value
    return copy, copy.loc[row, "patient_id"]


def test_check_splits_names_a_patient_with_two_rows(assigned):
    row = assigned[assigned["part"] == "test"].head(1)
    patient = row["patient_id"].item()
    leaking = pd.concat([assigned, row.assign(part="development", split="d1", role="train")], ignore_index=True)
    with pytest.raises(DataError, match=rf"more than one row: {patient} in test, {patient} in development d1 train"):
        rules.check_splits(leaking)


def test_check_splits_names_every_broken_rule(assigned):
    d1, d2 = assigned["split"] == "d1", assigned["split"] == "d2"
    train = assigned["role"] == "train"
    half = assigned["in_d2_half"]
    broken = [
        (changed(assigned, d1 & train, part="test"), "invalid combination"),
        (changed(assigned, d1 & train, role="both"), "invalid combination"),
        (changed(assigned, d1 & train, in_d2_half=True), "in d2_half but not in d2"),
        (changed(assigned, d2 & ~train, in_d2_half=False), "validate d2 but not d2_half"),
        (changed(assigned, d2 & train, in_d1_tenth=True), "in d1_tenth but not in d1"),
    ]
    for (table, patient), message in broken:
        with pytest.raises(DataError, match=rf"1 patients .*{message}.*: {patient}$"):
            rules.check_splits(table)
    smaller, _ = changed(assigned, d1 & train, part="unused", split="", role="", in_d1_tenth=False)
    with pytest.raises(DataError, match="expected equal"):
        rules.check_splits(smaller)
    moved, _ = changed(assigned, d1 & train, role="validation")
    with pytest.raises(DataError, match="expected equal"):
        rules.check_splits(moved)
    less, _ = changed(assigned, half & train, in_d2_half=False)
    with pytest.raises(DataError, match="expected half"):
        rules.check_splits(less)
    with pytest.raises(DataError, match=r"lacking \['role'\]"):
        rules.check_splits(assigned.drop(columns="role"))
    rules.check_splits(assigned)
