"""An external target as a network: images in [-1, 1] to logits, without gradients."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.errors import WeightsError
from raygrid.spec import TargetSpec
from raygrid.targets.backends import BACKENDS, Ask, Context
from raygrid.targets.foreign_errors import named_errors
from raygrid.targets.outputs import label_columns, parse_answers, to_logits
from raygrid.targets.preprocessing import require_channels


class ExternalTarget(nn.Module):
    """A classifier that raygrid did not train; images (batch, channel, height, width) in [-1, 1] to logits on the CPU.

    A PyTorch network in it follows `.to(device)`. Other kinds receive arrays on the CPU.
    """

    def __init__(self, spec: TargetSpec, ask: Ask, labels: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.ask = spec, ask
        self.who = f"target {spec.label!r}"
        self.columns = label_columns(self.who, spec.answer, labels)
        self.num_outputs = spec.answer.num_outputs(labels)
        dtype = getattr(ask, "dtype", torch.float32)
        # of the answers to one image in batches of different sizes
        self.rounding = float(torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, labels), float32 on the CPU, in the study's order of labels.

        Raises DataError if the answers do not match the declaration, or the target raises an exception of its own.
        """
        return torch.from_numpy(to_logits(self.who, self.answers(images), self.spec.answer, self.columns))

    def answers(self, images: Tensor) -> NDArray[np.float64]:
        """Return the target's answers as they are, (batch, outputs): logits, probabilities or decisions.

        Raises RaygridError, which names the target, for any exception of it.
        """
        # in the target's own precision, even if the study scores in another
        with named_errors(self.spec), torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            given = self.ask(images.float())
        return parse_answers(self.who, given, len(images), self.num_outputs)

    def train(self, mode: bool = True) -> "ExternalTarget":
        """Return the target unchanged: it stays in evaluation mode, and exported programs refuse to switch."""
        return self


def open_target(
    spec: TargetSpec, *, labels: Sequence[str], channels: int, image_size: int, answers_dir: Path
) -> ExternalTarget:
    """Return a target, ready to answer images of the study.

    Args:
        labels: of the study, in the order of the logits.
        channels, image_size: of the study's images.
        answers_dir: folder of the answers of an HTTP target, where they are kept and looked up.

    Raises SpecError if the declaration does not fit, WeightsError if a file or function cannot be loaded, StoreError
    if kept answers cannot be read.
    """
    require_channels(f"target {spec.label!r}", spec.input, channels)
    num_outputs = spec.answer.num_outputs(labels)
    context = Context(channels=channels, image_size=image_size, num_outputs=num_outputs, answers_dir=answers_dir)
    with named_errors(spec, WeightsError):
        return ExternalTarget(spec, BACKENDS[spec.kind].open(spec, context), labels)
