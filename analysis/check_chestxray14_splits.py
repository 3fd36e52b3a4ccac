"""Check the splits of all 112,120 ChestX-ray14 images, drawn and published, against the paper's numbers.

Needs the metadata only: Data_Entry_2017_v2020.csv and the published d0 to d3_filenames.yml, packed (.gz) or not, in
one folder. Prints patients, images and the prevalence of each finding per split. Exits 1 if a number differs.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from raygrid.cli.exit_status import guarded
from raygrid.data.datasets import Index
from raygrid.data.datasets.chestxray14 import FINDINGS
from raygrid.data.splits.parse import SplitFile, entries_of, read_split_files
from raygrid.data.splits.resolve import splits_of
from raygrid.data.splits.rules import ROLES, check_splits, members, test_patients
from raygrid.errors import DataError
from raygrid.spec import SPLITS, SplitSpec

PUBLISHED = {"d1": "d1", "d2": "d2", "d2_half": "d3", "d1_tenth": "d0"}  # raygrid's name -> the authors'
EXPECTED = {  # training and validation patients; docs/explanation/protocol.md, Splits
    "d1": (12604, 1400),
    "d2": (12604, 1400),
    "d2_half": (6302, 1400),
    "d1_tenth": (1260, 140),
}
# images, patients; docs/explanation/protocol.md, Data
EXPECTED_PARTS = {"development": (86524, 28008), "test": (25596, 2797)}
SEED = 0


def main() -> None:
    """Print the tables of the drawn and the published splits; exit with what differs from the protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the metadata, or a folder with chestxray14/ or data/chestxray14/")
    folder = metadata_dir(parser.parse_args().folder)
    files = read_split_files(
        {name: found(folder, f"{theirs}_filenames.yml") for name, theirs in PUBLISHED.items()}, folder
    )
    index = read_index(folder / found(folder, "Data_Entry_2017_v2020.csv"), files["d1"])
    wrong = differences("official lists", parts(index.table), EXPECTED_PARTS)
    for title, used in (("drawn", {}), ("published", files)):
        splits, _ = splits_of(index, SplitSpec(), SEED, used)
        check_splits(splits)
        print(f"\n{title} splits: patients, images, and the share of images with each finding (%)")
        print(table(index, splits).to_string())
        counts = {s: (len(members(splits, s, "train")), len(members(splits, s, "validation"))) for s in EXPECTED}
        wrong += differences(f"{title} splits", counts, EXPECTED)
        if set(test_patients(splits)) != set(index.table["patient_id"][index.table["part"] == "test"]):
            wrong.append(f"{title} splits: the test patients are not those of the official test list")
    if wrong:
        raise SystemExit("\n".join(["\nNOT as in the protocol:", *wrong]))
    print(
        "\nEvery number is that of the protocol; no patient is in two of d1, d2 and test, or in both parts of a split."
    )


def metadata_dir(folder: Path) -> Path:
    """Return the folder that holds Data_Entry: `folder` itself, its chestxray14/ or its data/chestxray14/."""
    candidates = [folder, folder / "chestxray14", folder / "data" / "chestxray14"]
    for candidate in candidates:
        if any(candidate.glob("Data_Entry_2017_v2020.csv*")):
            return candidate
    raise SystemExit(f"no Data_Entry_2017_v2020.csv in any of {', '.join(map(str, candidates))}")


def found(folder: Path, name: str) -> str:
    """Return `name`, or `name`.gz if only that is in `folder`."""
    return name if (folder / name).exists() else f"{name}.gz"


def read_index(entries: Path, d1: SplitFile) -> Index:
    """Return the index of the loader, without images; `testIDs` of d1 is the official test list."""
    rows = pd.read_csv(entries, dtype=str)
    labels = rows["Finding Labels"].str.lower().str.replace(" ", "_").str.get_dummies("|")
    unknown = set(labels) - {*FINDINGS, "no_finding"}
    if unknown or set(FINDINGS) - set(labels):
        raise DataError(f"{entries}: expected the findings {FINDINGS}, got {list(labels)}")
    tested = {f"{entry.name}.png" for entry in entries_of(d1, None) if entry.role == "test"}
    part = np.where(rows["Image Index"].isin(tested), "test", "development")
    about = pd.DataFrame({"image_id": rows["Image Index"], "patient_id": rows["Patient ID"], "part": part})
    return Index(FINDINGS, about.assign(locator="", content="").join(labels[list(FINDINGS)].astype(np.uint8)))


def parts(images: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return part -> (images, patients) of the official division."""
    return {str(part): (len(rows), rows["patient_id"].nunique()) for part, rows in images.groupby("part")}


def table(index: Index, splits: pd.DataFrame) -> pd.DataFrame:
    """Return one column per (split, role): patients, images, and the share of images with each finding."""
    people = {f"{s} {role}": members(splits, s, role) for s in reversed(SPLITS) for role in ROLES}
    columns = {}
    for name, patients in {**people, "test": test_patients(splits)}.items():
        images = index.table[index.table["patient_id"].isin(patients)]
        shares = (100 * images[list(FINDINGS)].mean()).map("{:.2f}".format)
        columns[name] = pd.concat([pd.Series({"patients": f"{len(patients):,}", "images": f"{len(images):,}"}), shares])
    return pd.DataFrame(columns).rename(columns=lambda name: name.replace("validation", "val"))


def differences(what: str, got: dict[str, tuple[int, int]], expected: dict[str, tuple[int, int]]) -> list[str]:
    """Return a line for each entry that is not as expected."""
    return [f"{what}: {n} is {got.get(n)}, expected {pair}" for n, pair in expected.items() if got.get(n) != pair]


if __name__ == "__main__":
    guarded(main)
