"""The page about one target that raygrid did not train: a self-contained HTML page for readers outside the field."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from raygrid.analysis.assessment import (
    Assessment,
    Damage,
    Number,
    mean_difference,
    words_of_data,
    words_of_init,
)
from raygrid.analysis.number_text import fixed
from raygrid.analysis.operating_point import SPECIFICITY
from raygrid.analysis.results import StudyResults
from raygrid.data.images.scale import GREY_LEVELS_PER_UNIT
from raygrid.report.html import render
from raygrid.report.label_words import about_sensitivity, words_of_label
from raygrid.report.target_pictures import curve_pictures, example_pictures
from raygrid.report.unmoved import unmoved_sentences
from raygrid.scoring.examples import TargetExample
from raygrid.spec import ENSEMBLE, EXTERNAL, AttackSpec, DatasetSpec, TargetSpec, displayed

_ARCHITECTURES = {ENSEMBLE: "several together", EXTERNAL: "not trained by raygrid"}
_OWN_DECISIONS = (
    "The model answers with decisions, not scores. Its AUC therefore has one operating point: it is the mean of "
    "sensitivity and specificity at the model's own threshold. These two are exact; no threshold was chosen for them."
)


def page_name(target: TargetSpec) -> str:
    """Return the file name of a target's page, in results/."""
    return f"assessment-{target.modality}-{target.label}.html"


def page_link(one: Assessment) -> dict[str, str]:
    """Return the name of a target, the file name of its page and the headline of the page."""
    target = one.target
    return {"name": f"{target.modality} {target.label}", "page": page_name(target), "headline": headline(one)}


def render_target_page(results: StudyResults, one: Assessment, examples: Sequence[TargetExample]) -> str:
    """Return the page about one target; it loads nothing from outside.

    Args:
        examples: images under the attack of `attack_of_examples`.
    """
    target, study, phantom = one.target, one.study, results.record.phantom
    meanings, decided = results.samples[target.modality].label_meanings, one.decided()
    return render(
        "target_page.html.j2",
        phantom=phantom,
        target=target,
        study=study,
        title=f"{target.label.replace('_', ' ')} ({target.modality.replace('_', ' ')})",
        headline=headline(one),
        sentences=_sentences(one, meanings),
        unlearned=not one.has_learned,
        clean=one.clean,
        counts=one.auc.iloc[0],
        left_out=str(one.auc.iloc[0]["labels_left_out"]),
        findings=[row | {"words": words_of_label(row["label"], meanings)} for row in decided.to_dict("records")],
        about_sensitivity=about_sensitivity(_with_both_classes(decided), meanings),
        decisions=_decisions(one, meanings),
        specificity=SPECIFICITY,
        own_decisions=target.answers_decisions,
        damage=[_damage_row(d) for d in one.damage],
        reference=words_of_attacks(one.reference),
        surrogates=_surrogates(results, one),
        others_among_them=any(result.kind == EXTERNAL for result in one.surrogates),
        contrasts=one.paired_differences(),
        received=_received(target, one.study.modality(target.modality).dataset),
        perceptibility=one.perceptibility_of_attacks().to_dict("records"),
        curves=curve_pictures(one, phantom),
        pictures=example_pictures(one, examples, meanings, phantom),
        not_asked=_not_asked(one),
        unmoved=unmoved_sentences(results, target.modality, target),
        kind=target.traits.words,
        facts=_facts(results, one),
        attacks=study.transfer.attacks,
    )


def _facts(results: StudyResults, one: Assessment) -> dict[str, str]:
    """The origin of the numbers: label → value."""
    modality, record = one.target.modality, results.record
    manifest = results.samples[modality].manifest
    notes = manifest.get("notes", [])
    return {
        "Data": f"{manifest['title']}, fingerprint {results.folder.sample_signatures[modality][:16]}",
        **({"Notes on the data": "; ".join(notes)} if notes else {}),
        "Commit": record.git_commit or "not known",
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "Identity of the target": str(one.auc.iloc[0]["target_signature"]),
    }


def headline(one: Assessment) -> str:
    """Return the main result in one sentence, for readers who know nothing of the study."""
    clean, attacked = one.clean, one.attacked
    if attacked is None:
        return f"No attack has been scored yet. On clean images, this model's AUC is {_with_interval(clean)}."
    who = "An attacker who trains a look-alike on other patients' images"
    if any(result.kind == EXTERNAL for result in one.surrogates):
        who = "An attacker who has a look-alike"
    who += " and may change each image by "
    who += words_of_budget(one.reference[0])
    digits, loss = _digits(one), mean_difference([(clean, attacked)])
    before, after = f"{clean.value:.{digits}f}", _with_interval(attacked, digits)
    if loss.low > 0:
        little = " a little," if loss.high < one.study.margins.little else ""
        return f"{who} lowers this model's AUC{little} from {before} to {after}."
    return f"{who} does not measurably lower this model's AUC: {before} before the attack, {after} after it."


def _digits(one: Assessment) -> int:
    """Return the decimals that separate the AUC under attack from the clean one: two if enough, else three."""
    assert one.attacked is not None  # the callers check this
    return 2 if abs(one.clean.value - one.attacked.value) >= 0.01 else 3


def words_of_budget(attack: AttackSpec) -> str:
    """Return the budget of an attack in words."""
    if attack.norm == "l2":
        return f"a Euclidean length of {attack.epsilon:g} at most (images in [-1, 1])"
    return f"at most {attack.epsilon * GREY_LEVELS_PER_UNIT:.3g} of 255 grey levels in each pixel"


def words_of_attacks(attacks: Sequence[AttackSpec]) -> str:
    """Return the names of attacks with one epsilon, and that epsilon."""
    return f"{' and '.join(displayed(a.name) for a in attacks)} at ε = {attacks[0].epsilon:g}" if attacks else "none"


def _with_both_classes(decided: pd.DataFrame) -> list[str]:
    """The findings with a sensitivity and a specificity."""
    return [str(row["label"]) for row in decided.to_dict("records") if row["num_positive"] and row["num_negative"]]


def _sentences(one: Assessment, meanings: Mapping[str, str]) -> list[str]:
    """The sentences below the headline, each from the numbers of the page."""
    own = [_OWN_DECISIONS] if one.target.answers_decisions else []
    if one.attacked is None:
        return own
    surrogates, attacked, digits = one.surrogates, one.attacked, _digits(one)
    many = f"{len(surrogates)} look-alikes" if len(surrogates) > 1 else "one look-alike"
    loss = mean_difference([(one.clean, attacked)])
    found = [
        f"That is a loss of {_with_interval(loss, digits)}, mean over {many}, {words_of_attacks(one.reference)}."
        + _of_larger_changes(one)
    ]
    if len(surrogates) > 1:
        best = surrogates[0]
        found.append(
            f"Through the best of them, {best.name}, {_with_interval(best.auc, digits)} is left. It was selected and "
            "evaluated on the same images, which tends to overstate its effect."
        )
    control = one.mean(one.at_reference("control"))
    harm = mean_difference([(control, attacked)])
    found.append(
        f"The same changes, shuffled over the image, leave {_with_interval(control, digits)}: "
        + (
            "the pattern of the changes does damage beyond their size."
            if harm.low > 0
            else "no additional damage of their pattern was found."
        )
    )
    if one.white_box is not None:
        found.append(f"An attacker who has the model itself leaves {_with_interval(one.white_box)}.")
    return [*found, *own, *_decisions(one, meanings)[:1]]


def _of_larger_changes(one: Assessment) -> str:
    """The AUC left at the largest epsilon of the reference attacks, in words; "" without a larger one."""
    names, epsilon = {a.name for a in one.reference}, one.reference[0].epsilon
    larger = [d for d in one.damage if d.attack in names and d.epsilon > epsilon]
    if not larger:
        return ""
    most = max(larger, key=lambda d: (d.epsilon, -d.adversarial.value))
    (attack,) = (a for a in one.study.transfer.attacks if (a.name, a.epsilon) == (most.attack, most.epsilon))
    left = _with_interval(most.adversarial, _digits(one))
    return f" With the largest change studied, {words_of_budget(attack)}, {displayed(attack.name)} leaves {left}."


def _in_prose(label: str, meanings: Mapping[str, str]) -> str:
    return words_of_label(label, meanings).replace("_", " ")


def _decisions(one: Assessment, meanings: Mapping[str, str]) -> list[str]:
    """A sentence for each finding, in counts per hundred images; none without a threshold or an attack."""
    found = []
    for row in one.decided().to_dict("records"):
        values = [row[f"{m}_{c}"] for m in ("sensitivity", "specificity") for c in ("clean", "attacked", "best")]
        if any(math.isnan(value) for value in values):
            continue
        hits, hit, worst, clears, clear, least = (round(100 * value) for value in values)
        found.append(
            f"Of 100 images with {_in_prose(row['label'], meanings)} the model finds {hits}; under attack {hit}, "
            f"through the best look-alike {worst}. Of 100 without it, it clears {clears}; under attack {clear}, "
            f"through the best look-alike {least}."
        )
    return found


def _damage_row(damage: Damage) -> dict[str, Any]:
    return {
        "attack": displayed(damage.attack),
        "epsilon": damage.epsilon,
        "grey_levels": damage.epsilon * GREY_LEVELS_PER_UNIT,
        "num_surrogates": damage.num_surrogates,
        "mean": damage.adversarial,
        "control": damage.control,
        "best": damage.best,
    }


def _surrogates(results: StudyResults, one: Assessment) -> list[dict[str, Any]]:
    """A record of each surrogate; `own` is its AUC on validation images, where it is a model of the zoo."""
    own = {m.name: float(c["validation_auc"]) for m, c in results.cards.items() if m.modality == one.target.modality}
    return [
        {
            "name": result.name,
            "arch": _ARCHITECTURES.get(result.kind, result.arch),
            "start": words_of_init(result.init) if result.kind != EXTERNAL else "not known",
            "data": words_of_data(result.split) if result.kind != EXTERNAL else "not known",
            "own": own.get(result.name),
            "auc": result.auc,
            "loss": mean_difference([(one.clean, result.auc)]),
        }
        for result in one.surrogates
    ]


def _received(target: TargetSpec, images: DatasetSpec) -> str:
    """The form in which images of the study reach the target, in words."""
    if not target.in_levels:
        return "with the exact values of the attack, finer than the 256 grey levels of an image file"
    rounded = "each change was rounded to whole grey levels towards the clean image"
    if _is_converted_last(target, images):
        rounded += ", then each image was converted to the target's size and channels and rounded to the nearest level"
    else:
        rounded += ", so it stayed within its budget"
    if target.jpeg_quality is not None:
        return f"as JPEG files of quality {target.jpeg_quality}: {rounded}, then compressed"
    files = {"exact": "arrays of bytes", "png": "8-bit PNG files", "dicom": "8-bit DICOM files"}[target.received]
    return f"as {files}: {rounded}"


def _is_converted_last(target: TargetSpec, images: DatasetSpec) -> bool:
    """Whether raygrid converts size or channels after the change was rounded, and rounds the images once more.

    A local target opens files of the study's size, and the conversion is its own; an endpoint, or a target that takes
    arrays of bytes, gets the converted images.
    """
    size, channels = target.input.size, target.input.channels
    converts = size not in (0, images.image_size) or channels not in (0, images.channels)
    return converts and (target.traits.is_metered or target.received == "exact")


def _not_asked(one: Assessment) -> list[str]:
    """The (surrogate, attack) cells outside the query budget, a line for each attack."""
    found = []
    for attack in one.study.transfer.attacks:
        names = sorted(surrogate for surrogate, key in one.not_asked if key == attack.key)
        if names:
            found.append(f"{displayed(attack.name)} at ε = {attack.epsilon:g} through {len(names)}: {', '.join(names)}")
    return found


def _with_interval(number: Number, digits: int = 2) -> str:
    return f"{fixed(number.value, digits)} ({fixed(number.low, digits)} to {fixed(number.high, digits)})"
