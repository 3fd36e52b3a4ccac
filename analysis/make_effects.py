"""Draw what each factor of a study changes into STUDY/figures/ and print the path; numbers: results/effects.csv."""

import argparse

from raygrid.analysis.effects import OUTCOMES, factor_effects
from raygrid.cli.commands import guarded
from raygrid.report.figures import effects_plot, save_figure
from raygrid.store.folder import open_study


def main() -> None:
    """Read the study folder named on the command line and draw its effects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    done = open_study(options.study)
    effects = factor_effects(done.results.auc(), OUTCOMES[0], seed=done.study.seed)
    print(save_figure(done.path, effects_plot(effects, phantom=done.record.phantom), f"effects.{options.format}"))


if __name__ == "__main__":
    guarded(main)
