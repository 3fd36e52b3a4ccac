"""Make the figures of a finished study folder as SVG and PDF: heat maps of all pairings, curves, clean AUCs."""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from raygrid import figures, tables
from raygrid.files import read_json
from raygrid.spec import StudySpec


def figures_of(auc: pd.DataFrame, study: StudySpec, *, phantom: bool) -> dict[str, Figure]:
    """Return every figure by file name."""
    cells = tables.table1(auc, study=study)
    made = {
        "auc_against_epsilon": figures.epsilon_curves(cells, phantom=phantom),
        "clean_auc": figures.clean_auc_plot(auc, phantom=phantom),
    }
    for modality in study.studied:
        for attack in study.transfer.attacks:
            name = f"heat_map_{modality.name}_{attack.name}_{attack.epsilon:g}"
            made[name] = figures.heat_map(auc, modality.name, attack.name, attack.epsilon, phantom=phantom)
    return made


def main() -> None:
    """Write STUDY/results/figures/ and print the paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study folder")
    study_dir: Path = parser.parse_args().study
    about = read_json(study_dir / "study.json")
    auc = pd.read_parquet(study_dir / "results" / "auc.parquet")
    folder = study_dir / "results" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures_of(auc, StudySpec.from_dict(about["study"]), phantom=bool(about["phantom"])).items():
        for suffix in ("svg", "pdf"):
            figure.savefig(folder / f"{name}.{suffix}")
            print(folder / f"{name}.{suffix}")


if __name__ == "__main__":
    main()
