"""The models of a modality on one device: all where they fit, else those in use, and the others in host memory.

Which models are on the device changes the time a score takes, never the score.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

_WEIGHTS_SHARE = 0.5  # of the free memory; the rest is for activations and the adversarial images of a block


class Shelf:
    """Frozen models by name, of which at most `room` bytes lie on the device at a time.

    On a GPU the others wait in pinned memory, so that fetching one costs a copy at the full speed of the bus. Models
    that are asked for together are on the device together, also where they are larger than the room.
    """

    def __init__(self, models: Mapping[str, nn.Module], device: str, room: int | None = None) -> None:
        self._models, self._device = dict(models), torch.device(device)
        self.sizes = {name: sum(t.nbytes for t in _tensors(model)) for name, model in models.items()}
        self.room = _free_bytes(self._device) if room is None else room
        self.swaps = self.room is not None and sum(self.sizes.values()) > self.room
        self.num_fetched = 0
        self._waiting: dict[str, list[Tensor]] = {}
        self._placed: dict[str, None] = {}  # in the order of their last use
        if self.swaps:
            self._waiting = {name: [_host_copy(t, self._device) for t in _tensors(m)] for name, m in models.items()}
        else:
            for model in self._models.values():
                model.to(self._device)

    @property
    def bytes_placed(self) -> int:
        """Size of the models that take turns and are on the device now."""
        return sum(self.sizes[name] for name in self._placed)

    def pick(self, names: Sequence[str]) -> list[nn.Module]:
        """Return models that are on the device until others are picked."""
        if self.swaps:
            self._make_room([name for name in names if name not in self._placed], keep=names)
            for name in names:
                if name not in self._placed:
                    self._place(name)
                self._placed[name] = self._placed.pop(name, None)
        return [self._models[name] for name in names]

    def each(self, names: Sequence[str]) -> "Each":
        """Return models to be used one after the other, as often as one likes."""
        return Each(self, names)

    def _make_room(self, coming: Sequence[str], keep: Sequence[str]) -> None:
        assert self.room is not None  # a shelf without a limit never swaps
        wanted = sum(self.sizes[name] for name in coming)
        for name in [name for name in self._placed if name not in keep]:
            if wanted + self.bytes_placed <= self.room:
                return
            del self._placed[name]
            for tensor, waiting in zip(_tensors(self._models[name]), self._waiting[name], strict=True):
                tensor.data = waiting

    def _place(self, name: str) -> None:
        for tensor, waiting in zip(_tensors(self._models[name]), self._waiting[name], strict=True):
            tensor.data = waiting.to(self._device, non_blocking=True)
        self._placed[name] = None
        self.num_fetched += 1


class Each:
    """Some models of a shelf, fetched one at a time; a loop over them can be repeated."""

    def __init__(self, shelf: Shelf, names: Sequence[str]) -> None:
        self._shelf, self._names = shelf, names

    def __iter__(self) -> Iterator[nn.Module]:
        for name in self._names:
            yield from self._shelf.pick([name])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _host_copy(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.data.pin_memory() if device.type == "cuda" else tensor.data


def _free_bytes(device: torch.device) -> int | None:
    """Return how many bytes of weights the device has room for; None where that is the machine's own memory."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.mem_get_info(device)[0] * _WEIGHTS_SHARE)
