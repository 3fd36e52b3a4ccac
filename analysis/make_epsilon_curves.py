"""Write the plot of AUC against epsilon of a study into STUDY/figures/ and print its path."""

import argparse

from raygrid.analysis.tables import table1
from raygrid.cli.commands import guarded
from raygrid.report.figures import epsilon_curves
from raygrid.store.finished import open_finished


def main() -> None:
    """Read the study folder named on the command line and draw its curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    parser.add_argument("--instances", choices=["published", "all"], default="published", help="which twins are paired")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    done = open_finished(options.study)
    cells = table1(done.frame("auc"), study=done.study, instances=options.instances)
    print(done.save(epsilon_curves(cells, phantom=done.phantom), f"epsilon_curves.{options.format}"))


if __name__ == "__main__":
    guarded(main)
