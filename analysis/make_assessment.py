"""Make the pages about a study's own targets again from a finished study folder: results/assessment-*.html."""

import argparse
import sys
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
    written = write_assessments(open_study(study_dir), *frames)
    for one in written:
        print(results / one["page"])
    if not written:
        sys.exit(f"{study_dir}: the study names no targets of its own (StudySpec.targets), so there is no page to make")


if __name__ == "__main__":
    main()
