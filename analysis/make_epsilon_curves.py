"""Write the plot of AUC against epsilon of a study into STUDY/figures/ and print its path."""

import argparse

from raygrid.analysis.tables import table1
from raygrid.cli.commands import guarded
from raygrid.report.figures import epsilon_curves, save_figure
from raygrid.store.folder import open_study


def main() -> None:
    """Read the study folder named on the command line and draw its curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    parser.add_argument("--instances", choices=["published", "all"], default="published", help="which twins are paired")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    done = open_study(options.study)
    cells = table1(done.results.auc(), study=done.study, instances=options.instances)
    print(
        save_figure(done.path, epsilon_curves(cells, phantom=done.record.phantom), f"epsilon_curves.{options.format}")
    )


if __name__ == "__main__":
    guarded(main)
