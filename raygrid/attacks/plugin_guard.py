"""Attacks of other packages change neither the network nor the random numbers of those that come after them."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from raygrid.hashing import keyed_seed

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_HOOK_SETTINGS = (
    *("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    "_is_full_backward_hook",
)
_PARTS = ("_modules", "_parameters", "_buffers")


@contextmanager
def seeded(seed: int, attack: str, image_ids: Sequence[str]) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python by study, attack and images; restore them afterwards."""
    number = keyed_seed(seed, "plug-in", attack, *image_ids)
    numpy_state, python_state, dtype = np.random.get_state(), random.getstate(), torch.get_default_dtype()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            torch.manual_seed(number)
            np.random.seed(number % 2**32)
            random.seed(number)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_default_dtype(dtype)


class NetworkState:
    """The state of a network before an attack, to be restored after it."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._modes = {name: module.training for name, module in self._modules.items()}
        held = (*_HOOKS, *_HOOK_SETTINGS, *_PARTS)
        self._held = {
            name: {key: _copied(module.__dict__[key]) for key in held if key in module.__dict__}
            for name, module in self._modules.items()
        }
        self._forwards = {name: module.__dict__.get("forward") for name, module in self._modules.items()}
        named = [*network.named_parameters(), *network.named_buffers()]
        self._tensors = {name: (tensor, tensor.detach().clone(), tensor.requires_grad) for name, tensor in named}

    def restore(self) -> list[str]:
        """Undo every change; return what was changed, in words."""
        changes = dict.fromkeys(self._restored_modules())
        changes |= dict.fromkeys(self._restored_tensors())
        return list(changes)

    def _restored_modules(self) -> Iterator[str]:
        for name, module in self._modules.items():
            shown = name or "the network"
            own = cast(dict[str, Any], module.__dict__)
            if module.training != self._modes[name]:
                module.training = self._modes[name]
                yield f"left {shown} in {'evaluation' if self._modes[name] else 'training'} mode"
            for key, value in self._held[name].items():
                if not _is_same(own.get(key), value) and key not in _HOOK_SETTINGS:
                    yield f"left hooks on {shown}" if key in _HOOKS else f"replaced parts of {shown}"
                if isinstance(value, dict):
                    own[key].clear()
                    own[key].update(value)
                else:
                    own[key] = value
            if own.get("forward") is not self._forwards[name]:
                yield f"replaced the forward of {shown}"
                own.pop("forward", None)
                own.update({"forward": self._forwards[name]} if self._forwards[name] is not None else {})

    def _restored_tensors(self) -> Iterator[str]:
        for name, (tensor, values, wants_gradient) in self._tensors.items():
            if tensor.requires_grad != wants_gradient:
                tensor.requires_grad_(wants_gradient)
                yield f"changed requires_grad of {name}"
            tensor.grad = None
            if not _equal(tensor, values):
                with torch.no_grad():
                    tensor.data = values
                yield f"changed the values of {name}"


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _is_same(now: Any, before: Any) -> bool:
    """Whether a dict has the same objects as before, in the same order; tensors cannot be compared by `==`."""
    if not isinstance(now, dict) or not isinstance(before, dict):
        return now is before
    return list(now) == list(before) and all(now[key] is before[key] for key in before)


def _equal(tensor: Tensor, values: Tensor) -> bool:
    kept = tensor.shape == values.shape and tensor.dtype == values.dtype and tensor.stride() == values.stride()
    return kept and torch.equal(tensor.detach(), values)  # another layout changes the last bits of results
