"""Split files of every form: damaged lines, structures, encodings, compression and bytes."""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from byte_edits import TEXTS, Edit, edited, edits, texts
from fuzzing import Fuzz, Marker, few_changes, outcome
from hypothesis import strategies as st

from raygrid.data.datasets import Index
from raygrid.data.splits.draw import assign_splits
from raygrid.data.splits.parse import read_split_files
from raygrid.data.splits.resolve import splits_of
from raygrid.data.splits.rules import check_splits, members
from raygrid.data.splits.rules import test_patients as patients_of_test
from raygrid.spec import SPLITS, SplitSpec

LISTS = {"trainIDs": "train", "valIDs": "validation", "testIDs": "test"}
FORMS = {
    "yaml": {"d1": "d1.yml", "d2": "d2.yml"},
    "csv": {"d1": "d1.csv", "d2": "d2.csv"},
    "lists": {f"{s}/{r}": f"{s}_{r}.txt" for s in ("d1", "d2", "d1_tenth") for r in ("train", "validation")}
    | {"test": "test.csv"},
    "manifest": {"all": "splits.csv"},
}
STRUCTURES = (
    "[" * 50_000,
    "trainIDs: " + "[" * 50_000,
    "{a: " * 20_000,
    "- " * 20_000,
    "? [a]\n: b\n",
    "? {a: b}\n: c\n",
    "&a trainIDs: *a\n",
    "trainIDs: &a [*a]\n",
    "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
    "!!python/object/apply:os.mkdir ['%MARKER%']\n",
    "trainIDs: !!python/object/apply:os.mkdir ['%MARKER%']\n",
    "trainIDs: [!!binary 'AAAA']\n",
    "--- a\n--- b\n",
    "%YAML 9.9\n---\n",
    "trainIDs: |\n  a\n",
    "<<: {trainIDs: [a]}\n",
)


def made_index() -> Index:
    """Two images of each of 40 patients."""
    patients = np.repeat(np.arange(40), 2)
    table = pd.DataFrame({"image_id": [f"{p:05o}_{i % 2:03d}.png" for i, p in enumerate(patients)]})
    table["patient_id"] = [str(p) for p in patients]
    table["part"] = np.where(patients % 5 == 0, "test", "development")
    table["mass"] = (patients % 3 == 0).astype(np.uint8)
    return Index(("mass",), table.assign(locator="", content=""))


INDEX = made_index()
PATIENT = dict(zip(INDEX.table["image_id"], INDEX.table["patient_id"], strict=True))
DRAWN = assign_splits(INDEX.table, ("mass",), SplitSpec(validation_fraction=0.25), 3)


def images_of(split: str, role: str) -> list[str]:
    patients = set(patients_of_test(DRAWN) if role == "test" else members(DRAWN, split, role))
    return [image for image, patient in PATIENT.items() if patient in patients]


def written(form: str) -> dict[str, str]:
    """Return file name -> text of sound split files."""
    if form == "manifest":
        return {"splits.csv": DRAWN.to_csv(index=False)}
    if form == "lists":
        lists = {file: "\n".join(images_of(*name.split("/"))) for name, file in FORMS["lists"].items() if "/" in name}
        return lists | {"test.csv": "\n".join(["image,note", *(f"{name},x" for name in images_of("", "test"))])}
    both = {}
    for split in ("d1", "d2"):
        if form == "yaml":
            both[f"{split}.yml"] = "".join(
                f"{key}:\n" + "".join(f"- {n}\n" for n in images_of(split, role)) for key, role in LISTS.items()
            )
        else:
            rows = [f"{n},{role}" for role in LISTS.values() for n in images_of(split, role)]
            both[f"{split}.csv"] = "\n".join(["image,role", *rows])
    return both


@dataclass(frozen=True)
class SplitFiles:
    """Files of one form, of which one has changed lines, or another structure, then damaged bytes."""

    form: str
    changed: int
    lines: Mapping[int, str] = field(default_factory=dict)
    doubled: Sequence[int] = ()
    structure: str = ""
    encoding: str = "utf-8"
    compress: bool = False
    damage: Sequence[Edit] = ()

    def write(self, folder: Path) -> dict[str, str]:
        """Return the files for `SplitSpec`."""
        sound = written(self.form)
        changed = sorted(sound)[self.changed % len(sound)]
        names = dict(FORMS[self.form])
        for name, text in sound.items():
            content = self._content(text, folder) if name == changed else text.encode()
            (folder / name).write_bytes(content)
            if name == changed and self.compress:
                (folder / f"{name}.gz").write_bytes(edited(gzip.compress(content, 1, mtime=0), self.damage))
                names = {split: f"{file}.gz" if file == name else file for split, file in names.items()}
        return names

    def _content(self, text: str, folder: Path) -> bytes:
        lines = text.splitlines()
        for place, line in self.lines.items():
            lines[place % len(lines)] = line
        lines += [lines[place % len(lines)] for place in self.doubled]
        structure = self.structure.replace("%MARKER%", str(Marker(folder).folder))
        content = (structure or "\n".join(lines)).encode(self.encoding, errors="replace")
        return content if self.compress else edited(content, self.damage)


def lines() -> st.SearchStrategy[str]:
    images = st.sampled_from(sorted(PATIENT))
    return (
        texts()
        | st.builds("- {}".format, texts())
        | st.builds("{}: {}".format, st.sampled_from((*LISTS, "d1")), texts())
        | st.builds("{},{}".format, images, st.sampled_from(("train", "test", "validation", "Test", *TEXTS)))
        | images
        | st.builds("- {}".format, images)
        | st.builds("{},{},{},{},True,False".format, st.integers(0, 41), *[st.sampled_from(("d1", "test", ""))] * 3)
    )


SPLIT_FILES = few_changes(
    SplitFiles,
    2,
    {"form": st.sampled_from(sorted(FORMS)), "changed": st.integers(0, 6)},
    lines=st.dictionaries(st.integers(0, 200), lines(), min_size=1, max_size=3),
    doubled=st.lists(st.integers(0, 200), min_size=1, max_size=2),
    structure=st.sampled_from(STRUCTURES),
    encoding=st.sampled_from(("utf-8-sig", "latin-1", "utf-16")),
    compress=st.just(True),
    damage=edits(2000),
)


def require_whole(splits: pd.DataFrame) -> None:
    """Fail unless the splits keep every rule, checked in another way, too."""
    check_splits(splits)
    assert sorted(splits["patient_id"]) == sorted(set(PATIENT.values()))
    people = {split: [set(members(splits, split, role)) for role in ("train", "validation")] for split in SPLITS}
    groups = [*people["d1"], *people["d2"], set(patients_of_test(splits))]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert len(people["d1"][0]) == len(people["d2"][0])
    assert people["d2_half"][0] <= people["d2"][0]
    assert people["d1_tenth"][1] <= people["d1"][1]


def test_split_files_are_read_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    marker = Marker(tmp_path)

    def check(files: SplitFiles) -> None:
        names = files.write(tmp_path)

        def read() -> pd.DataFrame:
            return splits_of(INDEX, SplitSpec(files=names), 3, read_split_files(names, tmp_path))[0]

        splits = outcome(read, tmp_path, "split files")
        marker.require_absent()
        if splits is not None:
            require_whole(splits)

    fuzz(check, SPLIT_FILES)
