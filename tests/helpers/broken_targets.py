"""Targets that fail in the ways in which code of others fails, and targets that answer with decisions."""

import asyncio
import sys
from typing import Any

import numpy as np
import pandas as pd
import torch
from target_models import LABELS, make_network, scores
from torch import Tensor, nn

from raygrid.errors import StoreError


def raises(error: BaseException) -> Any:
    def answer(images: np.ndarray) -> np.ndarray:
        raise error

    return answer


class WordlessError(Exception):
    """An error without a text."""


class UnprintableError(Exception):
    """An error whose text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class ExitingArray:
    """An answer that ends the process when it becomes an array."""

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        sys.exit(4)


runtime_error = raises(RuntimeError("the licence has run out\nsecond line"))
memory_error = raises(MemoryError())
unprintable = raises(UnprintableError())
cancelled = raises(asyncio.CancelledError())
wordless = raises(WordlessError())
their_store_error = raises(StoreError("the study is gone"))
stop_iteration = raises(StopIteration())
recursion_error = raises(RecursionError("maximum depth"))
interrupt = raises(KeyboardInterrupt())
end_of_script = raises(SystemExit(3))


def none(images: np.ndarray) -> None:
    scores(images)


def exiting_array(images: np.ndarray) -> ExitingArray:
    return ExitingArray()


def dictionary(images: np.ndarray) -> dict[str, Any]:
    return {"logits": scores(images)}


def texts(images: np.ndarray) -> list[list[str]]:
    return [[f"{value:.3f}" for value in row] for row in scores(images)]


def missing_value(images: np.ndarray) -> list[list[Any]]:
    return [[None, *row[1:]] for row in scores(images).tolist()]


def ragged(images: np.ndarray) -> list[list[float]]:
    return [row[: 1 + k % 2] for k, row in enumerate(scores(images).tolist())]


def masked(images: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_less(scores(images), 0)


def infinite(images: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(LABELS)) == 1, np.inf, scores(images))


def too_large(images: np.ndarray) -> np.ndarray:
    return scores(images).astype(np.float64) * 1e200


def complex_numbers(images: np.ndarray) -> np.ndarray:
    return scores(images) + 0j


def one_short(images: np.ndarray) -> np.ndarray:
    return scores(images)[1:]


def extra_axis(images: np.ndarray) -> np.ndarray:
    return scores(images)[None]


def generator(images: np.ndarray) -> Any:
    return (row for row in scores(images))


def list_of_tensors(images: np.ndarray) -> list[Tensor]:
    return list(torch.from_numpy(scores(images)).requires_grad_())


def frame(images: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(scores(images), columns=list(LABELS))


def objects(images: np.ndarray) -> np.ndarray:
    return scores(images).astype(object)


def unmasked(images: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_invalid(scores(images))


class Failing(nn.Module):
    """A network with the weights of the sound one, which fails when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()

    def forward(self, images: Tensor) -> Tensor:
        raise ValueError("negative dimension")


class Tuple(Failing):
    """A network with two outputs."""

    def forward(self, images: Tensor) -> Any:
        return self.network(images), images


class NoDerivative(torch.autograd.Function):
    """An operation whose derivative fails."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError("no derivative of this operation")


class OneWay(Failing):
    """A network that fails when its gradient is taken."""

    def forward(self, images: Tensor) -> Any:
        return NoDerivative.apply(self.network(images))


def failing_factory() -> nn.Module:
    raise FileNotFoundError("config.yaml")


def exiting_factory() -> nn.Module:
    sys.exit("usage: train.py --data DATA")


# --- decisions


def decisions(images: np.ndarray) -> np.ndarray:
    return (scores(images) > 0).astype(np.int64)


def booleans(images: np.ndarray) -> np.ndarray:
    return scores(images) > 0


def classes(images: np.ndarray) -> np.ndarray:
    return scores(images).argmax(axis=1)


def column_of_classes(images: np.ndarray) -> np.ndarray:
    return classes(images)[:, None]


def classes_from_7(images: np.ndarray) -> np.ndarray:
    return classes(images) + 7


def one_hot(images: np.ndarray) -> np.ndarray:
    return np.eye(len(LABELS))[classes(images)]


def signs(images: np.ndarray) -> np.ndarray:
    return np.where(scores(images) > 0, 1.0, -1.0)


def sure(images: np.ndarray) -> np.ndarray:
    """Return probabilities that have rounded to 0 or 1 for nearly every image."""
    return 1 / (1 + np.exp(-(1e3 * scores(images).astype(np.float64)).clip(-700, 700)))


def sure_decisions(images: np.ndarray) -> np.ndarray:
    """Return the same probabilities, in float32: each is exactly 0 or 1 for coarse images."""
    with np.errstate(under="ignore"):
        return (1 / (1 + np.exp(-(1e3 * scores(images)).clip(-87, 87)))).round(30).astype(np.float32)
