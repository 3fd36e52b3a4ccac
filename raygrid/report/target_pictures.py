"""The pictures of the page about one target: AUC against epsilon, and images before and after an attack."""

from collections.abc import Mapping, Sequence

from raygrid.analysis.assessment import Assessment
from raygrid.report import figures
from raygrid.report.html import Picture, png_picture, svg_picture
from raygrid.report.label_words import words_of_label
from raygrid.scoring.examples import TargetExample
from raygrid.spec import AttackSpec, TargetSpec, displayed


def attack_of_examples(one: Assessment) -> tuple[str, AttackSpec] | None:
    """Return the surrogate, by name, and the attack of the example images; None without an attack."""
    return (one.surrogates[0].name, one.reference[-1]) if one.surrogates else None


def curve_pictures(one: Assessment, phantom: bool) -> list[Picture]:
    """Return the plot of the AUC against epsilon; none without an attack."""
    curve = one.curve()
    if len(curve) < 2:
        return []
    caption = (
        "AUC against ε, mean over the look-alikes. Solid: adversarial; dashed: the same changes shuffled; dotted: "
        "clean; bands: 95%."
    )
    alt = "Line plot of the model's AUC against epsilon; its numbers are those of the table of damage."
    return [svg_picture(figures.epsilon_curves(curve, phantom=phantom), alt, caption)]


def example_pictures(
    one: Assessment, examples: Sequence[TargetExample], meanings: Mapping[str, str], phantom: bool
) -> list[Picture]:
    """Return the picture of the examples, with the target's answers; none without an attack.

    Args:
        meanings: meaning of each label, where the data set has one.
    """
    chosen = attack_of_examples(one)
    if chosen is None or not examples:
        return []
    surrogate, attack = chosen
    rows = []
    for e in examples:
        name = words_of_label(e.label, meanings).replace("_", " ")
        truth = f"with {name}" if e.truth else f"without {name}"
        before, after = (_answer(one.target, p) for p in (e.clean_probability, e.attacked_probability))
        rows.append((f"{truth}: {before}", f"attacked: {after}", e.clean, e.attacked))
    extremes = (
        "an image with the finding and one without it, whose decisions the attack turned if it turned any"
        if one.target.answers_decisions
        else "the image with the finding whose probability fell most, the one without it whose probability rose most"
    )
    caption = (
        f"Test images before and after the attack, and the amplified change. From the top: {extremes}, the median with "
        f"the finding. {displayed(attack.name)} at ε = {attack.epsilon:g} through {surrogate}."
    )
    alt = "Pairs of images: " + "; ".join(f"{before}, {after}" for before, after, *_ in rows) + "."
    return [png_picture(figures.attacked_examples(rows, phantom=phantom), alt, caption)]


def _answer(target: TargetSpec, probability: float) -> str:
    """Return an answer in words; a decision is stored as a probability of 0 or 1."""
    if target.answers_decisions:
        return f"decision {'yes' if probability > 0.5 else 'no'}"
    return f"probability {probability:.2f}"
