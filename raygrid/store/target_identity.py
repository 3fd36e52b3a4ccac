"""What stands for an external target in a signature; no PyTorch, and nothing of the target's is executed."""

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

LEVELS_VERSION = 2  # raise when whole grey levels would be made otherwise; 1 rounded to nearest, beyond the budget
ADAPTER_VERSION = 1  # raise when the same target would be shown other images, or its answers be read differently

# In an ONNX file a tensor that lies in another file names it: a StringStringEntryProto {key: "location", value: path}.
_LOCATION = re.compile(rb"\n\x08location\x12")


def target_identity(spec: TargetSpec) -> str:
    """Return the hash of everything that can change an answer of the target: its declaration and its files.

    Of a `callable` and a checkpoint's factory that is the file of their module, not what that imports; of an endpoint
    its URL and declared version. How fast an endpoint is asked, and where a file lies, changes no answer.

    Raises SpecError for a path that is not absolute, WeightsError for a file or module that is not there.
    """
    declared = cast(dict[str, Any], to_plain(spec))
    declared.pop("attacked_through", None)
    declared["endpoint"] = {"version": spec.endpoint.version} if spec.kind == "http" else {}
    files: dict[str, Json] = {}
    if spec.kind in ("checkpoint", "callable"):
        files["module"] = _sha256(module_path(spec))
    if spec.kind == "checkpoint":
        files["weights"] = _sha256(target_file(spec, declared.pop("weights")))
    if spec.kind in ("export", "onnx"):
        path = target_file(spec, declared.pop("source"))
        files["model"] = _sha256(path)
        if spec.kind == "onnx":
            files["data"] = {name: _sha256(path.parent / name) for name in external_data(spec, path)}
    levels: dict[str, Json] = {"levels": LEVELS_VERSION} if spec.in_levels else {}
    return digest({"adapter": ADAPTER_VERSION, "target": declared, "files": files, **levels})


def endpoint_identity(spec: TargetSpec) -> str:
    """Return what an HTTP target's answers are kept under: URL and version. What they mean can be declared later."""
    return digest({"url": spec.source, "version": spec.endpoint.version})


def target_file(spec: TargetSpec, name: str) -> Path:
    """Return the path of a file that a target names.

    Raises SpecError if it is not absolute, WeightsError if it is not there.
    """
    path = Path(name).expanduser()
    if not path.is_absolute():  # the workers of a cluster have working directories of their own
        raise SpecError(f"target {spec.label!r} names {name!r}; expected an absolute path that all nodes share")
    if not path.is_file():
        raise WeightsError(f"target {spec.label!r}: {path} is not there; see to the path, and to the disk of this node")
    return path


def module_path(spec: TargetSpec) -> Path:
    """Return the file of the module that a target's function lies in, without executing it or its packages.

    Raises WeightsError if there is no such module here.
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
            f"target {spec.label!r}: there is no module {module} here; install its package on every node, or put its "
            "folder on PYTHONPATH"
        )
    return Path(found.origin)


def external_data(spec: TargetSpec, path: Path) -> list[str]:
    """Return the names of the files beside an ONNX file in which it keeps tensors, relative to its folder.

    Raises WeightsError for one that is not there.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = {_text_at(content, found.end()) for found in _LOCATION.finditer(content)}
    for name in sorted(names):
        if not (path.parent / name).is_file():
            raise WeightsError(
                f"target {spec.label!r}: {path.name} keeps tensors in {name}, which is not beside it; copy it there"
            )
    return sorted(names)


def _text_at(content: mmap.mmap, start: int) -> str:
    """Return the text of a protobuf field: its length in seven bits a byte, the lowest first, then UTF-8."""
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
    """Return the SHA-256 of a file; one of gigabytes is read once as long as it stays what it was."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
