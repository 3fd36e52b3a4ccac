"""Write Tables 1 to 3 of a study as CSV (cells), Markdown and LaTeX into STUDY/results/tables/ and print the folder."""

import argparse
import json
from pathlib import Path

import pandas as pd

from raygrid import tables
from raygrid.spec import StudySpec


def main() -> None:
    """Read the study folder named on the command line and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    parser.add_argument("--epsilon", type=float, help="of Tables 2 and 3; the smallest by default")
    parser.add_argument("--instances", choices=["published", "all"], default="published", help="which twins are paired")
    options = parser.parse_args()
    facts = json.loads((options.study / "study.json").read_text())
    auc = pd.read_parquet(options.study / "results" / "auc.parquet")
    study, instances, epsilon = StudySpec.from_dict(facts["study"]), options.instances, options.epsilon
    cells = {
        1: tables.table1(auc, study=study, instances=instances),
        2: tables.table2(auc, study=study, instances=instances, reference_epsilon=epsilon),
        3: tables.table3(auc, study=study, instances=instances, reference_epsilon=epsilon),
    }
    folder = options.study / "results" / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in cells.items():
        part.assign(phantom=facts["phantom"]).to_csv(folder / f"table{number}.csv", index=False)
        (folder / f"table{number}.md").write_text(tables.to_markdown(number, part, phantom=facts["phantom"]))
        (folder / f"table{number}.tex").write_text(tables.to_latex(number, part, phantom=facts["phantom"]))
        print(tables.to_terminal(number, part, phantom=facts["phantom"]))
    print(folder)


if __name__ == "__main__":
    main()
