"""The weights of a checkpoint under the names of a network: all of them, or an error that names the difference."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from raygrid.errors import WeightsError, listed
from raygrid.models.tensor_files import Tensors, sets_of_tensors, several_sets, suffixes, without_wrappers

_NO_WEIGHTS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")  # no answer depends on them
_MOST_TRIED = 8  # prefixes of a set
_PART = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Misfit:
    """The differences of a set of weights from a network; `shapes` has the sizes in the file and in the network."""

    missing: list[str]
    unexpected: list[str]
    shapes: dict[str, tuple[list[int], list[int]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    @property
    def words(self) -> str:
        """The differences as one text: counts, and up to five names of each kind."""
        sizes = [f"{name}: {file} in the file, {own} in the network" for name, (file, own) in self.shapes.items()]
        parts = (
            (self.missing, "absent from the file"),
            (self.unexpected, "not in the network"),
            (sizes, "of another shape"),
        )
        return "; ".join(f"{len(names)} {problem} ({listed(names)})" for names, problem in parts if names)

    @property
    def remedy(self) -> str:
        """The next step: about the head if only its size differs."""
        outputs = {(file[0], own[0]) for file, own in self.shapes.values() if file[1:] == own[1:] and file and own}
        if not self.missing and not self.unexpected and len(outputs) == 1 and len(self.shapes) <= 2:
            file, own = outputs.pop()
            return f"the head in the file has {file} outputs, the network's has {own}: make them equal"
        return "use the weights of this network"


def read_fitting(path: Path, own: Mapping[str, object], *, entry: str = "", new_head: Collection[str] = ()) -> Tensors:
    """Return the weights in a file under the names of a network; absent are only counters of training and profilers.

    Wrappers may have added segments to the names (`module.`, `_orig_mod.`), in the file or in the network. Any other
    prefix is removed only if the network's names are complete behind it, and then tensors without it are left out: the
    weights of a loss, or metrics. They must be fewer numbers than the weights, or `entry` must name the prefix.

    Args:
        own: the state_dict of the network.
        entry: the set of weights to use, if the file holds several that fit.
        new_head: names that need not fit, of a head that is replaced; the file may then hold further tensors.

    Raises WeightsError as `sets_of_tensors` does, if no set fits, or if several do that differ.
    """
    return fit(path, sets_of_tensors(path, entry, layers_of(own)), own, new_head=new_head)


def layers_of(own: Mapping[str, object]) -> set[str]:
    """Return the first segments of a network's names, without those of wrappers."""
    return {name.partition(".")[0] for name in without_wrappers(own.keys())}


def fit(
    path: Path, sets: Mapping[str, Tensors], own: Mapping[str, object], *, new_head: Collection[str] = ()
) -> Tensors:
    """Return the set of weights that fits a network, as `read_fitting` does for the sets of a file."""
    shapes = {name: tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
    fitting: dict[str, Tensors] = {}
    small: list[str] = []  # places that fit, but hold less than half of their set
    misfits: list[Misfit] = []
    for place, tensors in sets.items():
        for prefix, group in _groups(tensors, list(shapes)):
            misfit = compare(group, shapes, new_head=new_head)
            full = ".".join(filter(None, (place, prefix.rstrip("."))))
            if misfit:
                misfits.append(misfit)
            elif prefix and 2 * _num_values(group) < _num_values(tensors):
                small.append(full)
            else:
                fitting[full] = group
    if len(small) > 1 and not fitting:
        raise several_sets(path, small)
    if small and not fitting:
        raise WeightsError(
            f"{path}: the names behind {small[0]} fit the network, but most of the file is outside them; if you "
            f"mean these weights, set weights_entry={small[0]!r} in the TargetSpec, or for a model of the zoo "
            f"file:{path}#{small[0]}"
        )
    if not fitting:
        raise _misfitting(path, min(misfits, key=len), sets)
    first, *others = fitting.values()
    _require_numbers(path, first, shapes)
    if any(not _are_equal(first, other) for other in others):
        raise several_sets(path, list(fitting))
    return {name: first[name] for name in shapes if name in first and first[name].shape == shapes[name].shape}


def compare(file: Mapping[str, Tensor], own: Mapping[str, Tensor], *, new_head: Collection[str] = ()) -> Misfit:
    """Return the differences between the tensors of a file and of a network.

    Args:
        new_head: names that need not fit; the file may then hold further tensors.
    """
    needed = [name for name in own if name not in new_head and not _is_no_weight(name)]
    return Misfit(
        missing=[name for name in needed if name not in file],
        unexpected=[] if new_head else [name for name in file if name not in own and not _is_no_weight(name)],
        shapes={
            name: (list(file[name].shape), list(own[name].shape))
            for name in needed
            if name in file and file[name].shape != own[name].shape
        },
    )


def _groups(tensors: Tensors, own: list[str]) -> Iterator[tuple[str, Tensors]]:
    """Yield prefixes that the network's names have in the file, with the tensors under the names of the network.

    Names that the network does not have keep their form in the file.
    """
    written, wanted = without_wrappers(tensors), without_wrappers(own)
    in_file = Counter(name[: len(name) - len(end)] for name in written for end in suffixes(name) if end in wanted)
    in_network = Counter(name[: len(name) - len(end)] for name in wanted for end in suffixes(name) if end in written)
    for prefix, _ in in_file.most_common(_MOST_TRIED):
        inside = {name.removeprefix(prefix): full for name, full in written.items() if name.startswith(prefix)}
        yield prefix, {wanted.get(name, full): tensors[full] for name, full in inside.items()}
    for prefix, _ in in_network.most_common(_MOST_TRIED):
        if prefix and all(name.startswith(prefix) for name in wanted):
            yield "", {wanted.get(prefix + name, full): tensors[full] for name, full in written.items()}
    if not in_file:
        yield "", dict(tensors)


def _num_values(tensors: Tensors) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def _is_no_weight(name: str) -> bool:
    return name.rpartition(".")[2] in _NO_WEIGHTS


def _require_numbers(path: Path, file: Tensors, own: Mapping[str, Tensor]) -> None:
    """Raise WeightsError unless arrays of weights in floating point are dense floats in the file, too.

    PyTorch would drop imaginary parts, and take whole numbers for weights, which are those of a quantized network.
    """
    for name, tensor in file.items():
        if name not in own or not own[name].is_floating_point() or not (tensor.ndim or tensor.is_complex()):
            continue
        if tensor.is_meta or tensor.layout != torch.strided or not tensor.is_floating_point():
            place = "on meta, without values" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
            raise WeightsError(
                f"{path}: {name} is {str(tensor.dtype).removeprefix('torch.')} ({place}); expected dense floats: save "
                "the weights in floating point"
            )


def _are_equal(one: Tensors, other: Tensors) -> bool:
    return all(name in other and torch.equal(tensor, other[name]) for name, tensor in one.items())


def _misfitting(path: Path, misfit: Misfit, sets: Mapping[str, Tensors]) -> WeightsError:
    if any(all(name.isdigit() for name in tensors) for tensors in sets.values()) and len(sets) == 1:
        return WeightsError(
            f"{path} does not fit the network: the chosen weights are a list without names; where they were made, copy "
            "them into the network and save its state_dict"
        )
    part = "; the file is one part of a checkpoint in several: save it as one" if _PART.search(path.name) else ""
    return WeightsError(f"{path} does not fit the network; tensors: {misfit.words}{part}; {misfit.remedy}")
