"""Make the pages about a study's own targets again from a finished study folder: results/assessment-*.html."""

import argparse
from pathlib import Path

import pandas as pd

from raygrid.publish import write_assessments
from raygrid.study import open_study


def main() -> None:
    """Write the pages of the study folder named on the command line, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    study_dir: Path = parser.parse_args().study
    results = study_dir / "results"
    frames = [pd.read_parquet(results / f"{name}.parquet") for name in ("auc", "decisions", "visibility")]
    for one in write_assessments(open_study(study_dir), *frames):
        print(results / one["page"])


if __name__ == "__main__":
    main()
