"""NIH ChestX-ray14: frontal chest radiographs with 14 findings mined from reports."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.damage import with_remedy
from raygrid.data.datasets.base import Index, Reject
from raygrid.data.datasets.label_files import (
    absent_paths,
    check_spec,
    file_sizes,
    read_names,
    read_rows,
    require_all,
    require_some_images,
    unusable_file,
)
from raygrid.data.images.decode import decode_image, image_size
from raygrid.data.patients import Patients, declared_different
from raygrid.errors import DataError, SpecError, listed, unknown_name
from raygrid.hashing import Json
from raygrid.spec import DatasetSpec

FINDINGS = (
    "atelectasis",
    "cardiomegaly",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
    "consolidation",
    "edema",
    "emphysema",
    "fibrosis",
    "pleural_thickening",
    "hernia",
)  # the order of Wang et al. (CVPR 2017) and of the published scripts
_NO_FINDING = "no_finding"
_LISTS = {"development": "train_val_list.txt", "test": "test_list.txt"}
_ENTRIES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_PATIENT_OF_NAME = re.compile(r"([0-9]+)_[0-9]+\.png")
_SOURCE = "nihcc.app.box.com/v/ChestXray-NIHCC"
_ADVICE = (
    f"Get ChestX-ray14 from the NIH Clinical Center ({_SOURCE}): the twelve image archives, "
    "Data_Entry_2017 and both lists; docs/how-to/data-sets.md shows the layout."
)
_REMEDY = f"extract the file again from its archive, or download the archive again ({_SOURCE})"


class ChestXray14:
    """The data set in `data_root/chestxray14`, divided by the official lists.

    Options:
        findings: names out of `FINDINGS` to keep as labels, in the order of `FINDINGS`; all if not given.
        no_finding: True adds `no_finding` as the last label, 1 where the report named none of the 14.
        different_patients: values of `Patient ID` that are different patients although they are one number, such as `1`
            and `00000001`; True for all of them.

    Source: docs/explanation/protocol.md, Data.
    """

    title = "NIH ChestX-ray14"
    phantom = False

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        check_spec(spec, channels=(1,), options=("findings", "no_finding", "different_patients"))
        self._different = declared_different(spec.options)
        self._labels = _chosen_labels(spec.options)
        self._size = spec.image_size
        self.published: tuple[int, int | None, int] | None = (112_120, 25_596, len(self._labels))
        self._root = data_root / "chestxray14"

    def missing(self) -> list[str]:
        """Return one line for each absent list, label file or image folder, then where to get them."""
        paths = [self._root / name for name in _LISTS.values()]
        if self._entries_path() is None:
            paths.append(self._root / _ENTRIES[0])
        if not self._image_dirs():
            paths.append(self._root / "images")
        lines = absent_paths(paths, _ADVICE)
        alternatives = {
            str(self._root / _ENTRIES[0]): f" (nor {self._root / _ENTRIES[1]})",
            str(self._root / "images"): f" (nor {self._root / 'images_001'} … images_012)",
        }
        return [line + next((a for path, a in alternatives.items() if f"{path}:" in line), "") for line in lines]

    def index(self) -> Index:
        """Return the table of the images in the official lists; other rows of Data_Entry are left out.

        An image with an absent or empty file is a reject. A patient in both lists is an error only where a study uses
        the official division (`raygrid.data.splits.draw.assign_splits`).

        Raises MissingDataError if a list, the label file or every image is absent, DataError if a list is damaged, a
        row cannot be used, or the images of one patient have two spellings of `Patient ID`.
        """
        require_all(self.missing())
        part_of = self._parts()
        files = self._files()
        patients = Patients(self._different, "a number in column 'Patient ID'")
        rows: dict[str, tuple[str | int, ...]] = {}
        rejects: dict[str, str] = {}
        others: set[str] = set()
        entries = self._entries_path()
        assert entries is not None  # else missing() names it
        for place, values in read_rows(entries, _COLUMNS):
            name, patient = values["Image Index"], values["Patient ID"]
            found = _parsed(place, name, values["Finding Labels"], patient)
            if name not in part_of:
                others.add(name)
                continue
            if name in rows or name in rejects:
                raise DataError(f"{place}: image {name!r} occurs twice in the file; expected once: remove one row")
            patients.add(place, patient)
            path, size = files.get(name, (f"images/{name}", None))
            if reason := unusable_file(self._root / path, size, _REMEDY):
                rejects[name] = reason
                continue
            labels = (int(label in found) for label in self._labels)
            rows[name] = (patient, part_of[name], path, f"image file, {size} bytes", *labels)
        patients.check()
        _require_rows(entries, part_of, {*rows, *rejects}, others)
        unusable = [Reject(name, reason) for name, reason in rejects.items()]
        kept = require_some_images(unusable, len(part_of), self._root, _ADVICE)
        columns = ["patient_id", "part", "locator", "content", *self._labels]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("image_id").reset_index()
        return Index(
            self._labels,
            table.astype(dict.fromkeys(self._labels, np.uint8)),
            kept,
            patients.notes(),
            different_patients=self._different,
        )

    @with_remedy(_REMEDY)
    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return one radiograph in grey, uint8 (image_size, image_size, 1).

        Raises DataError if the file is unreadable.
        """
        return decode_image(self._root / locator, 1, size=self._size)

    @with_remedy(_REMEDY)
    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) in pixels, as published. Raises DataError if the file is unreadable."""
        return image_size(self._root / locator)

    def _entries_path(self) -> Path | None:
        return next((self._root / name for name in _ENTRIES if (self._root / name).exists()), None)

    def _image_dirs(self) -> list[Path]:
        """Return the image folders: the archives unpack to `images/`, and some users keep them in `images_001` etc."""
        numbered = [self._root / f"images_{i:03d}" for i in range(1, 13)]
        candidates = [self._root / "images", *(d for n in numbered for d in (n / "images", n))]
        return [d for d in candidates if d.is_dir()]

    def _files(self) -> dict[str, tuple[str, int | None]]:
        files: dict[str, tuple[str, int | None]] = {}
        for folder in self._image_dirs():
            for name, size in file_sizes(folder, (".png",)).items():
                path = str((folder / name).relative_to(self._root))
                other, other_size = files.setdefault(name, (path, size))
                if other_size != size:
                    raise DataError(f"{self._root}: {other} and {path} differ in size; expected one image: remove one")
        return files

    @with_remedy(f"download the list again ({_SOURCE})")
    def _parts(self) -> dict[str, str]:
        parts: dict[str, str] = {}
        for part, list_file in _LISTS.items():
            names = read_names(self._root / list_file)
            both = [name for name in names if name in parts]
            if both:
                raise DataError(
                    f"{self._root}: {len(both)} images are in both {' and '.join(_LISTS.values())}: {listed(both)}; "
                    "expected each in one list: download both again"
                )
            parts.update(dict.fromkeys(names, part))
        return parts


def _chosen_labels(options: Mapping[str, Json]) -> tuple[str, ...]:
    wanted = options.get("findings", list(FINDINGS))
    if isinstance(wanted, str) or not isinstance(wanted, (list, tuple)) or not wanted:
        raise SpecError(
            f"option findings is {wanted!r}; expected a list of at least one name out of {', '.join(FINDINGS)}"
        )
    for name in wanted:
        if name not in FINDINGS:
            raise SpecError(unknown_name("finding", str(name), FINDINGS))
    no_finding = options.get("no_finding", False)
    if not isinstance(no_finding, bool):
        raise SpecError(f"option no_finding is {no_finding!r}; expected True or False")
    return (*(name for name in FINDINGS if name in wanted), *((_NO_FINDING,) if no_finding else ()))


def _remedy_of_name(name: str, part: str, others: Collection[str]) -> str:
    """Return the remedy for a name of a list that is not in Data_Entry, whose names in no list are `others`."""
    plain = name.replace("\\", "/").strip('",; ').rpartition("/")[2].lower()
    near = plain if plain in others else f"{plain}.png"
    if near in others:
        return f"write {near!r} instead of {name!r} in {_LISTS[part]}, and correct the other names"
    return "use the Data_Entry file of the same release as the lists"


def _parsed(place: str, image: str, findings: str, patient: str) -> set[str]:
    """Return the findings of a row. Raises DataError if one is unknown or `Patient ID` is not that of the file name."""
    if not (patient.isascii() and patient.isdigit()):
        raise DataError(f"{place}: expected a number in column 'Patient ID', got {patient!r}; repair the row")
    named = _PATIENT_OF_NAME.fullmatch(image)
    if named and named[1].lstrip("0") != patient.lstrip("0"):
        raise DataError(
            f"{place}: expected the patient of {image!r}, {named[1].lstrip('0') or '0'}, in column 'Patient ID', got "
            f"{patient!r}; use the Data_Entry file as published"
        )
    found = {name.strip().lower().replace(" ", "_") for name in findings.split("|")}
    for name in sorted(found - {_NO_FINDING}):
        if name not in FINDINGS:
            raise DataError(
                f"{place}: column 'Finding Labels' is {findings!r}: {unknown_name('finding', name, FINDINGS)}"
            )
    if _NO_FINDING in found and len(found) > 1:
        raise DataError(
            f"{place}: column 'Finding Labels' is {findings!r}; expected findings or 'No Finding', not both"
        )
    return found


def _require_rows(entries: Path, part_of: Mapping[str, str], found: Collection[str], others: set[str]) -> None:
    """Raise DataError if an image of the official lists has no row; `others` are the rows of no list."""
    unlabelled = [name for name in part_of if name not in found]
    if unlabelled:
        raise DataError(
            f"{entries}: {len(unlabelled)} images of the official lists have no row: {listed(unlabelled)}; "
            f"expected one for each: {_remedy_of_name(unlabelled[0], part_of[unlabelled[0]], others)}"
        )
