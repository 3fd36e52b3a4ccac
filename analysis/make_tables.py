"""Make the paper's Tables 1 to 3 again from a finished study folder: CSV, Markdown, LaTeX and plain text."""

import argparse
from pathlib import Path

import pandas as pd

from raygrid.files import read_json
from raygrid.publish import make_tables, write_tables
from raygrid.spec import StudySpec


def main() -> None:
    """Write STUDY/results/tables/ and print the paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    study_dir: Path = parser.parse_args().study
    about = read_json(study_dir / "study.json")
    auc = pd.read_parquet(study_dir / "results" / "auc.parquet")
    cells = make_tables(auc, StudySpec.from_dict(about["study"]))
    for path in write_tables(cells, study_dir / "results" / "tables", phantom=bool(about["phantom"])):
        print(path)


if __name__ == "__main__":
    main()
