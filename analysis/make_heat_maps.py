"""Write a heat map of every pairing, per modality and attack, into STUDY/figures/ and print the paths."""

import argparse

from raygrid.cli.commands import guarded
from raygrid.errors import SpecError
from raygrid.report.figures import heat_map, save_figure
from raygrid.store.folder import open_study


def main() -> None:
    """Read the study folder named on the command line and draw its heat maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="study folder, or its URL")
    parser.add_argument("--epsilon", type=float, help="the smallest of the study by default")
    parser.add_argument("--condition", choices=["adversarial", "control"], default="adversarial")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    options = parser.parse_args()
    done = open_study(options.study)
    attacks = done.study.transfer.attacks
    epsilons = sorted({attack.epsilon for attack in attacks})
    epsilon = epsilons[0] if options.epsilon is None else options.epsilon
    if epsilon not in epsilons:
        raise SpecError(
            f"the study has no attack at epsilon {epsilon:g}; it has {', '.join(map('{:g}'.format, epsilons))}"
        )
    auc = done.results.auc()
    for modality in done.study.studied:
        for attack in sorted({a.name for a in attacks if a.epsilon == epsilon}):
            figure = heat_map(
                auc, modality.name, attack, epsilon, condition=options.condition, phantom=done.record.phantom
            )
            name = f"heat_map_{modality.name}_{attack}_{epsilon:g}_{options.condition}.{options.format}"
            print(save_figure(done.path, figure, name))


if __name__ == "__main__":
    guarded(main)
