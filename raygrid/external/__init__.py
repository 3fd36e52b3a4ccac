"""Targets that raygrid did not train, as modules that take raygrid's images and give its logits.

So far Python functions alone: array of images in, array of logits out.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.errors import DataError, SpecError
from raygrid.files import checksum
from raygrid.keyed import digest
from raygrid.plain import to_plain
from raygrid.spec import TargetSpec


def target_identity(spec: TargetSpec) -> str:
    """Return what identifies a target: its declaration and the file of its function. Raises SpecError without one."""
    module = spec.source.partition(":")[0]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise SpecError(f"target {spec.label!r}: there is no module {module!r}; expected one that Python can import")
    return digest({"target": to_plain(spec), "module": checksum(Path(found.origin))})


class ExternalTarget(nn.Module):
    """A Python function as a network."""

    def __init__(self, spec: TargetSpec, function: Callable[[NDArray[np.float32]], Any], num_labels: int) -> None:
        super().__init__()
        self._spec, self._function, self._num_labels = spec, function, num_labels

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, labels) on the CPU for images in [-1, 1]. Raises DataError for other answers."""
        who = f"target {self._spec.label!r}"
        black, white = self._spec.input.black, self._spec.input.white
        taken = black + (images.float().cpu().numpy() + 1) / 2 * (white - black)
        answers = np.asarray(self._function(taken.astype(np.float32)), dtype=np.float32)
        if answers.shape != (len(images), self._num_labels) or not np.isfinite(answers).all():
            raise DataError(
                f"{who} answered {answers.shape}; expected finite numbers, ({len(images)}, {self._num_labels})"
            )
        return torch.from_numpy(answers.copy())


def open_target(
    spec: TargetSpec, *, labels: Sequence[str], channels: int, image_size: int, answers_dir: Path
) -> ExternalTarget:
    """Return a module: images (batch, channel, height, width) in [-1, 1] to float32 logits (batch, labels) on the CPU.

    Raises SpecError for a function that is not there.
    """
    module, _, name = spec.source.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"target {spec.label!r}: {spec.source} cannot be had ({error})") from error
    return ExternalTarget(spec, function, len(labels)).eval()


def check_target(spec: TargetSpec, target: ExternalTarget, images: NDArray[np.uint8]) -> None:
    """Return nothing if a target answers a batch of images, uint8 (n, height, width, channel), as declared."""
    target(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1)))
