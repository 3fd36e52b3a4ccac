"""`raygrid figures` and `raygrid tables`: single figures and tables of a study with results."""

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from raygrid.errors import SpecError
from raygrid.progress import tell

if TYPE_CHECKING:  # matplotlib takes a second to import, and only the figures need it
    from matplotlib.figure import Figure

    from raygrid.store.folder import StudyFolder

FORMATS = ("png", "pdf", "svg")
ALL = "all"


def add_figures(commands: Any) -> None:
    """Add the command `figures` to the subparsers of `raygrid`."""
    text = "draw a figure of a study into STUDY/figures/ and print its path"
    sub = commands.add_parser("figures", help=text, description=f"{text}. Names: {'; '.join(_described())}.")
    sub.add_argument("study", help="study folder, or its URL")
    sub.add_argument("name", choices=[*FIGURES, ALL], metavar="NAME", help=f"{', '.join(FIGURES)} or {ALL}")
    sub.add_argument("--format", choices=FORMATS, default="png", help="file format (default: %(default)s)")
    sub.add_argument("--epsilon", type=float, help="heat-maps: the attack's epsilon (default: the study's smallest)")
    sub.add_argument(
        "--condition",
        choices=["adversarial", "control"],
        default="adversarial",
        help="heat-maps: adversarial images or their shuffled controls (default: %(default)s)",
    )
    sub.add_argument(
        "--instances",
        choices=["published", "all"],
        default="published",
        help="epsilon-curves: pair the twins as the paper did, or all instances (default: %(default)s)",
    )
    sub.add_argument("--attack", help="example-images: name of an attack of the study (default: fgsm)")
    sub.set_defaults(command=_figures)


def add_tables(commands: Any) -> None:
    """Add the command `tables` to the subparsers of `raygrid`."""
    text = "write the paper's Tables 1 to 3 of a study into STUDY/results/tables/ and print the paths"
    sub = commands.add_parser("tables", help=text, description=f"{text}: CSV, Markdown, LaTeX and plain text")
    sub.add_argument("study", help="study folder, or its URL")
    sub.set_defaults(command=_tables)


def _figures(options: argparse.Namespace) -> None:
    from raygrid.report.figures import save_figure
    from raygrid.store.folder import open_study

    folder = open_study(options.study)
    for name in FIGURES if options.name == ALL else (options.name,):
        for file_name, figure in FIGURES[name](folder, options):
            tell(save_figure(folder.path, figure, f"{file_name}.{options.format}"))


def _tables(options: argparse.Namespace) -> None:
    from raygrid.analysis.results import StudyResults
    from raygrid.io.mirror import display_path_and_url
    from raygrid.store.folder import open_study
    from raygrid.study.publish import write_tables

    for path in write_tables(StudyResults(open_study(options.study))):
        tell(display_path_and_url(path))


Drawn = Iterator[tuple[str, "Figure"]]  # name of the file without its suffix, figure


def _epsilon_curves(folder: "StudyFolder", options: argparse.Namespace) -> Drawn:
    """AUC against epsilon, per modality"""
    from raygrid.analysis.tables import table1
    from raygrid.report.figures import epsilon_curves

    cells = table1(folder.results.auc(), study=folder.study, instances=options.instances)
    yield "epsilon_curves", epsilon_curves(cells, phantom=folder.record.phantom)


def _heat_maps(folder: "StudyFolder", options: argparse.Namespace) -> Drawn:
    """AUC of every pairing, one map per modality and attack"""
    from raygrid.report.figures import heat_map

    attacks = folder.study.transfer.attacks
    epsilons = sorted({attack.epsilon for attack in attacks})
    epsilon = epsilons[0] if options.epsilon is None else options.epsilon
    if epsilon not in epsilons:
        there = ", ".join(f"{value:g}" for value in epsilons)
        raise SpecError(f"the study has no attack at epsilon {epsilon:g}; it has {there}")
    auc, phantom = folder.results.auc(), folder.record.phantom
    for modality in folder.study.studied:
        for attack in sorted({a.name for a in attacks if a.epsilon == epsilon}):
            figure = heat_map(auc, modality.name, attack, epsilon, condition=options.condition, phantom=phantom)
            yield f"heat_map_{modality.name}_{attack}_{epsilon:g}_{options.condition}", figure


def _effects(folder: "StudyFolder", options: argparse.Namespace) -> Drawn:
    """effect of each factor on relative AUC"""
    from raygrid.analysis.effects import OUTCOMES, factor_effects
    from raygrid.report.figures import effects_plot

    effects = factor_effects(folder.results.auc(), OUTCOMES[0], seed=folder.study.seed)
    yield "effects", effects_plot(effects, phantom=folder.record.phantom)


def _example_images(folder: "StudyFolder", options: argparse.Namespace) -> Drawn:
    """one test image per modality, clean and attacked"""
    from raygrid.report.figures import example_images
    from raygrid.scoring.examples import craft_examples

    images = {
        modality.name: craft_examples(folder, modality.name, folder.samples(modality.name), options.attack)
        for modality in folder.study.studied
    }
    name = f"example_images{f'_{options.attack}' if options.attack else ''}"
    yield name, example_images(images, phantom=folder.record.phantom)


FIGURES: dict[str, Callable[["StudyFolder", argparse.Namespace], Drawn]] = {
    "epsilon-curves": _epsilon_curves,
    "heat-maps": _heat_maps,
    "effects": _effects,
    "example-images": _example_images,
}


def _described() -> list[str]:
    return [f"{name} ({draw.__doc__})" for name, draw in FIGURES.items()]
