"""Splits read from files: the paper's published lists, a user's own lists, or the `splits.csv` that raygrid writes.

Names in `SplitSpec.files`:

    d1, d2, d2_half, d1_tenth    YAML (trainIDs, valIDs, testIDs) or CSV (columns image, role) of one split
    d1/train, d1/validation, …   instead of these: a list for each role, one image per line
    test                         the test images, if the other files do not name them
    all                          the `splits.csv` that raygrid writes, and no other file

d1 and d2 are required. d2_half and d1_tenth are drawn from d2 and d1 if they have no file, as in
`raygrid.data.splits.draw.assign_splits`. If no file names test images, the test patients are those of the data set's
official division. A split holds whole patients: files that name only some images of a patient are an error.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePath, PurePosixPath

import pandas as pd

from raygrid.data.datasets import Index
from raygrid.data.patients import person_key, written_apart
from raygrid.data.splits.draw import assign_splits, draw_d1_tenth, draw_d2_half, official_test, strata_of
from raygrid.data.splits.parse import Entry, SplitFile, entries_of, read_table
from raygrid.data.splits.rules import COLUMNS, check_splits, table_of_splits
from raygrid.errors import DataError, SpecError, listed, unknown_name
from raygrid.spec import SPLITS, SplitSpec

_SMALLER = {"d2_half": "d2", "d1_tenth": "d1"}
_IMAGE_SUFFIXES = (".png", ".jpeg", ".jpg", ".tif", ".tiff", ".dcm")
_FLAGS = {"true": True, "false": False}


@dataclass
class _Place:
    """One place (`d1/train`, `test`, …) and the patients that the files assign to it.

    Attributes:
        patients: patient -> the first image of the patient in the files, with file and line.
        images: the images of the place.
    """

    patients: dict[str, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)


def splits_of(
    index: Index, spec: SplitSpec, seed: int, files: Mapping[str, SplitFile]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of splits (`raygrid.data.splits.rules`) and notes for the user.

    The splits are read from `files`, or drawn if there are none. Patients without a place in the files are `unused`; a
    note counts them.

    Raises SpecError if the set of files is not complete, or DataError, with file, line and near misses, if a file
    cannot be used or the splits break a rule.
    """
    if not files:
        return assign_splits(index.table, index.labels, spec, seed), []
    names = ", ".join(str(file.path) for file in files.values())
    try:
        splits = _from_manifest(index, files) if "all" in files else _from_lists(index, files, seed)
    except DataError as error:
        raise error.with_context(after=f" (splits read from {names})") from error
    unused = int((splits["part"] == "unused").sum())
    if not unused:
        return splits, []
    return splits, [f"{unused} of {len(splits)} patients are in no split and are left out (splits read from {names})"]


def _from_lists(index: Index, files: Mapping[str, SplitFile], seed: int) -> pd.DataFrame:
    images = _ImageNames(index)
    places: dict[str, _Place] = {}
    tested: dict[str, set[str]] = {}
    for (name, role), file in _wanted(files).items():
        found = images.resolve(file, entries_of(file, role), "" if name == "test" else name)
        if "test" in found:
            tested[str(file.path)] = set(found["test"].patients)
        for place, there in found.items():
            places.setdefault(place, there)
    _check_equal_tests(tested)
    _check_disjoint({p: places[p].patients for p in places if p.split("/")[0] in ("d1", "d2", "test")})
    for small, whole in _SMALLER.items():
        _check_nested(places, small, whole)
    images.check_complete(places)
    people = {place: set(there.patients) for place, there in places.items()}
    try:
        return _table(index, people, seed)
    except DataError as error:
        raise error.with_context(after=images.lost()) from error


def _table(index: Index, people: Mapping[str, set[str]], seed: int) -> pd.DataFrame:
    """Return the table of splits from the patients of each place; splits without a file are drawn."""
    strata = strata_of(index.table, index.labels)
    train, validation = ({s: people[f"{s}/{role}"] for s in ("d1", "d2")} for role in ("train", "validation"))
    smaller = {s: people[f"{s}/train"] | people[f"{s}/validation"] for s in _SMALLER if f"{s}/train" in people}
    if "d2_half" not in smaller:
        smaller["d2_half"] = draw_d2_half(train["d2"], validation["d2"], strata, seed)
    if "d1_tenth" not in smaller:
        smaller["d1_tenth"] = draw_d1_tenth(train["d1"], validation["d1"], strata, seed)
    test = people["test"] if "test" in people else official_test(index.table)
    developed = {s: train[s] | validation[s] for s in ("d1", "d2")}
    both = sorted(test & (developed["d1"] | developed["d2"]))
    if both:
        raise DataError(
            f"{len(both)} patients of d1 and d2 are in the official test part: {listed(both)}; expected none; use the "
            "split files of this data set, or name the test images in the file 'test'"
        )
    groups = {**developed, **smaller, "validation": validation["d1"] | validation["d2"]}
    return table_of_splits(strata, test, groups)


def _wanted(files: Mapping[str, SplitFile]) -> dict[tuple[str, str | None], SplitFile]:
    """Return (split, role) -> file; the role is None for a file of all roles.

    Raises SpecError if the set of files is not complete.
    """
    for split in SPLITS[:4]:
        roles = [f"{split}/{role}" for role in ("train", "validation")]
        given = [name for name in (split, *roles) if name in files]
        if given not in ([split], roles) and (given or split in _SMALLER.values()):
            raise SpecError(f"split files of {split}: got {given or 'none'}; expected {split!r}, or both of {roles}")
    wanted: dict[tuple[str, str | None], SplitFile] = {}
    for name, file in files.items():
        split, _, role = name.partition("/")
        wanted[split, "test" if name == "test" else role or None] = file
    return wanted


class _ImageNames:
    """Finds the images of an index by their names in split files, with or without extension."""

    def __init__(self, index: Index) -> None:
        ids, patients = index.table["image_id"].astype(str), index.table["patient_id"].astype(str)
        self._patient = dict(zip(ids, patients, strict=True))
        self._rejected = {r.image_id for r in index.rejects}
        self._rejected_stems = {_stem(name) for name in self._rejected}
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for image_id in self._patient:
            self._by_stem[_stem(image_id)].append(image_id)
        self._lost: set[str] = set()

    def resolve(self, file: SplitFile, entries: Iterable[Entry], split: str) -> dict[str, _Place]:
        """Return the places that one file fills. Raises DataError if an image is unknown or repeated."""
        places: dict[str, _Place] = defaultdict(_Place)
        unknown: list[Entry] = []
        for entry in entries:
            image_id = self._find(entry, file)
            if image_id is None:
                unknown.append(entry)
                continue
            place = places["test" if entry.role == "test" else f"{split}/{entry.role}"]
            if image_id in place.images:
                raise DataError(
                    f"{file.path}, line {entry.line}: {entry.name} is listed twice; expected once; delete one entry"
                )
            place.images.add(image_id)
            place.patients.setdefault(self._patient[image_id], f"{entry.name} in {file.path}, line {entry.line}")
        self._refuse_unknown(file, [e for e in unknown if not self._is_rejected(e.name)])
        return dict(places)

    def check_complete(self, places: Mapping[str, _Place]) -> None:
        """Raise DataError if a place has some, but not all, images of a patient."""
        images: dict[str, set[str]] = defaultdict(set)
        for image_id, patient in self._patient.items():
            images[patient].add(image_id)
        for name, place in places.items():
            left = {p: sorted(images[p] - place.images) for p in place.patients if images[p] - place.images}
            if left:
                patient, absent = min(left.items())
                raise DataError(
                    f"{name} lacks images of {len(left)} of its patients, such as {listed(absent)} of {patient} "
                    f"(it has {place.patients[patient]}); expected all images of a patient; add them to the file, or "
                    "remove them from the data set"
                )

    def lost(self) -> str:
        """Return a sentence about images of the files that the data set rejected, empty if there are none."""
        if not self._lost:
            return ""
        return (
            f"; {len(self._lost)} images of the files were rejected by the data set, so whole patients may be missing: "
            f"{listed(sorted(self._lost))}; repair or re-download these images"
        )

    def _find(self, entry: Entry, file: SplitFile) -> str | None:
        name = entry.name
        if name in self._patient:
            return name
        same = self._by_stem.get(_stem(name), [])
        if len(same) > 1:
            raise DataError(
                f"{file.path}, line {entry.line}: {name} matches several images, {listed(same)}; write the full name"
            )
        # a.jpg is not a.png: extensions are ignored only if one of the two names has none
        return same[0] if same and (_stem(name) == name or _stem(same[0]) == same[0]) else None

    def _is_rejected(self, name: str) -> bool:
        rejected = name in self._rejected | self._rejected_stems or _stem(name) in self._rejected
        if rejected:
            self._lost.add(name)
        return rejected

    def _refuse_unknown(self, file: SplitFile, unknown: Sequence[Entry]) -> None:
        if not unknown:
            return
        first = unknown[0]
        head = (
            f"{file.path}: {len(unknown)} entries match no image of the data set: "
            f"{listed([f'{e.name!r} (line {e.line})' for e in unknown])}"
        )
        if hint := _other_spelling(first.name, {_image_key(i): i for i in self._patient}, _image_key):
            raise DataError(f"{head}; {hint}")
        near = get_close_matches(first.name, self._patient, n=3)
        raise DataError(
            head
            + (f"; did you mean {' or '.join(near)}?" if near else f"; expected names such as {min(self._patient)}.")
            + " Use the split files of this data set"
        )


def _check_equal_tests(tested: Mapping[str, Collection[str]]) -> None:
    for file, patients in tested.items():
        first, expected = next(iter(tested.items()))
        other = sorted(set(patients) ^ set(expected))
        if other:
            raise DataError(
                f"{first} and {file} name different test patients, {len(other)} are in one of them only: "
                f"{listed(other)}; expected the same in every file"
            )


def _check_disjoint(places: Mapping[str, Mapping[str, str]]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    twice: list[str] = []
    for place, patients in places.items():
        for patient, where in patients.items():
            other, other_where = seen.setdefault(patient, (place, where))
            if other != place:
                twice.append(f"{patient} in {other} ({other_where}) and in {place} ({where})")
    if twice:
        raise DataError(
            f"{len(twice)} patients are in two places: {listed(twice, separator='; ')}. "
            "Expected each patient in one role of one of d1, d2 and test; remove each from one of its places"
        )


def _check_nested(places: Mapping[str, _Place], small: str, whole: str) -> None:
    for role in ("train", "validation"):
        inside = places.get(f"{small}/{role}", _Place()).patients
        outside = [f"{p} ({w})" for p, w in sorted(inside.items()) if p not in places[f"{whole}/{role}"].patients]
        if outside:
            raise DataError(
                f"{len(outside)} {role} patients of {small} are not among the {role} patients of {whole}: "
                f"{listed(outside)}; expected {small} to be a part of {whole}; remove them from {small}"
            )


def _from_manifest(index: Index, files: Mapping[str, SplitFile]) -> pd.DataFrame:
    if len(files) > 1:
        raise SpecError(f"split file 'all' gives every split; got {sorted(files)}; remove the others")
    file = files["all"]
    rows: dict[str, tuple[str | bool, ...]] = {}
    for line, values in read_table(file, COLUMNS):
        patient = values["patient_id"]
        if patient in rows:
            raise DataError(
                f"{file.path}, line {line}: patient {patient} has two rows; expected one row each; delete one"
            )
        flags = (_flag(file, line, name, values[name]) for name in COLUMNS[4:])
        rows[patient] = (*(values[name] for name in COLUMNS[:4]), *flags)
    patients = set(index.table["patient_id"].astype(str))
    persons = {person_key(p): p for p in patients}
    absent = {p: _other_spelling(p, persons, person_key) for p in rows if p not in patients}
    unknown = sorted(p for p, spelling in absent.items() if rows[p][1] != "unused" or spelling)
    if unknown:
        raise DataError(
            f"{file.path}: {len(unknown)} patients are not in the data set: {listed(unknown)}; "
            + (absent[unknown[0]] or unknown_name("patient", unknown[0], patients))
        )
    places = [rows.get(p, (p, "unused", "", "", False, False)) for p in sorted(patients)]
    splits = pd.DataFrame(places, columns=list(COLUMNS))
    check_splits(splits)
    return splits


def _flag(file: SplitFile, line: int, column: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise DataError(
            f"{file.path}, line {line}: column {column!r} is {text!r}; expected True or False; correct the row"
        )
    return _FLAGS[text.lower()]


def _other_spelling(name: str, known: Mapping[str, str], key: Callable[[str], str]) -> str:
    """Return a remedy if the data set has `name` in another spelling, out of key -> name; else an empty text."""
    if key(name) not in known:
        return ""
    given, spelling = written_apart(name, known[key(name)])
    return f"the data set spells {given} as {spelling}: use that spelling in the file"


def _image_key(name: str) -> str:
    return person_key(_stem(PurePosixPath(name.replace("\\", "/")).name))


def _stem(name: str) -> str:
    path = PurePath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in _IMAGE_SUFFIXES else name
