"""The values of a 0/1 label in tables, and the remedy for other values."""

from raygrid.errors import DataError

_TRUTH = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_WORDS = (  # (for 1, for 0) in the words of people and programs
    ("yes", "no"),
    ("y", "n"),
    ("t", "f"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("abnormal", "normal"),
    ("malignant", "benign"),
    ("present", "absent"),
    ("+", "-"),
)
_UNKNOWN = ("nan", "na", "n/a", "none", "null", "unknown", "uncertain", "?")


def read_label(place: str, column: str, text: str) -> int:
    """Return the label that a cell stands for, 0 or 1.

    Raises DataError, with `place`, the accepted values and the way to map this one, if it is none of them.
    """
    label = _TRUTH.get(text.lower())
    if label is None:
        raise DataError(
            f"{place}: expected 0 or 1 in column {column!r}, got {text!r}; {_remedy(text)} (accepted: 0, 1, 0.0, 1.0, "
            "false, true)"
        )
    return label


def _remedy(text: str) -> str:
    known = text.casefold()
    if not text or known in _UNKNOWN:
        return "raygrid has no unknown label: fill the cell, or leave out the row"
    for one, zero in _WORDS:
        if known in (one, zero):
            return f"replace {one!r} by 1 and {zero!r} by 0 in the whole column"
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return "map the values of the column to 0 and 1"
    if value == -1:
        return "choose 0 or 1 (-1 means uncertain in CheXpert, negative elsewhere), or leave out the row"
    if value in (0, 1):
        return f"write it as {value:.0f}"
    if 0 < value < 1:
        return "choose a threshold: raygrid takes labels, not probabilities"
    return "map grades or classes to 0 and 1, one column for each label"
