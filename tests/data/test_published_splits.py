"""The script that checks the splits of the real metadata, on small generated metadata."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

from raygrid.data.datasets.chestxray14 import FINDINGS
from raygrid.data.splits.draw import assign_splits
from raygrid.data.splits.rules import members
from raygrid.data.splits.rules import test_patients as patients_of_test
from raygrid.spec import SplitSpec

_FILE = Path(__file__).resolve().parents[2] / "analysis" / "check_chestxray14_splits.py"
_SPEC = importlib.util.spec_from_file_location("check_chestxray14_splits", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
script = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(script)

COUNTS = {"d1": (36, 4), "d2": (36, 4), "d2_half": (18, 4), "d1_tenth": (3, 1)}  # of 80 patients for development


@pytest.fixture
def shared(tmp_path) -> Path:
    """Metadata of 100 patients with one image each, and lists that were drawn with another seed."""
    folder = tmp_path / "data" / "chestxray14"
    folder.mkdir(parents=True)
    titles = [*(name.replace("_", " ").title() for name in FINDINGS), "No Finding"]
    rows = [(f"{i:08d}_000.png", titles[i % len(titles)], str(i)) for i in range(100)]
    entries = pd.DataFrame(rows, columns=["Image Index", "Finding Labels", "Patient ID"])
    entries.to_csv(folder / "Data_Entry_2017_v2020.csv.gz", index=False)
    table = pd.DataFrame({"patient_id": entries["Patient ID"], "hernia": 0})
    table["part"] = ["test" if i % 5 == 0 else "development" for i in range(100)]
    splits = assign_splits(table, ("hernia",), SplitSpec(), 9)
    for name, theirs in script.PUBLISHED.items():
        roles = {"testIDs": patients_of_test(splits), "trainIDs": members(splits, name, "train")}
        roles["valIDs"] = members(splits, name, "validation")
        text = "".join(f"{k}:\n" + "".join(f"- '{int(p):08d}_000'\n" for p in v) for k, v in roles.items())
        (folder / f"{theirs}_filenames.yml").write_text(text)
    return tmp_path


def run(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["check", str(folder)])
    script.main()


def test_tables_without_differences_are_printed(shared, monkeypatch, capsys):
    monkeypatch.setattr(script, "EXPECTED", COUNTS)
    monkeypatch.setattr(script, "EXPECTED_PARTS", {"development": (80, 80), "test": (20, 20)})
    run(shared, monkeypatch)
    out = capsys.readouterr().out
    assert out.count("pleural_thickening") == 2  # drawn, published
    assert "Every number is that of the protocol" in out


def test_differences_from_the_protocol_are_named(shared, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        run(shared, monkeypatch)
    lines = str(caught.value).splitlines()
    assert "official lists: development is (80, 80), expected (86524, 28008)" in lines
    assert "drawn splits: d1 is (36, 4), expected (12604, 1400)" in lines
    assert "published splits: d1_tenth is (3, 1), expected (1260, 140)" in lines


def test_missing_metadata_is_named(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"no Data_Entry_2017_v2020\.csv in any of"):
        run(tmp_path, monkeypatch)
