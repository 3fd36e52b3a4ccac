"""Write a heat map of every pairing, per modality and attack, into STUDY/figures/ and print the paths."""

import argparse
import json
from pathlib import Path

import pandas as pd

from raygrid.figures import heat_map
from raygrid.spec import StudySpec


def main() -> None:
    """Read the study folder named on the command line and draw its heat maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    parser.add_argument("--epsilon", type=float, help="the smallest of the study by default")
    parser.add_argument("--condition", choices=["adversarial", "control"], default="adversarial")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    facts = json.loads((options.study / "study.json").read_text())
    auc = pd.read_parquet(options.study / "results" / "auc.parquet")
    study = StudySpec.from_dict(facts["study"])
    epsilon = options.epsilon or min(attack.epsilon for attack in study.transfer.attacks)
    folder = options.study / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for modality in study.studied:
        for attack in sorted({a.name for a in study.transfer.attacks}):
            figure = heat_map(
                auc, modality.name, attack, epsilon, condition=options.condition, phantom=facts["phantom"]
            )
            name = f"heat_map_{modality.name}_{attack}_{epsilon:g}_{options.condition}.{options.format}"
            figure.savefig(folder / name, dpi=150)
            print(folder / name)


if __name__ == "__main__":
    main()
