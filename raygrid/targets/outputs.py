"""Conversion of a target's answers to logits: finite, in the study's order of labels, with the ranks of the answers."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor

from raygrid.errors import DataError, SpecError, listed, unknown_name
from raygrid.spec import AnswerSpec

DECISION_LOGIT = 40.0  # its sigmoid is 1 in float64, and that of its negative is 4e-18
_SHOWN = 30  # characters of a key in a message
_ROUNDING = 1e-5  # a probability may exceed 0 to 1 by this much; a float32 softmax exceeds it by 1e-7
_LARGEST = 1e38  # of an answer; scores are float32, and a larger logit would become infinite there
_LEAST, _MOST = np.nextafter(0.0, 1.0), np.nextafter(1.0, 0.0)  # the outermost values whose logit is finite


def label_columns(who: str, answer: AnswerSpec, labels: Sequence[str]) -> list[int]:
    """Return the index of the output of each label of the study. Raises SpecError if a label has no output."""
    outputs = answer.labels or tuple(labels)
    for name in outputs:
        if name and name not in labels:
            raise SpecError(f"{who}: {unknown_name('label', name, labels)}; use '' for an output without a label")
    absent = [label for label in labels if label not in outputs]
    if absent:
        raise SpecError(
            f"{who} has no output for the label {absent[0]!r} of {list(labels)}; name all labels in its AnswerSpec"
        )
    return [outputs.index(label) for label in labels]


def parse_answers(who: str, answers: Any, num_images: int, num_outputs: int) -> NDArray[np.float64]:
    """Return answers, an array, tensor or nested list of numbers, as float64 (images, outputs).

    Raises DataError if they are something else, the shape differs, or a value is not a finite number up to 1e38.
    """
    expected = f"expected {num_images} rows of {num_outputs} numbers"
    try:
        rows = _as_numbers(answers)
    except (Exception, SystemExit) as error:  # any class can be an answer, and raise anything as it becomes an array
        raise DataError(f"{who} answered with {_words_of(answers)}, not an array of numbers; {expected}") from error
    if rows.shape == (num_images,) and num_outputs == 1:
        rows = rows[:, None]
    if rows.shape != (num_images, num_outputs):
        raise DataError(
            f"{who} answered with an array of shape {list(rows.shape)}; {expected}, one per image and output. "
            + _remedy_of_shape(rows, num_images, num_outputs)
        )
    wrong = np.argwhere(~(np.abs(rows) <= _LARGEST))  # NaN, too
    if len(wrong):
        image, output = wrong[0]
        raise DataError(
            f"{who} answered {rows[image, output]} for image {image}, output {output}; {expected}, each at most "
            f"{_LARGEST:g}. Check its arithmetic and the range of its images"
        )
    return rows


def _as_numbers(answers: Any) -> NDArray[np.float64]:
    """Return answers as float64. Raises TypeError or ValueError if they are not numbers."""
    if isinstance(answers, (list, tuple)) and answers and all(isinstance(row, Tensor) for row in answers):
        answers = torch.stack(list(answers))
    if isinstance(answers, Tensor):
        if answers.is_complex():
            raise TypeError("complex numbers")
        return np.array(answers.detach().cpu().double().numpy())
    if isinstance(answers, np.ma.MaskedArray) and np.ma.is_masked(answers):
        raise ValueError("masked values")
    array = np.asarray(answers)
    if array.dtype.kind == "O" and not all(isinstance(value, numbers.Real) for value in array.flat):
        raise TypeError("objects")  # None would become NaN
    if array.dtype.kind not in "biufO":
        raise TypeError("texts, dates or complex numbers")  # NumPy would parse a text
    return np.array(array, dtype=np.float64)


def _words_of(answers: Any) -> str:
    """Return the kind of unusable answers, and the remedy where it is not plain."""
    if answers is None:
        return "None: return the answers"
    if isinstance(answers, Mapping):
        return f"a {type(answers).__name__} of {listed([repr(key)[:_SHOWN] for key in answers])}"
    if isinstance(answers, np.ma.MaskedArray):
        return "an array with masked values"
    kind = getattr(answers, "dtype", None)
    return f"a {type(answers).__name__}" + (f" of {kind}" if kind is not None else "")


def _remedy_of_shape(rows: NDArray[np.float64], num_images: int, num_outputs: int) -> str:
    whole = rows.size == num_images and bool(np.isin(rows, np.arange(num_outputs)).all())
    if whole and rows.shape[:1] == (num_images,):
        return "If it answers with the index of a class, declare kind='decision', exclusive=True in its AnswerSpec"
    return "If its outputs differ from the study's labels, name them in labels of its AnswerSpec"


def to_logits(who: str, rows: NDArray[np.float64], answer: AnswerSpec, columns: Sequence[int]) -> NDArray[np.float32]:
    """Return logits (images, labels) of answers (images, outputs).

    A probability p becomes log(p / (1 - p)), computed in float64. Two probabilities that differ by less than two
    millionths of p can give equal float32 logits. An exclusive output is compared with all others. For probabilities
    that sum to 1 the result is the same, but it keeps the ranks that rounding removes from 1 - p. A decision becomes
    `DECISION_LOGIT` for yes and its negative for no.

    Raises DataError if a probability is outside [0, 1], or a decision is none.
    """
    if answer.kind == "decision":
        yes = _require_decisions(who, rows, answer)
        return np.where(yes, DECISION_LOGIT, -DECISION_LOGIT)[:, columns].astype(np.float32)
    if answer.kind == "probability":
        rows = _require_probabilities(who, rows)
    logits = _against_others(rows, answer.kind) if answer.exclusive else _of_independent(rows, answer.kind)
    return logits[:, columns].astype(np.float32)


def _require_decisions(who: str, rows: NDArray[np.float64], answer: AnswerSpec) -> NDArray[np.bool_]:
    """Return whether each output is decided for, (images, outputs)."""
    if answer.exclusive:
        most = len(answer.labels) - 1
        wrong = rows[(rows < 0) | (rows > most) | (rows != np.floor(rows))]
        if wrong.size:
            raise DataError(
                f"{who} answered {wrong[0]:g}; expected the index of a class, a whole number from 0 to {most}. "
                "Name all its classes in labels of its AnswerSpec"
            )
        return np.asarray(rows == np.arange(len(answer.labels)))
    wrong = rows[(rows != 0) & (rows != 1)]
    if wrong.size:
        raise DataError(
            f"{who} answered {wrong[0]:g}; expected a decision, 0 or 1. If its answers are scores, declare "
            "kind='probability' or kind='logit' in its AnswerSpec"
        )
    return np.asarray(rows == 1)


def differentiable_logits(rows: Tensor, answer: AnswerSpec, columns: Sequence[int]) -> Tensor:
    """Return the logits of `to_logits` with gradients, (images, labels), float32, on the device of the answers.

    The derivative at a probability that was rounded to 0 or 1 is zero.
    """
    least = torch.finfo(rows.dtype).tiny
    logs = rows if answer.kind == "logit" else rows.clamp(least, 1).log()
    if answer.exclusive:
        others = [torch.cat([logs[:, :k], logs[:, k + 1 :]], dim=1).logsumexp(dim=1) for k in range(logs.shape[1])]
        return (logs - torch.stack(others, dim=1))[:, columns]
    if answer.kind == "logit":
        return logs[:, columns]
    return (logs - (1 - rows).clamp(least, 1).log())[:, columns]


def _require_probabilities(who: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(rows.min(initial=0)), float(rows.max(initial=0))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise DataError(
            f"{who} answered {low if low < -_ROUNDING else high:g}; expected a probability from 0 to 1. If its answers "
            "are logits, declare kind='logit' in its AnswerSpec"
        )
    return rows.clip(0, 1)


def _of_independent(rows: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    if kind == "logit":
        return rows
    p = rows.clip(_LEAST, _MOST)
    return np.asarray(np.log(p) - np.log1p(-p))


def _against_others(rows: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    logs = rows if kind == "logit" else np.log(rows.clip(_LEAST, None))
    others = [logsumexp(np.delete(logs, output, axis=1), axis=1) for output in range(rows.shape[1])]
    return np.asarray(logs - np.stack(others, axis=1))
