"""The finding that sensitivity and specificity are about, in words."""

import re
from collections.abc import Mapping, Sequence

_SAYS_NOTHING = re.compile(r"(class|label|target)(_?\d+)?|positive|y", re.IGNORECASE)  # the finding has no name


def words_of_label(label: str, meanings: Mapping[str, str]) -> str:
    """Return a label with the meaning of a 1, if the data set gives one.

    >>> words_of_label("class_1", {"class_1": "normal, benign"})
    'class_1 (normal, benign)'
    """
    return f"{label} ({meanings[label]})" if meanings.get(label) else label


def about_sensitivity(labels: Sequence[str], meanings: Mapping[str, str]) -> str:
    """Return sentences that say of which images sensitivity and specificity are shares.

    Args:
        labels: the findings with images of both classes; of others both shares are undefined.
        meanings: label → what a 1 stands for, where it is known.
    """
    if not labels:
        return "No finding has images of both classes, so neither sensitivity nor specificity is defined."
    words = [words_of_label(label, meanings) for label in labels]
    if len(words) == 1:
        said = f"Sensitivity is the share of the images labelled {words[0]} that a model classifies as positive. "
        said += "Specificity is the share of the other images that it classifies as negative."
    else:
        said = "Sensitivity is the share of the images with a finding that a model classifies as positive. Specificity "
        said += "is the share of the images without it that it classifies as negative. Each finding counts separately: "
        said += f"{', '.join(words)}."
    unknown = [label for label in labels if _SAYS_NOTHING.fullmatch(label) and not meanings.get(label)]
    if unknown:
        said += f" The data set does not say whether {' or '.join(unknown)} is a disease."
    return said
