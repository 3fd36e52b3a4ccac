"""Networks that raygrid did not train, attacked through: where one has the file, it has gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raygrid.errors import DataError, SpecError
from raygrid.spec import TargetSpec
from raygrid.targets.backends import NetworkTarget, open_checkpoint, open_export, run_in_batches
from raygrid.targets.outputs import differentiable_logits, label_columns
from raygrid.targets.preprocessing import preprocess, require_channels


class ExternalSurrogate(nn.Module):
    """Images (batch, channel, height, width) in [-1, 1] to logits on their device, with gradients.

    What `received` puts between an image and the target is not between it and the attacker's copy of the network.
    """

    def __init__(self, spec: TargetSpec, opened: NetworkTarget, labels: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.network, self.batch = spec, opened.network, opened.batch
        self.who = f"surrogate {spec.label!r}"
        self.columns = label_columns(self.who, spec.answer, labels)
        self.num_outputs = len(spec.answer.labels or labels)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, labels), float32, in the study's order of labels.

        Raises DataError if the network gives another number of outputs.
        """
        # in its own precision, also where the study crafts in another: a probability in bfloat16 is soon 1
        with torch.autocast(images.device.type, enabled=False):
            answers = run_in_batches(self.network, preprocess(images.float(), self.spec.input), self.batch)
        if answers.shape == (len(images),) and self.num_outputs == 1:
            answers = answers[:, None]
        if answers.shape != (len(images), self.num_outputs):
            raise DataError(
                f"{self.who} answered with an array of {list(answers.shape)}; expected {len(images)} rows of "
                f"{self.num_outputs} numbers"
            )
        return differentiable_logits(answers.float(), self.spec.answer, self.columns)

    def train(self, mode: bool = True) -> "ExternalSurrogate":
        """Return the network as it is: in evaluation mode, which exported programs refuse to be asked for."""
        return self


def open_surrogate(spec: TargetSpec, *, labels: Sequence[str], channels: int, image_size: int) -> ExternalSurrogate:
    """Return the network of a target whose gradients can be had.

    Args:
        labels: of the study, the order of the logits.
        channels, image_size: of the study's images.

    Raises SpecError for a declaration that does not fit, WeightsError for files or functions that cannot be had.
    """
    require_channels(f"surrogate {spec.label!r}", spec.input, channels)
    if spec.kind == "checkpoint":
        return ExternalSurrogate(spec, open_checkpoint(spec), labels)
    return ExternalSurrogate(spec, open_export(spec, channels=channels, image_size=image_size), labels)


def check_surrogate(surrogate: ExternalSurrogate, images: Tensor) -> None:
    """Return nothing if gradients come back through a network.

    Args:
        images: (batch, channel, height, width) in [-1, 1], a few of the study's.

    Raises SpecError that says why not.
    """
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = surrogate(leaf)
        one = logits[:, 0].sum()  # of exclusive classes the sum over all need not change
        found = torch.autograd.grad(one, leaf, allow_unused=True)[0] if logits.requires_grad else None
    if found is None or not found.isfinite().all() or not found.any():
        what = "none" if found is None else "zero everywhere" if found.isfinite().all() else "not finite"
        raise SpecError(
            f"{surrogate.who}: the gradient of its answers is {what}, so no attack goes through it; a network that "
            "itself enters torch.no_grad() has none. Export it without, or leave out attacked_through"
        )
