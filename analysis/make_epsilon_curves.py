"""Write the plot of AUC against epsilon of a study into STUDY/figures/ and print its path."""

import argparse
import json
from pathlib import Path

import pandas as pd

from raygrid.figures import epsilon_curves
from raygrid.spec import StudySpec
from raygrid.tables import table1


def main() -> None:
    """Read the study folder named on the command line and draw its curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    parser.add_argument("--instances", choices=["published", "all"], default="published", help="which twins are paired")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    facts = json.loads((options.study / "study.json").read_text())
    auc = pd.read_parquet(options.study / "results" / "auc.parquet")
    cells = table1(auc, study=StudySpec.from_dict(facts["study"]), instances=options.instances)
    path = options.study / "figures" / f"epsilon_curves.{options.format}"
    path.parent.mkdir(parents=True, exist_ok=True)
    epsilon_curves(cells, phantom=facts["phantom"]).savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
