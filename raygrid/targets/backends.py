"""One class per kind of target. It opens the target: a function or module from images in [-1, 1] to raw answers.

To add a kind, declare it in `raygrid.spec.targets.TARGET_KINDS` and enter its class in `BACKENDS`.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.errors import SpecError, WeightsError, in_one_line
from raygrid.models.checkpoints import read_fitting
from raygrid.models.file_kinds import ONNX, kind_of_file
from raygrid.spec import TargetSpec
from raygrid.store.target_identity import data_files, module_path, target_file
from raygrid.targets.delivery import deliver
from raygrid.targets.http import open_endpoint
from raygrid.targets.preprocessing import preprocess, require_input_shape, to_array
from raygrid.targets.torch_export import load_program

Ask = Callable[[Tensor], Any]

# types of an ONNX file's input, by the dtype of InputSpec: raygrid makes float32, and rounds or widens it last
_ONNX_TYPES: Mapping[str, Mapping[str, torch.dtype]] = {
    "float32": {
        "tensor(float)": torch.float32,
        "tensor(float16)": torch.float16,
        "tensor(double)": torch.float64,
    },
    "uint8": {"tensor(uint8)": torch.uint8},
}


@dataclass(frozen=True, kw_only=True)
class Context:
    """The study's side of a target.

    Attributes:
        channels, image_size: of the study's images.
        num_outputs: values in the answer to one image.
        answers_dir: folder of the kept answers, for kinds whose requests are metered; None for a surrogate.
    """

    channels: int
    image_size: int
    num_outputs: int
    answers_dir: Path | None = None


class NetworkTarget(nn.Module):
    """A PyTorch network that receives its images in the declared form, on its own device and in its own precision.

    Args:
        dtype: of its input, if it is known; by default that of its first weights.
    """

    def __init__(
        self, network: nn.Module, spec: TargetSpec, batch: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.network, self.spec, self.batch = network, spec, batch
        self.dtype = dtype or _dtype_of_weights(network)
        self.training = False

    def forward(self, images: Tensor) -> Any:
        """Return the network's answers to images (batch, channel, height, width) in [-1, 1]."""
        made = preprocess(deliver(images, self.spec), self.spec.input)
        return run_in_batches(self.network, in_dtype(made, self.dtype), self.batch)


class Backend(ABC):
    """Opens the targets of one kind."""

    @abstractmethod
    def open(self, spec: TargetSpec, context: Context) -> Ask:
        """Return a function of images (batch, channel, height, width) in [-1, 1] to answers.

        Raises SpecError if the target does not fit the declaration, WeightsError if a file or function cannot be
        loaded, StoreError if kept answers cannot be read.
        """


class TorchBackend(Backend):
    """A kind whose network runs in PyTorch, so its gradients are available."""

    @abstractmethod
    def open(self, spec: TargetSpec, context: Context) -> NetworkTarget:
        """Return the network in evaluation mode, with the input that `spec` declares. Raises as `Backend.open`."""


class Checkpoint(TorchBackend):
    """A factory that the study names, and a file of weights. The factory runs; the file is read as tensors only."""

    def open(self, spec: TargetSpec, context: Context) -> NetworkTarget:
        who = f"target {spec.label!r}"
        network = import_function(spec)()
        if not isinstance(network, nn.Module):
            raise SpecError(f"{who}: {spec.source}() returned a {type(network).__name__}; expected a torch.nn.Module")
        own = network.state_dict()
        network.load_state_dict(own | read_fitting(target_file(spec, spec.weights), own, entry=spec.weights_entry))
        return NetworkTarget(network.eval().requires_grad_(False), spec)


class ExportedProgram(TorchBackend):
    """A file of `torch.export`; one that could run code is refused."""

    def open(self, spec: TargetSpec, context: Context) -> NetworkTarget:
        program = load_program(target_file(spec, spec.source))
        _require_input_shape(spec, program.input_shape, context)
        found = str(program.input_dtype).removeprefix("torch.")
        if program.input_dtype.is_floating_point != (spec.input.dtype == "float32") or found.startswith("int"):
            raise SpecError(
                f"target {spec.label!r}: {spec.source} takes images of {found}, but its InputSpec makes "
                f"{spec.input.dtype}; set dtype of the InputSpec, or export it for floating-point images"
            )
        return NetworkTarget(program.network, spec, program.input_shape[0], program.input_dtype)


class OnnxFile(Backend):
    """An ONNX file, run by onnxruntime on the CPU, in one thread."""

    def open(self, spec: TargetSpec, context: Context) -> Ask:
        who, path = f"target {spec.label!r}", target_file(spec, spec.source)
        data_files(spec, path)  # a missing file gets raygrid's message, not onnxruntime's
        session = _onnx_session(who, str(path))
        inputs, types = session.get_inputs(), _ONNX_TYPES[spec.input.dtype]
        if len(inputs) != 1 or inputs[0].type not in types:
            found = ", ".join(f"{i.name} {i.type}" for i in inputs)
            expected = " or ".join(types)
            raise SpecError(f"{who}: {path} takes {found}; expected one input of type {expected}; check dtype")
        _require_one_tensor(who, path, session.get_outputs())
        shape = tuple(n if isinstance(n, int) else None for n in inputs[0].shape)
        _require_input_shape(spec, shape, context)

        return OnnxTarget(session, spec, batch=shape[0], dtype=types[inputs[0].type])


class OnnxTarget:
    """The session of an ONNX file, as a function of images (batch, channel, height, width) in [-1, 1] to answers.

    Attributes:
        dtype: of its input.
    """

    def __init__(self, session: Any, spec: TargetSpec, *, batch: int | None, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._session, self._spec, self._batch = session, spec, batch
        self._name = session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> Any:
        """Return the answers to images."""
        made = torch.from_numpy(to_array(deliver(images, self._spec), self._spec.input))
        return run_in_batches(self._run, made.to(self.dtype), self._batch)

    def _run(self, batch: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self._session.run(None, {self._name: batch.numpy()})[0]))


class PythonFunction(Backend):
    """A function of the user's, from an array of images, which it may overwrite, to an array of answers."""

    def open(self, spec: TargetSpec, context: Context) -> Ask:
        function = import_function(spec)
        return lambda images: function(to_array(deliver(images, spec), spec.input))


class HttpEndpoint(Backend):
    """An endpoint on the network, with the answers that it has given before."""

    def open(self, spec: TargetSpec, context: Context) -> Ask:
        assert context.answers_dir is not None  # an endpoint has no gradients, so it is never a surrogate
        return open_endpoint(spec, num_outputs=context.num_outputs, answers_dir=context.answers_dir)


BACKENDS: Mapping[str, Backend] = {
    "checkpoint": Checkpoint(),
    "export": ExportedProgram(),
    "onnx": OnnxFile(),
    "callable": PythonFunction(),
    "http": HttpEndpoint(),
}


def in_dtype(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images in the precision of a network; whole grey levels stay as they are."""
    return images.to(dtype) if images.is_floating_point() else images


def run_in_batches(run: Callable[[Tensor], Any], images: Tensor, size: int | None) -> Any:
    """Return the answers of a network that takes exactly `size` images at a time; None is any number."""
    if size is None:
        return run(images)
    answers = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part)
        padding = [0, 0] * (part.ndim - 1) + [0, missing]  # black images after the last
        given = run(F.pad(part, padding) if missing else part)
        if not isinstance(given, Tensor):
            return given  # the reader of the answers names its type
        answers.append(given[: len(part)])
    return torch.cat(answers)


def import_function(spec: TargetSpec) -> Callable[..., Any]:
    """Return the function that a target's source names.

    Raises WeightsError if it cannot be imported, SpecError if it is no function.
    """
    module_path(spec)  # a missing module gets raygrid's message
    module, _, name = spec.source.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # a module may raise anything when it is imported, or end as a script
        raise WeightsError(
            f"target {spec.label!r}: {spec.source} cannot be imported ({in_one_line(error)}); check that it can be "
            "imported on every node"
        ) from error
    if not callable(function):
        raise SpecError(f"target {spec.label!r}: {spec.source} is a {type(function).__name__}; expected a function")
    checked: Callable[..., Any] = function
    return checked


def _onnx_session(who: str, path: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise SpecError(f"{who}: an ONNX file needs onnxruntime; run pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a worker has one core
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        kind = kind_of_file(Path(path))
        if kind is not None and kind is not ONNX:
            raise WeightsError(
                f"{who}: {path} is {kind.words}, not an ONNX file; export the network to ONNX, or declare another kind"
            ) from error
        how = "in float32" if "NOT_IMPLEMENTED" in str(error) else "again"
        raise WeightsError(
            f"{who}: {path} cannot be opened by onnxruntime ({in_one_line(error)}); export it {how}"
        ) from error


def _require_one_tensor(who: str, path: Path, outputs: Sequence[Any]) -> None:
    """Raise SpecError unless an ONNX file answers with one tensor of numbers."""
    if len(outputs) == 1 and outputs[0].type.startswith("tensor(") and outputs[0].type != "tensor(string)":
        return
    found = ", ".join(f"{o.name} {o.type}" for o in outputs)
    maps = any("map(" in o.type for o in outputs)  # scikit-learn's classifiers
    remedy = "convert it with options={'zipmap': False} and the probabilities alone" if maps else "export it so"
    raise SpecError(f"{who}: {path} has the outputs {found}; expected one tensor of numbers: {remedy}")


def _dtype_of_weights(network: nn.Module) -> torch.dtype:
    """Return the type of a network's first weights in floating point, in which it takes its images."""
    weights = (*network.parameters(), *network.buffers())
    return next((tensor.dtype for tensor in weights if tensor.is_floating_point()), torch.float32)


def _require_input_shape(spec: TargetSpec, expected: tuple[int | None, ...], context: Context) -> None:
    who = f"target {spec.label!r}"
    require_input_shape(who, expected, spec.input, channels=context.channels, image_size=context.image_size)
