"""Whether an external target answers as it was declared to, asked of a few images before anything starts."""

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
_NUM_ALONE = 2  # images that are asked again without their neighbours


def check_target(spec: TargetSpec, target: ExternalTarget, images: NDArray[np.uint8], *, device: str = "cpu") -> None:
    """Return nothing if a target answers as it was declared to.

    An HTTP target is asked one request, and two images more only where its answers leave a doubt. Its answers are kept:
    given test images, which the study asks anyway, the check costs nothing.

    Args:
        images: uint8 (2 or more, height, width, channel), of the study.
        device: where the target's network lies, if it has one.

    Raises SpecError or DataError that says what is wrong and what to declare; and what the target raises.
    """
    if len(images) < 2:
        raise SpecError(f"a target is checked by 2 images or more, got {len(images)}")
    few = images[: max(2, spec.endpoint.batch_size)] if spec.kind == "http" else images
    shown = to_unit_range(few, device)
    rows = target.answers(shown)
    to_logits(target.who, rows, spec.answer, target.columns)
    _require_sums(target.who, spec, rows)
    if (rows == rows[0]).all():
        _require_an_image_to_matter(target, rows, shown)
    if spec.answer.kind == "logit" and like_probabilities(rows):
        _require_logits(target, shown)
    if spec.kind != "http":  # its answers are kept by image, so none could differ
        _require_independent(target, rows, shown)


def _require_sums(who: str, spec: TargetSpec, rows: NDArray[np.float64]) -> None:
    sums = rows.sum(axis=1)
    to_one = bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all())
    if spec.answer.kind == "logit" and rows.shape[1] > 1 and to_one and like_probabilities(rows):
        raise DataError(
            f"{who}: every row is from 0 to 1 and sums to 1: these are probabilities of exclusive classes, where "
            "logits were declared; declare kind='probability', exclusive=True in its AnswerSpec"
        )
    if spec.answer.kind == "probability" and spec.answer.exclusive and not to_one:
        raise DataError(
            f"{who}: probabilities of exclusive classes were declared, and a row sums to "
            f"{sums[np.abs(sums - 1).argmax()]:.4g}; if its outputs stand each alone, declare exclusive=False"
        )


def _require_an_image_to_matter(target: ExternalTarget, rows: NDArray[np.float64], shown: Tensor) -> None:
    if (target.answers(_black_and_white(shown)) == rows[0]).all():
        raise DataError(
            f"{target.who} answered {rows[0].tolist()} to each of {len(rows)} images, to black and to white: it does "
            "not look at them; see to black, white, mean and std of its InputSpec, and to the target"
        )


def _require_logits(target: ExternalTarget, shown: Tensor) -> None:
    """Raise DataError if images far from any that was seen leave the answers in [0, 1] too.

    The logits of a hardly trained network can all lie there, but only a probability stays there.
    """
    spec = target.spec
    amplify = spec.received == "exact" and spec.input.dtype == "float32" and spec.kind not in ("callable", "http")
    extreme = (
        torch.cat([shown[:2] * gain for gain in (-EXTREME_GAIN, EXTREME_GAIN)]) if amplify else _black_and_white(shown)
    )
    if like_probabilities(target.answers(extreme)):
        raise DataError(
            f"{target.who}: every answer is from 0 to 1, so these look like probabilities, where logits were declared; "
            "declare kind='probability' in its AnswerSpec (an AUC comes out the same)"
        )


def _require_independent(target: ExternalTarget, rows: NDArray[np.float64], shown: Tensor) -> None:
    alone = np.concatenate([target.answers(shown[i : i + 1]) for i in range(_NUM_ALONE)])
    change = np.abs(alone - rows[:_NUM_ALONE])
    if (change > _NEIGHBOUR_TOLERANCE * (1 + np.abs(alone))).any():
        raise DataError(
            f"{target.who}: an image asked alone is answered otherwise than beside others, by up to "
            f"{change.max():.3g}; its batch normalisation is in training mode, or it scales each batch by itself"
        )


def _black_and_white(shown: Tensor) -> Tensor:
    return torch.stack([torch.full_like(shown[0], value) for value in (-1.0, 1.0)])
