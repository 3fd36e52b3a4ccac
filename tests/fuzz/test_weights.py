"""Files of weights: safetensors headers that lie, checkpoints of any objects, pickles that would run code, damage."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from byte_edits import Edit, edited, edits, texts
from fuzzing import Fuzz, Marker, few_changes, outcome
from hypothesis import strategies as st

from raygrid.models.tensor_files import read_tensors

SOUND = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.ones(2), "count": torch.tensor(3)}
NUMBERS: tuple[Any, ...] = (0, 1, -1, 24, 2**31, 2**40, 2**63 - 1, 2**64, 10**400, 1.5, "1", None, True, [], [1] * 70)
DTYPES: tuple[Any, ...] = ("F32", "F64", "F16", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "C64", "F4", "", "x", 3, None)
TEXTS = (
    "[" * 20_000,
    '{"a":' * 20_000,
    "{}",
    "null",
    "",
    "{",
    '{"__metadata__": {"a": 1}}',
    '{"__metadata__": {"b.c": "a"}}',
)
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "nested": lambda t: {"state_dict": t, "epoch": 3},
    "deep": lambda t: {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": t}}}}}}}},
    "two": lambda t: {"model": t, "ema": t},
    "list": lambda t: [t, t],
    "keys": lambda t: {1: torch.ones(1), None: torch.ones(1), ("a",): torch.ones(1), **t},
    "text": lambda t: {**t, "name": "x" * 5000, "\x1b[31m": torch.ones(1), "\ud800": torch.ones(1)},
    "cycle": lambda t: cyclic(t),
    "half": lambda t: {name: tensor.half() for name, tensor in t.items()},
    "complex": lambda t: {name: tensor.to(torch.complex64) for name, tensor in t.items()},
    "sparse": lambda t: {name: tensor.float().to_sparse() for name, tensor in t.items()},
    "meta": lambda t: {name: tensor.to("meta") for name, tensor in t.items()},
    "expanded": lambda t: {"wide": torch.ones(1).expand(10**11)},
    "empty": lambda t: {name: tensor[..., :0] if tensor.ndim else tensor for name, tensor in t.items()},
    "ordered": lambda t: OrderedDict(t),
    "tensor": lambda t: torch.ones(3),
    "none": lambda t: None,
    "parameters": lambda t: torch.nn.ParameterDict({"a": torch.nn.Parameter(torch.ones(2))}).state_dict(),
}


def cyclic(tensors: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {**tensors}
    made["again"] = made
    return made


@dataclass(frozen=True)
class Weights:
    """A file of weights in one format, with one part changed, then damaged bytes."""

    format: str
    wrapper: str = ""
    pickled: bool = False
    dtype: Any = "F32"
    shape: Sequence[Any] = (2,)
    offsets: Sequence[Any] = (0, 8)
    header: str | None = None
    name: str = "layer.bias"
    claimed: int | None = None
    damage: Sequence[Edit] = ()

    def content(self, marker: Marker) -> bytes:
        content = self._safetensors() if self.format == "safetensors" else self._torch(marker)
        return edited(content, self.damage)

    def _safetensors(self) -> bytes:
        entry = {"dtype": self.dtype, "shape": list(self.shape), "data_offsets": list(self.offsets)}
        text = json.dumps({self.name: entry}) if self.header is None else self.header
        length = len(text.encode()) if self.claimed is None else self.claimed
        return struct.pack("<Q", length) + text.encode() + bytes(8)

    def _torch(self, marker: Marker) -> bytes:
        held: Any = WRAPPERS[self.wrapper](SOUND) if self.wrapper else SOUND
        if self.format == "pickle":
            return pickle.dumps({**SOUND, "run": marker} if self.pickled else held)
        file = io.BytesIO()
        torch.save(held, file, _use_new_zipfile_serialization=self.format == "zip")
        return self._with_marker(file.getvalue(), marker) if self.pickled and self.format == "zip" else file.getvalue()

    def _with_marker(self, content: bytes, marker: Marker) -> bytes:
        """Return the archive with a pickle that would run code."""
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w") as after:
            for name in before.namelist():
                after.writestr(name, pickle.dumps(marker) if name.endswith("data.pkl") else before.read(name))
        return file.getvalue()


def numbers(size: int) -> st.SearchStrategy[Sequence[Any]]:
    return st.lists(st.sampled_from(NUMBERS), min_size=size, max_size=size)


WEIGHTS = few_changes(
    Weights,
    2,
    {"format": st.sampled_from(("zip", "legacy", "pickle"))},
    wrapper=st.sampled_from(sorted(WRAPPERS)),
    pickled=st.just(True),
    damage=edits(3000),
) | few_changes(
    Weights,
    2,
    {"format": st.just("safetensors")},
    dtype=st.sampled_from(DTYPES),
    shape=numbers(1) | numbers(2),
    offsets=numbers(2),
    header=st.sampled_from(TEXTS),
    name=texts(),
    claimed=st.sampled_from((0, 1, 2**31, 2**63 - 1, 2**64 - 1)),
    damage=edits(100),
)


def require_tensors(found: Mapping[Any, Any]) -> None:
    assert found
    for name, tensor in found.items():
        assert isinstance(name, str)
        assert isinstance(tensor, torch.Tensor)
        assert not tensor.is_floating_point() or tensor.dtype in (torch.float32, torch.float64)


def test_weights_are_tensors_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    marker = Marker(tmp_path)

    def check(weights: Weights) -> None:
        path = tmp_path / ("weights.safetensors" if weights.format == "safetensors" else "weights.pt")
        path.write_bytes(weights.content(marker))
        found = outcome(lambda: read_tensors(path), path)
        marker.require_absent()
        if found is not None:
            require_tensors(found)
        path.unlink()  # the file may still be mapped

    fuzz(check, WEIGHTS)
