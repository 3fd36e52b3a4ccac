"""Targets as surrogates: networks that raygrid did not train, with gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raygrid.errors import DataError, SpecError, WeightsError
from raygrid.spec import TargetSpec
from raygrid.targets.backends import BACKENDS, Context, NetworkTarget, TorchBackend, in_dtype, run_in_batches
from raygrid.targets.foreign_errors import named_errors
from raygrid.targets.outputs import differentiable_logits, label_columns
from raygrid.targets.preprocessing import preprocess, require_channels


class ExternalSurrogate(nn.Module):
    """Images (batch, channel, height, width) in [-1, 1] to logits on their device, with gradients.

    The attacker has a copy of the network, so `received` does not apply: images reach it exactly.
    """

    wraps = "network"

    def __init__(self, spec: TargetSpec, opened: NetworkTarget, labels: Sequence[str]) -> None:
        super().__init__()
        self.spec, self.network, self.batch, self.dtype = spec, opened.network, opened.batch, opened.dtype
        self.who = f"surrogate {spec.label!r}"
        self.columns = label_columns(self.who, spec.answer, labels)
        self.num_outputs = spec.answer.num_outputs(labels)
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, labels), float32, in the study's order of labels.

        Raises DataError if the network has another number of outputs, or raises an exception of its own.
        """
        # in the network's own precision, even if the study crafts in another: in bfloat16 a probability is soon 1
        with named_errors(self.spec), torch.autocast(images.device.type, enabled=False):
            made = in_dtype(preprocess(images.float(), self.spec.input), self.dtype)
            answers = run_in_batches(self.network, made, self.batch)
        if not isinstance(answers, Tensor):
            raise DataError(
                f"{self.who} answered with a {type(answers).__name__}; expected one tensor: return the logits alone"
            )
        if answers.shape == (len(images),) and self.num_outputs == 1:
            answers = answers[:, None]
        if answers.shape != (len(images), self.num_outputs):
            raise DataError(
                f"{self.who} answered with an array of shape {list(answers.shape)}; expected {len(images)} rows of "
                f"{self.num_outputs} numbers; name all outputs in labels of its AnswerSpec"
            )
        return differentiable_logits(answers.float(), self.spec.answer, self.columns)

    def train(self, mode: bool = True) -> "ExternalSurrogate":
        """Return the network unchanged: it stays in evaluation mode, and exported programs refuse to switch."""
        return self


def open_surrogate(spec: TargetSpec, *, labels: Sequence[str], channels: int, image_size: int) -> ExternalSurrogate:
    """Return the network of a target as a surrogate, with gradients.

    Args:
        labels: of the study, in the order of the logits.
        channels, image_size: of the study's images.

    Raises SpecError if the declaration does not fit or the kind has no gradients, WeightsError if a file or function
    cannot be loaded.
    """
    who, backend = f"surrogate {spec.label!r}", BACKENDS[spec.kind]
    if not isinstance(backend, TorchBackend):
        raise SpecError(f"{who} is {spec.traits.words}, which has no gradients; declare it without attacked_through")
    require_channels(who, spec.input, channels)
    num_outputs = spec.answer.num_outputs(labels)
    context = Context(channels=channels, image_size=image_size, num_outputs=num_outputs)
    with named_errors(spec, WeightsError):
        return ExternalSurrogate(spec, _with_gradients(who, spec, backend.open(spec, context)), labels)


def _with_gradients(who: str, spec: TargetSpec, opened: NetworkTarget) -> NetworkTarget:
    """Return a network of half precision in float32: small gradients would round to zero in float16.

    Raises SpecError for an exported program in float16, whose operations are fixed.
    """
    if opened.dtype not in (torch.float16, torch.bfloat16):
        return opened
    if spec.kind == "checkpoint":
        return NetworkTarget(opened.network.float(), spec, opened.batch)
    if opened.dtype == torch.float16:
        raise SpecError(f"{who} is a program in float16, where small gradients become zero; export it in float32")
    return opened


def check_surrogate(surrogate: ExternalSurrogate, images: Tensor) -> None:
    """Check that a network has usable gradients.

    Args:
        images: (batch, channel, height, width) in [-1, 1], a few of the study's.

    Raises SpecError if the gradient is missing, zero or not finite.
    """
    leaf = images.detach().clone().requires_grad_()
    with named_errors(surrogate.spec), torch.enable_grad():
        logits = surrogate(leaf)
        one = logits[:, 0].sum()  # the sum over exclusive classes can be constant
        found = torch.autograd.grad(one, leaf, allow_unused=True)[0] if logits.requires_grad else None
    if found is None or not found.isfinite().all() or not found.any():
        problem = "missing" if found is None else "zero everywhere" if found.isfinite().all() else "not finite"
        raise SpecError(
            f"{surrogate.who}: the gradient of its answers is {problem}, so no attack can use it; export the network "
            "without torch.no_grad(), or remove attacked_through"
        )
