"""The identity of a target in signatures: computed without PyTorch, and without executing code of the target."""

import hashlib
import importlib.machinery
import importlib.util
import mmap
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from raygrid.errors import SpecError, WeightsError
from raygrid.hashing import Json, digest
from raygrid.spec import TargetSpec
from raygrid.spec.serialization import to_plain
from raygrid.spec.targets import FILE, FUNCTION

LEVELS_VERSION = 2  # raise when the rounding to whole grey levels changes; 1 rounded to nearest, beyond the budget
ADAPTER_VERSION = 1  # raise when the same target would receive other images, or when its answers are read differently

_FIELDS = {"model": "source", "weights": "weights"}  # role of a file -> field of the declaration with its path
# An ONNX file names the other files that hold its tensors in a StringStringEntryProto {key: "location", value: path}.
_LOCATION = re.compile(rb"\n\x08location\x12")


def target_identity(spec: TargetSpec) -> str:
    """Return the hash of everything that can change an answer of the target: its declaration and its files.

    For a function the hash covers the file of its module, not the imports of that module. For an endpoint it covers
    the URL and the declared version. The limits of an endpoint and the folder of a file change no answer.

    Raises SpecError if a path is not absolute, WeightsError if a file or module does not exist.
    """
    declared = cast(dict[str, Any], to_plain(spec))
    declared.pop("attacked_through", None)
    declared["endpoint"] = {"version": spec.endpoint.version} if spec.traits.is_metered else {}
    paths = identity_files(spec)
    for name in paths.keys() & _FIELDS.keys():
        del declared[_FIELDS[name]]  # the content counts, not the path
    files: dict[str, Json] = {name: _sha256(path) for name, path in paths.items()}
    if spec.traits.has_data_files:
        files["data"] = {name: _sha256(paths["model"].parent / name) for name in data_files(spec, paths["model"])}
    levels: dict[str, Json] = {"levels": LEVELS_VERSION} if spec.in_levels else {}
    return digest({"adapter": ADAPTER_VERSION, "target": declared, "files": files, **levels})


def identity_files(spec: TargetSpec) -> dict[str, Path]:
    """Return the files that the identity of a target covers, apart from the data files beside one, by their role."""
    files = {}
    if spec.traits.source is FUNCTION:
        files["module"] = module_path(spec)
    if spec.traits.source is FILE:
        files["model"] = target_file(spec, spec.source)
    if spec.traits.needs_weights:
        files["weights"] = target_file(spec, spec.weights)
    return files


def endpoint_identity(spec: TargetSpec) -> str:
    """Return the key of an endpoint's kept answers, of URL and version; their meaning can be declared later."""
    return digest({"url": spec.source, "version": spec.endpoint.version})


def target_file(spec: TargetSpec, name: str) -> Path:
    """Return the path of a file that a target names.

    Raises SpecError if the path is not absolute, WeightsError if the file does not exist.
    """
    path = Path(name).expanduser()
    if not path.is_absolute():  # the workers of a cluster have working directories of their own
        raise SpecError(f"target {spec.label!r}: the path is {name!r}; expected an absolute path that all nodes share")
    if path.is_dir():
        raise WeightsError(
            f"target {spec.label!r}: {path} is a folder, such as a TensorFlow model or a checkpoint in parts; name "
            "one file"
        )
    if not path.is_file():
        raise WeightsError(f"target {spec.label!r}: {path} does not exist; check the path and the disk of this node")
    return path


def module_path(spec: TargetSpec) -> Path:
    """Return the file of the module of a target's function, without executing the module or its packages.

    Raises WeightsError if this machine has no such module.
    """
    module = spec.source.partition(":")[0]
    first, *rest = module.split(".")
    try:
        found = importlib.util.find_spec(first)
    except ValueError:  # __main__, a module without a file of its own
        found = None
    name = first
    for part in rest:  # importlib.util.find_spec would import the packages above the module
        places = found.submodule_search_locations if found is not None else None
        name = f"{name}.{part}"
        found = importlib.machinery.PathFinder.find_spec(name, list(places)) if places else None
    if found is None or not found.has_location or found.origin is None:
        raise WeightsError(
            f"target {spec.label!r}: the module {module} was not found; install its package on every node, or add its "
            "folder to PYTHONPATH"
        )
    return Path(found.origin)


def data_files(spec: TargetSpec, path: Path) -> list[str]:
    """Return the names of the files that hold tensors of an ONNX file, relative to its folder.

    Raises WeightsError if one does not exist.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = {_text_at(content, found.end()) for found in _LOCATION.finditer(content)}
    for name in sorted(names):
        if not (path.parent / name).is_file():
            raise WeightsError(
                f"target {spec.label!r}: {path.name} keeps tensors in {name}, but {path.parent} has no such file; copy "
                "it there"
            )
    return sorted(names)


def _text_at(content: mmap.mmap, start: int) -> str:
    """Return the text of a protobuf field: the length as 7 bits per byte, lowest first, then UTF-8."""
    length = shift = 0
    while True:
        byte = content[start]
        start += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return content[start : start + length].decode("utf-8", errors="replace")


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, modified_ns: int) -> str:
    """Return the SHA-256 of a file; a large file is read again only after a change of size or time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
