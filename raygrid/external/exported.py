"""Programs of torch.export, opened only after a look through the file.

`torch.export.load` unpickles what a file marks as pickled, looks functions up by name and evaluates the expressions of
dynamic shapes, so a file made for it could run anything. What stands here is let through: tensors as raw bytes,
example inputs that PyTorch's weights-only reader takes, a graph of operators of PyTorch, expressions of plain symbols.
That is what `torch.export.save` writes for a network of PyTorch's own layers.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raygrid.errors import WeightsError

_ENTRIES = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/\w+|models/model\.json|extra/.+"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt)"
)
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!from_file\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|while_loop|scan|map_impl)"
    r"|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_WORDS = re.compile(r"[A-Za-z_]\w*")
_CHARACTERS = re.compile(r"[\w\s()',=+*/%<>&|~-]*")
_KNOWN_WORDS = re.compile(
    r"[a-z]+\d+"  # a symbol
    r"|Symbol|Integer|Rational|Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|FloatTrueDiv|Min|Max|Where"
    r"|ModularIndexing|Identity|ToFloat|TruncToInt|FloorToInt|CeilToInt|RoundToInt|PowByNatural|FloatPow|And|Or|Not"
    r"|Equality|Unequality|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan|Eq|Ne|Ge|Le|Gt|Lt|True|False"
    r"|positive|nonnegative|integer|negative|zero|real|finite|rational"
)


@dataclass(frozen=True)
class Program:
    """An exported network and the shape of the images it takes; None is any number, of a dynamic axis."""

    network: nn.Module
    input_shape: tuple[int | None, ...]


def load_program(path: Path) -> Program:
    """Return the program of a .pt2 file.

    Raises WeightsError for a file that is none, could run code, or takes more than one array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _require_harmless(path, archive)
        loaded = torch.export.load(path)
    except WeightsError:
        raise
    except Exception as error:  # damage shows as anything, from zipfile.BadZipFile to a KeyError
        raise WeightsError(
            f"{path} cannot be opened as an exported program ({type(error).__name__}: {str(error)[:200]}); make it "
            "with torch.export.save, by the same version of PyTorch"
        ) from error
    takes = [n for n in loaded.graph.nodes if n.op == "placeholder" and n.name in loaded.graph_signature.user_inputs]
    if len(takes) != 1 or not isinstance(takes[0].meta.get("val"), torch.Tensor):
        raise WeightsError(f"{path} takes {len(takes)} inputs; expected one, a batch of images")
    shape = tuple(n if isinstance(n, int) else None for n in takes[0].meta["val"].shape)
    # its guards are code in the file, compiled when asked for; the shape is checked by ourselves
    network = loaded.module(check_guards=False).requires_grad_(False)
    for module in network.modules():
        module.training = False  # an exported graph has no modes and refuses eval(); this is what it shows to others
    return Program(network, shape)


def _require_harmless(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise WeightsError that names the first thing in the archive which is neither tensor nor operator."""
    names = archive.namelist()
    inside = [name.partition("/")[2] for name in names]
    strange = [name for name in inside if not _ENTRIES.fullmatch(name)]
    if strange or len(set(inside)) < len(inside) or "models/model.json" not in inside:
        raise _refused(path, f"it holds {strange[0]!r}" if strange else "it is not one exported program")
    for full, name in zip(names, inside, strict=True):
        if name.endswith("_config.json"):
            _require_raw_tensors(path, json.loads(archive.read(full)))
        elif name.endswith("model.pt"):
            _require_tensors_alone(path, archive.read(full))
        elif name == "models/model.json":
            _require_plain_graph(path, json.loads(archive.read(full)))


def _require_raw_tensors(path: Path, config: Any) -> None:
    pickled = [name for name, entry in config["config"].items() if entry["use_pickle"]]
    if pickled:
        raise _refused(path, f"the tensor {pickled[0]!r} is pickled")


def _require_tensors_alone(path: Path, content: bytes) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _refused(path, "its example inputs are more than tensors") from error


def _require_plain_graph(path: Path, graph: Any) -> None:
    for entry in _mappings(graph):
        operator = entry.get("target") if "inputs" in entry else None
        if operator is not None and not _OPERATORS.fullmatch(operator):
            raise _refused(path, f"it calls {operator!r}, no operator of PyTorch that a network needs")
        expression = entry.get("expr_str")
        if expression is not None and not _is_plain(expression):
            raise _refused(path, f"a shape in it is {expression!r}, no plain expression")


def _is_plain(expression: str) -> bool:
    """Whether an expression is of symbols, numbers and the functions of shapes alone: evaluated, it does nothing."""
    words = _WORDS.findall(expression)
    return bool(_CHARACTERS.fullmatch(expression)) and all(_KNOWN_WORDS.fullmatch(word) for word in words)


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _mappings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _mappings(inner)


def _refused(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{path}: {what}, and raygrid executes nothing from a file; name its network as a checkpoint instead: a "
        "factory and a file of its weights"
    )
