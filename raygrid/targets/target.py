"""An external target as raygrid sees it: a network of [-1, 1] images whose gradients nobody has."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.spec import TargetSpec
from raygrid.targets.backends import Ask, open_callable, open_checkpoint, open_export, open_onnx
from raygrid.targets.http import open_endpoint
from raygrid.targets.outputs import label_columns, parse_answers, to_logits
from raygrid.targets.preprocessing import require_channels


class ExternalTarget(nn.Module):
    """A classifier that raygrid did not train; images (batch, channel, height, width) in [-1, 1] to logits on the CPU.

    A network in it follows `.to(device)`; whatever else answers is shown arrays on the CPU.
    """

    def __init__(self, spec: TargetSpec, ask: Ask, labels: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.ask = spec, ask
        self.who = f"target {spec.label!r}"
        self.columns = label_columns(self.who, spec.answer, labels)
        self.num_outputs = len(spec.answer.labels or labels)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, labels), float32 on the CPU, in the study's order of labels.

        Raises DataError if the target does not answer as it was declared to.
        """
        return torch.from_numpy(to_logits(self.who, self.answers(images), self.spec.answer, self.columns))

    def answers(self, images: Tensor) -> NDArray[np.float64]:
        """Return what the target says of images, as it says it: (batch, outputs)."""
        # it is asked in its own precision, also where the study scores in another
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            given = self.ask(images.float())
        return parse_answers(self.who, given, len(images), self.num_outputs)

    def train(self, mode: bool = True) -> "ExternalTarget":
        """Return the target as it is: it answers in evaluation mode, and exported programs refuse to be asked."""
        return self


def open_target(
    spec: TargetSpec, *, labels: Sequence[str], channels: int, image_size: int, answers_dir: Path
) -> ExternalTarget:
    """Return a target that can be shown images of the study.

    Args:
        labels: of the study, the order of the logits.
        channels, image_size: of the study's images.
        answers_dir: where the answers of an HTTP target are kept, and looked up when it is asked again.

    Raises SpecError for a declaration that does not fit, WeightsError for files or functions that cannot be had,
    StoreError for answers that cannot be read.
    """
    require_channels(f"target {spec.label!r}", spec.input, channels)
    ask: Ask
    if spec.kind == "checkpoint":
        ask = open_checkpoint(spec)
    elif spec.kind == "export":
        ask = open_export(spec, channels=channels, image_size=image_size)
    elif spec.kind == "onnx":
        ask = open_onnx(spec, channels=channels, image_size=image_size)
    elif spec.kind == "callable":
        ask = open_callable(spec)
    else:
        ask = open_endpoint(spec, num_outputs=len(spec.answer.labels or labels), answers_dir=answers_dir)
    return ExternalTarget(spec, ask, labels)
