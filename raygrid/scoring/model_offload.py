"""The models of a modality on one device: all of them where they fit, else those in use, with the rest in host memory.

Offloading changes how long a score takes, never the score.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

_WEIGHTS_SHARE = 0.5  # of the free memory; the rest is for activations and the adversarial images of a block


class ModelOffload:
    """Frozen models by name, of which at most `room` bytes are on the device at a time.

    On a GPU the others wait in pinned memory, so that each fetch is one fast copy. Models that are
    picked together are on the device together, even if they are larger than `room`.

    Attributes:
        sizes: bytes of each model by name.
        room: bytes for models on the device; None if there is no limit.
        swaps: whether the models do not fit together and take turns.
        num_fetched: copies of a model to the device so far.
    """

    def __init__(self, models: Mapping[str, nn.Module], device: str, room: int | None = None) -> None:
        self._models, self._device = dict(models), torch.device(device)
        self.sizes = {name: sum(t.nbytes for t in _tensors(model)) for name, model in models.items()}
        self.room = free_bytes(self._device) if room is None else room
        self.swaps = self.room is not None and sum(self.sizes.values()) > self.room
        self.num_fetched = 0
        self._offloaded: dict[str, list[Tensor]] = {}
        self._placed: dict[str, None] = {}  # in the order of their last use
        if self.swaps:
            self._offloaded = {name: [_host_copy(t, self._device) for t in _tensors(m)] for name, m in models.items()}
        else:
            for model in self._models.values():
                model.to(self._device)

    @property
    def bytes_placed(self) -> int:
        """Bytes of the models that take turns and are on the device now."""
        return sum(self.sizes[name] for name in self._placed)

    def pick(self, names: Sequence[str]) -> list[nn.Module]:
        """Return the named models, on the device until others are picked."""
        if self.swaps:
            self._make_room([name for name in names if name not in self._placed], keep=names)
            for name in names:
                if name not in self._placed:
                    self._place(name)
                self._placed[name] = self._placed.pop(name, None)
        return [self._models[name] for name in names]

    def in_turn(self, names: Sequence[str]) -> Iterable[nn.Module]:
        """Return the named models, each picked when a loop reaches it; the loop can be repeated."""
        return _InTurn(self, names)

    def _make_room(self, coming: Sequence[str], keep: Sequence[str]) -> None:
        assert self.room is not None  # without a limit nothing swaps
        wanted = sum(self.sizes[name] for name in coming)
        for name in [name for name in self._placed if name not in keep]:
            if wanted + self.bytes_placed <= self.room:
                return
            del self._placed[name]
            for tensor, offloaded in zip(_tensors(self._models[name]), self._offloaded[name], strict=True):
                tensor.data = offloaded

    def _place(self, name: str) -> None:
        for tensor, offloaded in zip(_tensors(self._models[name]), self._offloaded[name], strict=True):
            tensor.data = offloaded.to(self._device, non_blocking=True)
        self._placed[name] = None
        self.num_fetched += 1


class _InTurn:
    """Models picked one at a time. No generator, because `score_attacked` loops over the targets once per attack."""

    def __init__(self, models: ModelOffload, names: Sequence[str]) -> None:
        self._models, self._names = models, names

    def __iter__(self) -> Iterator[nn.Module]:
        for name in self._names:
            yield from self._models.pick([name])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _host_copy(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.data.pin_memory() if device.type == "cuda" else tensor.data


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes of weights that the device has room for; None for a CPU, whose memory already holds them."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.mem_get_info(device)[0] * _WEIGHTS_SHARE)
