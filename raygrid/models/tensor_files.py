"""Files of tensors by name, read without executing code in them (docs/explanation/design.md, invariant 7).

People keep weights in checkpoints: nested dicts with the state of an optimizer, averaged weights beside the raw ones,
and names with the prefixes of wrappers. `sets_of_tensors` finds the sets of weights in a file, and `read_tensors`
returns the set of a file with one. `raygrid.models.checkpoints` fits a set to a network.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raygrid.errors import WeightsError, listed
from raygrid.models.file_kinds import PICKLE, SAFETENSORS, TORCH, kind_of_file, pickled_in

Tensors = dict[str, Tensor]

# Segments that wrappers add to names, at any place: DataParallel, torch.compile, Fabric, FSDP, checkpointing.
_WRAPPERS = frozenset({"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_CONTAINERS = {"state_dict", "model_state_dict", "model", "net", "network", "weights", "module", "params"}
_PREFIXES = _WRAPPERS | {"model", "net", "network", "backbone"}  # of all names: the attribute of a LightningModule
_COUNTERS = ("total_ops", "total_params")  # buffers of the profiler thop, in every module
_NUM_AVERAGED = "n_averaged"  # buffer of torch.optim.swa_utils.AveragedModel
_TRAINING_STATE = re.compile(r"optim\w*|opt|opt_\w+|\w*sched\w*|\w*scaler|amp|rng\w*|\w*random\w*", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_AVERAGES = {"ema", "swa", "shadow", "averaged", "average", "avg", "polyak"}
_QUANTIZED = re.compile(
    r"(^|\.)(zero_point|_packed_params|weight_fake_quant|activation_post_process(_\d+)?|SCB|absmax|quant_map|qweight|qzeros)"
    r"(\.|$)"
)
_HALVES = (torch.float16, torch.bfloat16)
_REASON = re.compile(r"WeightsUnpickler error:\s+(.+)")  # in a long message of PyTorch
_DEEPEST = 6  # levels of nesting


def read_tensors(path: Path, entry: str = "") -> Tensors:
    """Return the weights in a file by name, without the nesting and the common prefixes of checkpoints.

    Numbers in half precision become float32, which holds each of them exactly.

    Args:
        entry: the set of weights to read, if the file holds several.

    Raises WeightsError as `sets_of_tensors` does, and if the file holds several sets.
    """
    found = sets_of_tensors(path, entry)
    if len(found) > 1:
        usual = {place: tensors for place, tensors in found.items() if set(place.split(".")) <= _CONTAINERS}
        names = {name for tensors in usual.values() for name in tensors}
        others = [tensors for place, tensors in found.items() if place not in usual]
        if len(usual) != 1 or any(not names.isdisjoint(tensors) for tensors in others):
            raise several_sets(path, list(found))
        found = usual
    (tensors,) = found.values()
    return _without_common_prefix(tensors)


def sets_of_tensors(path: Path, entry: str = "", layers: Collection[str] = ()) -> dict[str, Tensors]:
    """Return the sets of weights in a file, one or more, by their place in it; the names are as written.

    Args:
        entry: the only set to return.
        layers: names of a network's layers, which are none of averages.

    Raises WeightsError if the file does not exist, is of another kind, could execute code or holds quantized weights;
    if it has no set `entry`; or if averaged weights are beside raw ones and `entry` is "".
    """
    loaded = _load(path)
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}; expected a state_dict, tensors by name: save that")
    found: dict[str, Tensors] = {}
    for place, tensors in _sets(loaded, "", set()):
        for name, part in _apart_from_average(tensors, layers).items():
            found[".".join(filter(None, (place, name)))] = part
    if not found:
        raise WeightsError(f"{path} holds no tensors by name; expected a state_dict: save that")
    if entry:
        found = _named(path, found, entry)
    averages = [place for place in found if _is_average(place)]
    if averages and len(averages) < len(found):
        raise several_sets(path, [*(place for place in found if place not in averages), *averages])
    for tensors in found.values():
        _require_plain_numbers(path, tensors)
    return {place: {k: v.float() if v.dtype in _HALVES else v for k, v in t.items()} for place, t in found.items()}


def several_sets(path: Path, places: list[str]) -> WeightsError:
    """Return the error for a file with several sets of weights, of which the user must choose one."""
    choice = next(place for place in places if place)
    return WeightsError(
        f"{path} holds {len(places)} sets of weights: {listed([place or 'the outermost' for place in places])}; choose "
        f"one: weights_entry={choice!r} in the TargetSpec, or for a model of the zoo file:{path}#{choice}"
    )


def _load(path: Path) -> Any:
    try:
        kind = kind_of_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"weights file {path} does not exist; correct the path") from error
    except OSError as error:
        raise WeightsError(f"weights file {path} cannot be read ({error.strerror}); name a file of weights") from error
    if kind is SAFETENSORS or (kind is None and path.suffix == ".safetensors"):
        return _load_safetensors(path)
    if kind is not None and kind is not TORCH:
        objects = f" with objects of {words}" if kind is PICKLE and (words := pickled_in(path).words) else ""
        raise WeightsError(f"{path} is {kind.words}{objects}; expected a state_dict, tensors by name: {kind.remedy}")
    try:
        with path.open("rb") as file:  # given a path, PyTorch goes by the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise _unreadable(path, error) from error


def _load_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
            aliases: Mapping[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise _unreadable(path, error) from error
    # safetensors.torch.save_model writes tensors that share memory once, and their other names as metadata
    shared = {name: same for name, same in aliases.items() if same in tensors and "." in name}
    return {name: tensors[same] for name, same in shared.items()} | tensors


def _unreadable(path: Path, error: Exception) -> WeightsError:
    pickled = pickled_in(path)
    if pickled.is_object:
        return WeightsError(
            f"{path} is one object of {pickled.words}, written by torch.save(model), and raygrid executes no code "
            "from a file; where it was made, save model.state_dict() as .safetensors, or the network with torch.export"
        )
    if pickled.classes:
        return WeightsError(
            f"{path} holds objects of {pickled.words} in addition to tensors, and raygrid executes no code "
            "from a file; where it was made, load it with weights_only=False and save its state_dict alone"
        )
    reason = _REASON.search(str(error))
    first = reason[1] if reason else (str(error).splitlines() or [""])[0]
    if "Unsupported operand" in str(error):
        first = "its pickle protocol is 4 or later, and PyTorch reads 2 and 3 without executing code"
    return WeightsError(
        f"{path} cannot be read as tensors alone ({type(error).__name__}: {first[:200]}); raygrid executes no code "
        "from a file: save the state_dict as .safetensors"
    )


def _sets(found: Mapping[Any, Any], place: str, seen: set[int]) -> Iterator[tuple[str, Tensors]]:
    """Yield the dicts of tensors in a checkpoint with their places, without the state of an optimizer."""
    if id(found) in seen or place.count(".") >= _DEEPEST or "param_groups" in found:
        return
    seen.add(id(found))
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor) and not _is_counter(str(k))}
    if any(tensor.ndim for tensor in tensors.values()):
        yield place, tensors
    for key, value in found.items():
        inner = f"{place}.{key}" if place else str(key)
        if _TRAINING_STATE.fullmatch(str(key)):
            continue
        if isinstance(value, Mapping):
            yield from _sets(value, inner, seen)
        elif _is_average(str(key)) and isinstance(value, (list, tuple)) and _are_tensors(value):
            yield inner, {str(k): tensor for k, tensor in enumerate(value)}  # an average without names


def _are_tensors(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values)


def _is_counter(name: str) -> bool:
    return name == _NUM_AVERAGED or name.rpartition(".")[2] in _COUNTERS


def _is_average(place: str) -> bool:
    """Whether a place in a file is that of averaged weights (EMA, SWA), by its words."""
    return any(word.lower() in _AVERAGES for word in _WORDS.findall(place))


def _apart_from_average(tensors: Tensors, layers: Collection[str]) -> dict[str, Tensors]:
    """Return the tensors of one dict, and apart from them those of an average with the same names after its prefix.

    A Lightning checkpoint has both in one dict, as `model.` and `ema_model.`. A network may have a layer named `ema`.
    A prefix therefore counts only if most names after it are names of other tensors of the same shape, too, perhaps
    without their dots.
    """
    averages = sorted({first for name in tensors if _is_average(first := name.partition(".")[0])} - set(layers))
    rest = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in averages}
    known = {(end.replace(".", ""), tensor.shape) for name, tensor in rest.items() for end in suffixes(name)}
    found: dict[str, Tensors] = {}
    for first in averages:
        part = {name[len(first) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{first}.")}
        if part and sum((name.replace(".", ""), t.shape) in known for name, t in part.items()) >= len(part) / 2:
            found[first] = part
    if not found:
        return {"": tensors}
    raw = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in found}
    firsts = {name.partition(".")[0] for name in raw}
    return {firsts.pop() if len(firsts) == 1 else "raw": raw, **found}


def suffixes(name: str) -> Iterator[str]:
    """Yield a dotted name, then the name without its first segment, and so on.

    >>> list(suffixes("model.conv.weight"))
    ['model.conv.weight', 'conv.weight', 'weight']
    """
    parts = name.split(".")
    return (".".join(parts[k:]) for k in range(len(parts)))


def without_wrappers(names: Collection[str]) -> dict[str, str]:
    """Return names without the segments of wrappers → names; the full names if two become the same."""
    short = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in names}
    return short if len(short) == len(names) else {name: name for name in names}


def _named(path: Path, found: dict[str, Tensors], entry: str) -> dict[str, Tensors]:
    """Return the sets that an entry names: by their whole place, its end or its beginning, or by a prefix of names."""
    if entry in found:
        return {entry: found[entry]}
    for chosen in (
        {place: tensors for place, tensors in found.items() if place.endswith(f".{entry}")},
        {place: tensors for place, tensors in found.items() if place.startswith(f"{entry}.")},
    ):
        if chosen:
            return chosen
    for place, tensors in found.items():
        prefix = entry.removeprefix(f"{place}.") + "."
        names = without_wrappers(tensors)
        part = {name.removeprefix(prefix): tensors[names[name]] for name in names if name.startswith(prefix)}
        if part:
            return {entry: part}
    raise WeightsError(
        f"{path} holds no set of weights {entry!r}; it holds {listed([place or 'one set' for place in found])}: "
        "correct weights_entry, or remove it"
    )


def _require_plain_numbers(path: Path, tensors: Tensors) -> None:
    """Raise WeightsError if tensors are quantized, or come from training with simulated quantization."""
    for name, tensor in tensors.items():
        narrow = tensor.dtype.itemsize == 1 and (tensor.is_floating_point() or name.endswith("weight"))
        if tensor.is_quantized or narrow or _QUANTIZED.search(name):
            raise WeightsError(
                f"{path} holds quantized weights ({name}, {str(tensor.dtype).removeprefix('torch.')}), which a "
                "state_dict does not describe fully; save the weights before quantization, or declare a callable"
            )


def _without_common_prefix(tensors: Tensors) -> Tensors:
    """Return tensors without the prefixes of wrappers that all names have."""
    firsts = {name.partition(".")[0] for name in tensors}
    if len(firsts) > 1 or not firsts <= _PREFIXES or not all("." in name for name in tensors):
        return tensors
    return _without_common_prefix({name.partition(".")[2]: tensor for name, tensor in tensors.items()})
