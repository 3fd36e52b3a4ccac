"""Sentences about images that an attack left as they were: they count as attacked, and no attack took place."""

from collections.abc import Mapping

from raygrid.analysis.results import StudyResults
from raygrid.spec import AttackSpec, TargetSpec, displayed


def unmoved_sentences(results: StudyResults, modality: str, target: TargetSpec | None = None) -> list[str]:
    """Return a sentence for each attack of the study that left images of a modality as they were; [] without any.

    Images are counted once through each surrogate. Score files of older versions have no counts.

    Args:
        target: adds the attacks whose changes this target cannot receive, because they are below one grey level.
    """
    found = []
    for attack in results.study.transfer.attacks:
        counts = results.transfer.get(modality, {}).get("unmoved", {}).get(attack.key)
        if counts is not None:
            found += _of_attack(attack, counts)
            if target is not None and target.in_levels:
                found += _below_one_level(attack, counts)
    return found


def _of_attack(attack: AttackSpec, counts: Mapping[str, int]) -> list[str]:
    name, attacked = f"{displayed(attack.name)} at ε = {attack.epsilon:g}", f"{counts['attacked']:,}"
    unmoved, broken = counts["images"], counts["any_not_finite_gradient"]
    found = []
    if unmoved:
        zero, not_finite = counts["zero_gradient"], counts["not_finite_gradient"]
        reasons = [f"{zero:,} had a gradient of zero everywhere"] if zero else []
        reasons += [f"{not_finite:,} had a non-finite gradient"] if not_finite else []
        why = f" Of these, {' and '.join(reasons)}." if reasons else ""
        found.append(f"{name} left {unmoved:,} of {attacked} images unchanged.{why}")
    if broken > counts["not_finite_gradient"]:
        found.append(
            f"{name}: {broken:,} of {attacked} images had a gradient with non-finite values; these values "
            "counted as zero."
        )
    return found


def _below_one_level(attack: AttackSpec, counts: Mapping[str, int]) -> list[str]:
    unmoved = counts["in_levels"]
    if unmoved <= counts["images"]:
        return []
    return [
        f"{displayed(attack.name)} at ε = {attack.epsilon:g}: {unmoved:,} of {counts['attacked']:,} images reached the "
        "model unchanged, because all their changes were below one grey level."
    ]
