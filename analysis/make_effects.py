"""Draw what each factor of a study changes into STUDY/figures/ and print the path; numbers: results/effects.csv."""

import argparse
from pathlib import Path

import pandas as pd

from raygrid.effects import OUTCOMES, factor_effects
from raygrid.figures import effects_plot
from raygrid.files import read_json


def main() -> None:
    """Read the study folder named on the command line and draw its effects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    about = read_json(options.study / "study.json")
    auc = pd.read_parquet(options.study / "results" / "auc.parquet")
    effects = factor_effects(auc, OUTCOMES[0], seed=about["study"]["seed"])
    path = options.study / "figures" / f"effects.{options.format}"
    path.parent.mkdir(parents=True, exist_ok=True)
    effects_plot(effects, phantom=about["phantom"]).savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
