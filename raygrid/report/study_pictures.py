"""The pictures of the report, section by section."""

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from raygrid.analysis import tables
from raygrid.analysis.results import StudyResults
from raygrid.report import figures
from raygrid.report.html import Picture, png_picture, svg_picture
from raygrid.spec import displayed

Examples = Mapping[str, Mapping[str, NDArray[Any]]]  # modality → row label → image


def study_pictures(results: StudyResults, examples: Examples) -> dict[str, list[Picture]]:
    """The pictures of each section; those that compare models of the zoo only where the zoo is attacked."""
    compared = results.study.zoo_as_targets
    return {
        "examples": _examples(examples, results.record.phantom) if examples else [],
        "curves": _curves(results) if compared else [],
        "heat_maps": _heat_maps(results) if compared else [],
        "clean": _clean(results) if compared else [],
        "effects": _effects_plot(results) if compared and len(results.effects) else [],
        "operational": _perceptibility(results) if compared else [],
        "learning": _learning(results),
    }


def _examples(examples: Examples, phantom: bool) -> list[Picture]:
    alt = f"Example test images of {', '.join(examples)}: the clean image above its attacked versions."
    caption = "Figure 1. One test image per modality, clean and attacked at every ε."
    return [png_picture(figures.example_images(examples, phantom=phantom), alt, caption)]


def _curves(results: StudyResults) -> list[Picture]:
    figure = figures.epsilon_curves(results.tables[1], phantom=results.record.phantom)
    caption = "AUC against ε. Solid: adversarial; dashed: the same perturbation shuffled; dotted: clean; bands: 95%."
    return [svg_picture(figure, "Line plots of AUC against ε; numbers in Table 1.", caption)]


def _heat_maps(results: StudyResults) -> list[Picture]:
    epsilon, found = results.epsilon, []
    attacks = sorted({a.name for a in results.study.transfer.attacks if math.isclose(a.epsilon, epsilon)})
    for modality in results.tables[1]["modality"].unique():
        for attack in attacks:
            figure = figures.heat_map(results.zoo_auc, modality, attack, epsilon, phantom=results.record.phantom)
            caption = f"{modality.capitalize()}, {displayed(attack)} at ε = {epsilon:g}: AUC of every pairing."
            alt = f"{caption} Surrogates in rows, targets in columns, white-box references hatched."
            found.append(svg_picture(figure, alt, caption))
    return found


def _clean(results: StudyResults) -> list[Picture]:
    figure = figures.clean_auc_plot(results.zoo_auc, phantom=results.record.phantom)
    alt = "Forest plot of the clean AUC of every model with its interval; numbers in the table of models."
    return [svg_picture(figure, alt, "Clean AUC of every model on the test images, 95% intervals.")]


def _effects_plot(results: StudyResults) -> list[Picture]:
    relative = results.effects[results.effects["outcome"] == "relative"]
    figure = figures.effects_plot(relative, phantom=results.record.phantom)
    alt = "Forest plot of the effect of every factor on the relative AUC; numbers in the table below."
    caption = "Effect of each factor, with 95% intervals; grey if the interval contains 0."
    return [svg_picture(figure, alt, caption)]


def _perceptibility(results: StudyResults) -> list[Picture]:
    table = tables.damage_and_perceptibility(results.zoo_auc, results.perceptibility)
    figure = figures.damage_against_perceptibility(table, phantom=results.record.phantom)
    alt = "Line plots of relative AUC against structural similarity; numbers in the table below."
    caption = "Damage against perceptibility. Each line is one attack, each point one ε; means over black-box pairings."
    return [svg_picture(figure, alt, caption)]


def _learning(results: StudyResults) -> list[Picture]:
    found = []
    for modality in (modality.name for modality in results.study.studied):
        histories = {model.name: h for model, h in results.histories.items() if model.modality == modality}
        figure = figures.learning_curves(histories, title=modality, phantom=results.record.phantom)
        alt = f"Training loss and validation AUC against epoch of {len(histories)} models of {modality}."
        found.append(svg_picture(figure, alt, f"Learning curves, {modality}."))
    return found
