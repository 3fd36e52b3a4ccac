"""Targets that run in this process: PyTorch networks, exported programs, ONNX files and functions.

Each `open_*` returns what answers an image batch: a module or function from images in [-1, 1] to answers of any kind.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.errors import SpecError, WeightsError, listed
from raygrid.models.tensor_files import read_tensors
from raygrid.spec import TargetSpec
from raygrid.store.target_identity import external_data, module_path, target_file
from raygrid.targets.delivery import deliver
from raygrid.targets.preprocessing import preprocess, require_input_shape, to_array
from raygrid.targets.torch_export import load_program

Ask = Callable[[Tensor], Any]

_ONNX_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
_MOST_NAMED = 3  # tensors in a message


class NetworkTarget(nn.Module):
    """A network that is shown images as it wants them, on the device that it lies on."""

    def __init__(self, network: nn.Module, spec: TargetSpec, batch: int | None = None) -> None:
        super().__init__()
        self.network, self.spec, self.batch = network, spec, batch
        self.training = False

    def forward(self, images: Tensor) -> Any:
        """Return the network's answers to images (batch, channel, height, width) in [-1, 1]."""
        shown = preprocess(deliver(images, self.spec), self.spec.input)
        return run_in_batches(self.network, shown, self.batch)


def open_checkpoint(spec: TargetSpec) -> NetworkTarget:
    """Return the network that the factory makes, with the weights of the file, in evaluation mode.

    The factory is code that the study names, and is run; the file holds tensors, and nothing in it is.

    Raises SpecError if the factory gives no network, WeightsError if the weights cannot be had or do not fit it.
    """
    who = f"target {spec.label!r}"
    network = import_function(spec)()
    if not isinstance(network, nn.Module):
        raise SpecError(f"{who}: {spec.source}() returned a {type(network).__name__}; expected a torch.nn.Module")
    tensors = read_tensors(target_file(spec, spec.weights))
    _require_same(who, network.state_dict(), tensors)
    network.load_state_dict(tensors)
    return NetworkTarget(network.eval().requires_grad_(False), spec)


def open_export(spec: TargetSpec, *, channels: int, image_size: int) -> NetworkTarget:
    """Return the network of a torch.export file. Raises WeightsError for a file that could run code, or is none."""
    program = load_program(target_file(spec, spec.source))
    takes = program.input_shape
    require_input_shape(f"target {spec.label!r}", takes, spec.input, channels=channels, image_size=image_size)
    return NetworkTarget(program.network, spec, takes[0])


def open_callable(spec: TargetSpec) -> Ask:
    """Return a function of images that asks the target's own function, which gets an array to keep."""
    function = import_function(spec)
    return lambda images: function(to_array(deliver(images, spec), spec.input))


def open_onnx(spec: TargetSpec, *, channels: int, image_size: int) -> Ask:
    """Return a function of images that asks an ONNX file, on the CPU, in one thread as everything in a worker.

    Raises SpecError if onnxruntime is absent or the file takes other images, WeightsError if it cannot be read.
    """
    who, path = f"target {spec.label!r}", target_file(spec, spec.source)
    external_data(spec, path)  # said in our words, before onnxruntime says it in its own
    session = _onnx_session(who, str(path))
    takes = session.get_inputs()
    if len(takes) != 1 or takes[0].type != _ONNX_TYPES[spec.input.dtype]:
        found = ", ".join(f"{i.name} {i.type}" for i in takes)
        raise SpecError(f"{who}: {path} takes {found}; expected one input, {_ONNX_TYPES[spec.input.dtype]} (dtype)")
    if len(session.get_outputs()) != 1:
        found = ", ".join(o.name for o in session.get_outputs())
        raise SpecError(f"{who}: {path} has the outputs {found}; expected one: export it without the others")
    shape = tuple(n if isinstance(n, int) else None for n in takes[0].shape)
    require_input_shape(who, shape, spec.input, channels=channels, image_size=image_size)

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {takes[0].name: batch.numpy()})[0]))

    return lambda images: run_in_batches(run, torch.from_numpy(to_array(deliver(images, spec), spec.input)), shape[0])


def run_in_batches(run: Callable[[Tensor], Any], images: Tensor, size: int | None) -> Any:
    """Return the answers of a network that takes `size` images at a time, no more and no fewer; None: any number."""
    if size is None:
        return run(images)
    answers = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part)
        padding = [0, 0] * (part.ndim - 1) + [0, missing]  # black images behind the last
        answers.append(run(F.pad(part, padding) if missing else part)[: len(part)])
    return torch.cat(answers)


def import_function(spec: TargetSpec) -> Callable[..., Any]:
    """Return the function that a target's source names. Raises WeightsError if it cannot be imported."""
    module_path(spec)  # says so in our words if there is no such module
    module, _, name = spec.source.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything when it is imported
        raise WeightsError(
            f"target {spec.label!r}: {spec.source} cannot be imported ({type(error).__name__}: {error}); see that it "
            "runs by itself on every node"
        ) from error
    if not callable(function):
        raise SpecError(f"target {spec.label!r}: {spec.source} is a {type(function).__name__}; expected a function")
    checked: Callable[..., Any] = function
    return checked


def _onnx_session(who: str, path: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise SpecError(f"{who} is an ONNX file, and onnxruntime is absent: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a worker has one core; more would wait on others
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds of errors have no common base
        raise WeightsError(f"{who}: {path} cannot be opened by onnxruntime ({str(error)[:200]})") from error


def _require_same(who: str, own: dict[str, Tensor], file: dict[str, Tensor]) -> None:
    """Raise WeightsError if a file's tensors are not those of a network, by name and shape."""
    wrong = {
        "absent from the file": [name for name in own if name not in file],
        "not of the network": [name for name in file if name not in own],
        "of another shape": [name for name in own if name in file and own[name].shape != file[name].shape],
    }
    found = [f"{len(names)} {what} ({listed(names, _MOST_NAMED)})" for what, names in wrong.items() if names]
    if found:
        raise WeightsError(f"{who}: the weights do not fit what the factory makes: {'; '.join(found)}")
