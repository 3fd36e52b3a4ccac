"""Checks of an external target before a study starts: a few of its answers against its declaration."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raygrid.data.images.scale import to_unit_range
from raygrid.errors import DataError, SpecError
from raygrid.models.checks import EXTREME_GAIN, like_probabilities
from raygrid.spec import TargetSpec
from raygrid.targets.outputs import to_logits
from raygrid.targets.target import ExternalTarget

_SUM_TOLERANCE = 0.01  # an endpoint may round its probabilities
_NEIGHBOUR_TOLERANCE = 1e-3
_ROUNDINGS = 16  # of a network in half precision, whose answers change with the size of the batch
_NUM_ALONE = 2  # images that are sent again, each alone
_ENOUGH = 8  # images of an endpoint that show whether it gives decisions; it gets only two more
_NUM_BETWEEN, _NUM_ROUNDS = 7, 4  # images between two others, each time between nearer ones


def check_target(spec: TargetSpec, target: ExternalTarget, images: NDArray[np.uint8], *, device: str = "cpu") -> None:
    """Check the answers of a target against its declaration.

    A target whose requests are metered gets one request, and two more images only if its answers look suspicious. Its
    answers are kept. For test images, which the study scores anyway, the check costs nothing.

    Args:
        images: uint8 (2 or more, height, width, channel), of the study.
        device: of the target's network, if it has one.

    Raises SpecError or DataError, which name the fields to declare, and the errors that the target raises.
    """
    if len(images) < 2:
        raise SpecError(f"got {len(images)} images; the check of a target needs 2 or more")
    few = images[: max(2, spec.endpoint.batch_size)] if spec.traits.is_metered else images
    sent = to_unit_range(few, device)
    rows = target.answers(sent)
    to_logits(target.who, rows, spec.answer, target.columns)
    _require_no_decisions(target, rows, sent)
    _require_sums(target.who, spec, rows)
    if (rows == rows[0]).all():
        _require_answers_to_vary(target, rows, sent)
    if spec.answer.kind == "logit" and like_probabilities(rows):
        _require_logits(target, rows, sent)
    if not spec.traits.is_metered:  # kept answers are looked up by image, so they could not differ
        _require_independent(target, rows, sent)


def _require_no_decisions(target: ExternalTarget, rows: NDArray[np.float64], sent: Tensor) -> None:
    """Raise DataError if a target that declares scores gives decisions: 0 or 1 (-1 or 1), also between two images.

    The probabilities of a sure classifier can round to exactly 0 and 1, but they pass through other values between two
    images with different answers.
    """
    spec = target.spec
    if spec.answer.kind == "decision" or not _like_decisions(rows):
        return
    if spec.traits.is_metered:
        pair = _different_pair(rows)
        if len(rows) < _ENOUGH or pair is None or spec.answer.kind == "logit":  # logits get two images elsewhere
            return
        seen = target.answers(_between(sent[pair[0]], sent[pair[1]], 2))
    else:
        seen = _answers_between(target, rows, sent)
    if len(seen) and _like_decisions(np.concatenate([rows, seen])):
        raise _decisions_instead_of_scores(target, rows)


def _like_decisions(rows: NDArray[np.float64]) -> bool:
    return bool(np.isin(rows, (0, 1)).all() or np.isin(rows, (-1, 1)).all())


def _answers_between(target: ExternalTarget, rows: NDArray[np.float64], sent: Tensor) -> NDArray[np.float64]:
    """Return answers to images between two with different answers, nearer and nearer to the change; or to none."""
    pair = _different_pair(rows)
    if pair is None:  # all the same
        sent = torch.cat([sent[:1], _black_and_white(sent)])
        rows = target.answers(sent)
        pair = _different_pair(rows)
    if pair is None:
        return rows[:0]
    ends, found = (sent[pair[0]], sent[pair[1]]), []
    for _ in range(_NUM_ROUNDS):
        path = torch.cat([ends[0][None], _between(*ends, _NUM_BETWEEN), ends[1][None]])
        answers = target.answers(path)
        found.append(answers)
        changes = np.flatnonzero((answers[1:] != answers[:-1]).any(axis=1))
        if not len(changes):  # the answers depend on the batch; another check finds this
            break
        ends = (path[changes[0]], path[changes[0] + 1])
    return np.concatenate(found)


def _different_pair(rows: NDArray[np.float64]) -> tuple[int, int] | None:
    """Return the positions of the first row and of the first one that differs from it; None if there is none."""
    others = np.flatnonzero((rows != rows[0]).any(axis=1))
    return (0, int(others[0])) if len(others) else None


def _between(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Return `count` images evenly between two, without them."""
    shares = torch.linspace(0, 1, count + 2, device=one.device)[1:-1]
    return torch.stack([torch.lerp(one, other, float(share)) for share in shares])


def _decisions_instead_of_scores(target: ExternalTarget, rows: NDArray[np.float64]) -> DataError:
    spec = target.spec
    values = "-1 or 1" if (rows == -1).any() else "0 or 1"
    remedy = "Declare kind='decision' in its AnswerSpec" if values == "0 or 1" else "Return 0 or 1, kind='decision'"
    if spec.answer.exclusive:
        remedy += ", without exclusive"
    return DataError(
        f"{target.who}: every answer is exactly {values}, so these are decisions; expected scores "
        f"({spec.answer.kind}). {remedy}"
    )


def _require_sums(who: str, spec: TargetSpec, rows: NDArray[np.float64]) -> None:
    sums = rows.sum(axis=1)
    to_one = bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all())
    if spec.answer.kind == "logit" and rows.shape[1] > 1 and to_one and like_probabilities(rows):
        raise DataError(
            f"{who}: every row is from 0 to 1 and sums to 1, as probabilities of exclusive classes do; expected "
            "logits. Declare kind='probability', exclusive=True in its AnswerSpec"
        )
    if spec.answer.kind == "probability" and spec.answer.exclusive and not to_one:
        raise DataError(
            f"{who}: a row sums to {sums[np.abs(sums - 1).argmax()]:.4g}; expected 1, the sum of probabilities of "
            "exclusive classes. If the outputs are independent, declare exclusive=False in its AnswerSpec"
        )


def _require_answers_to_vary(target: ExternalTarget, rows: NDArray[np.float64], sent: Tensor) -> None:
    if (target.answers(_black_and_white(sent)) == rows[0]).all():
        raise DataError(
            f"{target.who} answered {rows[0].tolist()} to each of {len(rows)} images, to a black and to a white image; "
            "expected different answers. Check black, white, mean and std of its InputSpec, and the target itself"
        )


def _require_logits(target: ExternalTarget, rows: NDArray[np.float64], sent: Tensor) -> None:
    """Raise DataError if answers to extreme images lie in [0, 1] as well.

    All logits of a briefly trained network can lie in [0, 1], but with extreme images only probabilities stay there.
    """
    spec = target.spec
    amplify = spec.received == "exact" and spec.input.dtype == "float32" and spec.traits.is_bare_network
    gains = (-EXTREME_GAIN, EXTREME_GAIN)
    extreme = torch.cat([sent[:2] * gain for gain in gains]) if amplify else _black_and_white(sent)
    answers = target.answers(extreme)
    if like_probabilities(answers):
        if _like_decisions(np.concatenate([rows, answers])) and len(rows) >= _ENOUGH:
            raise _decisions_instead_of_scores(target, rows)
        raise DataError(
            f"{target.who}: every answer is from 0 to 1, as probabilities are; expected logits. Declare "
            "kind='probability' in its AnswerSpec (the AUC stays the same)"
        )


def _require_independent(target: ExternalTarget, rows: NDArray[np.float64], sent: Tensor) -> None:
    alone = np.concatenate([target.answers(sent[i : i + 1]) for i in range(_NUM_ALONE)])
    change = np.abs(alone - rows[:_NUM_ALONE])
    if (change > max(_NEIGHBOUR_TOLERANCE, _ROUNDINGS * target.rounding) * (1 + np.abs(alone))).any():
        raise DataError(
            f"{target.who}: the answer to an image changes by up to {change.max():.3g} if the image is sent alone "
            "instead of in a batch; switch its batch normalisation to evaluation mode, and scale each image by itself"
        )


def _black_and_white(sent: Tensor) -> Tensor:
    return torch.stack([torch.full_like(sent[0], value) for value in (-1.0, 1.0)])
