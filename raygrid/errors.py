"""The errors raygrid raises on purpose, and the text that helps with a misspelt name.

RaygridError
├── SpecError         a study is declared wrongly (also a ValueError)
├── DataError         an image, a label file or a split is not as it must be
│   └── MissingDataError   files that a data set needs are not there
├── WeightsError      pre-trained weights cannot be had or do not fit
├── TrainingError     a training went wrong (a loss that is not finite, too little data)
├── EndpointError     an HTTP target does not answer, or refuses
├── StoreError        a study folder is locked, damaged or incomplete
│   └── BudgetSpentError   an HTTP target was sent as many images as the study allows
├── ClusterError      the Ray cluster cannot give what the study asks for
└── TrackingError     the MLflow store does not answer
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_MOST_LISTED = 24  # known names


class RaygridError(Exception):
    """Base of every error that raygrid raises for its user; the message says how to go on."""


class SpecError(RaygridError, ValueError):
    """A study, model, attack or data set was declared wrongly."""


class DataError(RaygridError):
    """An image, a label file or a split is not as it must be."""


class MissingDataError(DataError):
    """Files that a data set needs are not where they were looked for."""


class WeightsError(RaygridError):
    """Pre-trained weights cannot be had, or do not fit the architecture."""


class TrainingError(RaygridError):
    """A training went wrong in a way that running it again would repeat."""


class StoreError(RaygridError):
    """A study folder is held by another driver, damaged, or lacks what was asked of it."""


class BudgetSpentError(StoreError):
    """An HTTP target was sent as many images as the study allows; every answer so far is kept."""


class EndpointError(RaygridError):
    """An HTTP target does not answer, or refuses; every answer so far is kept."""


class ClusterError(RaygridError):
    """The Ray cluster cannot give what the study asks for."""


class TrackingError(RaygridError):
    """The MLflow store does not answer, or refuses; the study folder has all that it would have got."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not known, with near misses.

    >>> unknown_name("attack", "fsgm", ["fgsm", "pgd"])
    "unknown attack 'fsgm'; did you mean 'fgsm'? Known: fgsm, pgd"
    """
    names = sorted(known)
    hint = did_you_mean(name, names)
    first = ", ".join(names[:_MOST_LISTED]) or "none"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"unknown {what} {name!r};{hint} Known: {first}{more}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " did you mean ...?" with the near misses of `name`, empty without any."""
    near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def listed(names: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """Return the first `limit` names as one text, with an ellipsis if there are more.

    >>> listed(["p1", "p2", "p3"], limit=2)
    'p1, p2, …'
    """
    return separator.join([*names[:limit], *(["…"] if len(names) > limit else [])])
