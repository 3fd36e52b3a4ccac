"""The errors of raygrid, and hints for misspelt names.

RaygridError
├── SpecError                 a declaration is wrong (also a ValueError)
├── DataError                 an image, a label file or a split is damaged or inconsistent
│   └── MissingDataError      files of a data set are absent
├── WeightsError              a file or package of weights is absent, or does not fit
├── TrainingError             a training cannot give a usable model
├── StoreError                a study folder is in use, damaged, incomplete or cannot be written
│   └── BudgetSpentError      an HTTP target's budget of images is spent
├── EndpointError             an HTTP target does not answer, or refuses
├── ClusterError              Ray cannot provide the resources of the study
└── TrackingError             the MLflow store does not answer, or refuses

Catch RaygridError to handle all of them; the message names the place and the remedy. Any other exception is a defect
of raygrid or of a library. Finished work stays on disk after every error: fix the cause, then run the study again.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Self

_MOST_LISTED = 24  # known names
_LONGEST_LINE = 2000  # characters of a message
_LEFT_OUT = " … "
_LONGEST_QUOTE = 300  # characters of another exception's text


class RaygridError(Exception):
    """Base class of all errors of raygrid. The message ends with a remedy.

    Each argument is one line of the message. A line often quotes a damaged file or a reply. Line breaks, control and
    invisible characters in it are therefore shown as escapes, such as \\n and \\x1b, and the middle of a line of more
    than 2,000 characters is left out.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*(_shortened(one_line(_shortened(line))) for line in lines))

    def __str__(self) -> str:
        return "\n".join(self.lines)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the message; for further lines, raise another error with these and more."""
        return self.args

    def with_context(self, before: str = "", after: str = "") -> Self:
        """Return an error of the same class with `before` in front of its first line and `after` behind its last."""
        lines = [*self.lines] or [""]
        lines[0] = before + lines[0]
        lines[-1] += after
        return type(self)(*lines)


class SpecError(RaygridError, ValueError):
    """A study, model, attack, target or data set is declared wrongly.

    Raised while the declaration is built, or before work starts if the check needs files. Correct the declaration.
    """


class DataError(RaygridError):
    """An image, a label file, a split or a target's answer is damaged or inconsistent.

    Raised while the data or the answers are read. Fix or re-download the named file.
    """


class MissingDataError(DataError):
    """Files of a data set are absent.

    Raised before images are read; the message lists all absent files at once. Download them, or correct the data root.
    """


class WeightsError(RaygridError):
    """A file, package or download of weights is absent or unsafe, or does not fit the network.

    Raised before training for initial weights, and before scoring for targets that raygrid did not train. Provide the
    file, install the package, or name another source.
    """


class TrainingError(RaygridError):
    """A training cannot give a usable model: the loss is not finite, or a class is absent.

    Training again fails in the same way. Change the recipe, the split or the data.
    """


class StoreError(RaygridError):
    """A study folder is in use by another driver, is damaged or incomplete, or cannot be read or written.

    Raised by everything that reads or writes STUDY/, on disk or in object storage. Do as the message says: wait for the
    other driver, free disk space, check the credentials, or delete the damaged file and run the study again.
    """


class BudgetSpentError(StoreError):
    """A request would exceed an HTTP target's budget, `max_images`.

    Raised before anything is sent; the answers received so far are stored. Raise the budget to continue.
    """


class EndpointError(RaygridError):
    """An HTTP target does not answer, or refuses.

    Raised after the declared retries; the answers received so far are stored. Fix the endpoint, its address or the
    credentials, then run the study again.
    """


class ClusterError(RaygridError):
    """Ray cannot be reached, cannot provide the CPUs or GPUs of the study, or lost its workers.

    Start or enlarge the cluster, or lower the requirements; then run the study again.
    """


class TrackingError(RaygridError):
    """The MLflow store does not answer, or refuses.

    Nothing is lost: the study folder holds all that MLflow would receive. Repeat the upload with `raygrid track`.
    """


def one_line(text: str) -> str:
    r"""Return a text on one line: line breaks, control and invisible characters as escapes.

    >>> print(one_line("Modality\nCT\x1b"))
    Modality\nCT\x1b
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _shortened(line: str) -> str:
    half = (_LONGEST_LINE - len(_LEFT_OUT)) // 2  # the place is at the start, the remedy at the end
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]}{_LEFT_OUT}{line[-half:]}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name of some kind, with similar known names.

    >>> unknown_name("attack", "fsgm", ["fgsm", "pgd"])
    "unknown attack 'fsgm'; did you mean 'fgsm'? Known: fgsm, pgd"
    """
    names = sorted(known)
    hint = did_you_mean(name, names)
    first = ", ".join(names[:_MOST_LISTED]) or "none"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"unknown {kind} {name!r};{hint} Known: {first}{more}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " did you mean ...?" with the known names similar to `name`; "" if there are none."""
    near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def listed(names: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """Return the first `limit` names as one text, with an ellipsis if there are more.

    >>> listed(["p1", "p2", "p3"], limit=2)
    'p1, p2, …'
    """
    return separator.join([*names[:limit], *(["…"] if len(names) > limit else [])])


def in_one_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text."""
    try:
        text = str(error)
    except Exception:  # foreign code can fail here, too
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:_LONGEST_QUOTE]}" if lines else type(error).__name__
