"""Programs of torch.export, opened only after a check of the whole file.

`torch.export.load` unpickles the parts that a file marks, looks functions up by name, imports the modules that the
types of inputs and outputs name, and evaluates the expressions of dynamic shapes, so a crafted file could run
any code. This module accepts only tensors as raw bytes, example inputs that PyTorch's weights-only reader accepts, a
graph of operators of PyTorch with plain names, expressions of plain symbols, and tuples, lists and dicts. For a network
of PyTorch's own layers `torch.export.save` writes nothing else. PyTorch gets a copy of the accepted entries, not the
file: in a crafted file its archive reader can see other entries than Python's.
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
from raygrid.models.file_kinds import ONNX, TORCH, TORCHSCRIPT, kind_of_file

_ENTRIES = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/\w+|models/model\.json|extra/.+"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt)"
)
_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!(from_file|save)\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond|while_loop|scan|map_impl)"
    r"|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_SOURCES = re.compile(  # PyTorch resolves a name with one of these prefixes, attribute by attribute
    r"(?!torch|_operator|math|#).*"
    r"|(torch|_operator|math)\.\w+"
    r"|torch\.(_C|_C\._nn|fft|functional|linalg|special|nn\.functional|nn\.modules\.\w+)\.\w+"
    r"|torch\.ops(\.\w+){1,3}"
    r"|torchvision\.(models|ops)(\.\w+){1,3}",
    re.ASCII,
)
_IDENTIFIER = re.compile(r"\w*")
_LABEL = re.compile(r"[\w .@-]*")
_IDENTIFIERS = {"name", "as_name", "forward_arg_names"}  # names of variables in the code that PyTorch generates
_TEXTS = {  # never resolved or compiled
    *("as_string", "as_strings", "custom", "from_node", "guards_code", "nn_module_stack", "stack_trace", "torch_fn"),
    "torch_version",
}
_TREE_KEYS = {"type", "context", "children_spec"}
_DEEPEST_TREE = 100
_WORDS = re.compile(r"[A-Za-z_]\w*")
_CHARACTERS = re.compile(r"[\w\s()',=+*/%<>&|~-]*", re.ASCII)
_KNOWN_WORDS = re.compile(
    r"[a-z]+\d+"  # a symbol
    r"|Symbol|Integer|Rational|Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|FloatTrueDiv|Min|Max|Where"
    r"|ModularIndexing|Identity|ToFloat|TruncToInt|FloorToInt|CeilToInt|RoundToInt|PowByNatural|FloatPow|And|Or|Not"
    r"|Equality|Unequality|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan|Eq|Ne|Ge|Le|Gt|Lt|True|False"
    r"|positive|nonnegative|integer|negative|zero|real|finite|rational"
)


@dataclass(frozen=True)
class Program:
    """An exported network, and the shape and type of its input; None is a dynamic axis, of any length."""

    network: nn.Module
    input_shape: tuple[int | None, ...]
    input_dtype: torch.dtype


def load_program(path: Path) -> Program:
    """Return the program of a .pt2 file.

    Raises WeightsError if the file is not a program, could run code, or takes more than one array.
    """
    kind = kind_of_file(path)
    if kind in (TORCH, TORCHSCRIPT, ONNX):
        remedy = kind.remedy or "declare the target with kind='checkpoint' and this file as its weights"
        raise WeightsError(f"{path} is {kind.words}, not a program of torch.export; {remedy}")
    try:
        with zipfile.ZipFile(path) as archive:
            harmless = _harmless_copy(path, archive)
        loaded = torch.export.load(harmless)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file can raise anything, from zipfile.BadZipFile to KeyError
        raise WeightsError(
            f"{path} cannot be opened as an exported program ({type(error).__name__}: {str(error)[:200]}); save it "
            "again with torch.export.save and the installed version of PyTorch"
        ) from error
    takes = [n for n in loaded.graph.nodes if n.op == "placeholder" and n.name in loaded.graph_signature.user_inputs]
    if len(takes) != 1 or not isinstance(takes[0].meta.get("val"), torch.Tensor):
        raise WeightsError(
            f"{path} takes {len(takes)} inputs; expected one, a batch of images: export it with one input"
        )
    example = takes[0].meta["val"]
    shape = tuple(n if isinstance(n, int) else None for n in example.shape)
    # the guards are code in the file; raygrid checks the shape itself
    network = loaded.module(check_guards=False).requires_grad_(False)
    for module in network.modules():
        module.training = False  # an exported graph has no modes and refuses eval(); other code reads this flag
    return Program(network, shape, example.dtype)


def _harmless_copy(path: Path, archive: zipfile.ZipFile) -> io.BytesIO:
    """Return the archive's entries as a new archive.

    Raises WeightsError, which names the first entry or value that is not accepted.
    """
    names = archive.namelist()
    inside = [name.partition("/")[2] for name in names]
    strange = [name for name in inside if not _ENTRIES.fullmatch(name)]
    if strange or len(set(inside)) < len(inside) or "models/model.json" not in inside:
        raise _refused(path, f"it holds {strange[0]!r}" if strange else "it is not one exported program")
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as checked:
        for full, name in zip(names, inside, strict=True):
            content = archive.read(full)
            if name.endswith("_config.json"):
                _require_raw_tensors(path, json.loads(content))
            elif name.endswith("model.pt"):
                _require_tensors_alone(path, content)
            elif name == "models/model.json":
                _require_plain_graph(path, json.loads(content))
            checked.writestr(full, content)
    copy.seek(0)
    return copy


def _require_raw_tensors(path: Path, config: Any) -> None:
    pickled = [name for name, entry in config["config"].items() if entry["use_pickle"]]
    if pickled:
        raise _refused(path, f"the tensor {pickled[0]!r} is pickled")


def _require_tensors_alone(path: Path, content: bytes) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _refused(path, "its example inputs contain more than tensors") from error


def _require_plain_graph(path: Path, graph: Any) -> None:
    for key, value in _fields(graph):
        if not _LABEL.fullmatch(key):
            raise _refused(path, f"it holds the name {key[:200]!r}")
        if key in ("in_spec", "out_spec"):
            _require_plain_tree(path, key, value)
        elif isinstance(value, str):
            _require_plain_string(path, key, value)


def _require_plain_string(path: Path, key: str, value: str) -> None:
    if key in ("target", "as_operator"):
        if not _OPERATORS.fullmatch(value):
            raise _refused(path, f"it calls {value!r}, which is not a permitted operator of PyTorch")
    elif key == "expr_str":
        if not _is_plain(value):
            raise _refused(path, f"a shape in it is {value!r}, not a plain expression")
    elif key == "source_fn_stack":
        if not all(_SOURCES.fullmatch(source.partition(",")[2]) for source in value.split(";")):
            raise _refused(path, f"a node comes from {value[:200]!r}, not a layer or function of PyTorch")
    elif key in _IDENTIFIERS:
        if not _IDENTIFIER.fullmatch(value):
            raise _refused(path, f"a {key} in it is {value[:200]!r}, not a plain name")
    elif key not in _TEXTS and not _LABEL.fullmatch(value):
        raise _refused(path, f"its {key} is {value[:200]!r}, not a plain name")


def _require_plain_tree(path: Path, key: str, spec: Any) -> None:
    """Raise WeightsError unless the inputs or outputs of a network are only nested tuples, lists and dicts."""
    try:
        protocol, root = json.loads(spec)
    except (ValueError, TypeError, RecursionError) as error:
        raise _refused(path, f"its {key} is not a protocol and a tree in JSON ({type(error).__name__})") from error
    if type(protocol) is not int or protocol != 1:
        raise _refused(path, f"its {key} has the protocol {protocol!r}; expected 1")
    level = [root]
    for _ in range(_DEEPEST_TREE):
        for node in level:
            if not _is_plain_node(node):
                raise _refused(path, f"its {key} holds {str(node)[:200]!r}, not a tuple, list or dict with plain keys")
        level = [child for node in level for child in node["children_spec"]]
    if level:
        raise _refused(path, f"its {key} is nested deeper than {_DEEPEST_TREE} levels")


def _is_plain_node(node: Any) -> bool:
    if not isinstance(node, dict) or set(node) != _TREE_KEYS or not isinstance(node["children_spec"], list):
        return False
    kind, context, children = node["type"], node["context"], node["children_spec"]
    if kind is None:
        return context is None and not children
    if kind in ("builtins.tuple", "builtins.list"):
        return bool(context == "null")
    return kind == "builtins.dict" and isinstance(context, str) and _has_plain_keys(context, len(children))


def _has_plain_keys(context: str, count: int) -> bool:
    """Whether the context of a dict, JSON inside JSON, is a list of plain keys, one per child."""
    try:
        keys = json.loads(context)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(keys, list)
        and len(keys) == count
        and all(type(key) is int or (type(key) is str and bool(_LABEL.fullmatch(key))) for key in keys)
    )


def _is_plain(expression: str) -> bool:
    """Whether an expression has only symbols, numbers and functions of shapes, so evaluating it is harmless."""
    words = _WORDS.findall(expression)
    return bool(_CHARACTERS.fullmatch(expression)) and all(_KNOWN_WORDS.fullmatch(word) for word in words)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of all nested dicts, and each part of a list with the key of the list."""
    waiting = [("", value)]  # a list, not recursion: JSON may be nested deeper than Python calls
    while waiting:
        key, value = waiting.pop()
        yield key, value
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((key, part) for part in value)


def _refused(path: Path, problem: str) -> WeightsError:
    return WeightsError(
        f"{path}: {problem}, and raygrid executes no code from a file; name its network as a checkpoint instead: a "
        "factory and a file of its weights"
    )
