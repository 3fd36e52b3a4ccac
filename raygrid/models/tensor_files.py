"""Files of tensors by name, read without executing code in them (docs/explanation/design.md, invariant 7)."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raygrid.errors import WeightsError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, without the usual nesting of checkpoints.

    Raises WeightsError if the file does not exist or contains anything but tensors.
    """
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise WeightsError(f"weights file {path} does not exist; correct the path") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read as tensors alone ({str(error).splitlines()[0]}); raygrid executes no "
            "code from a file: save the state_dict as .safetensors"
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}; expected a state_dict, tensors by name: save that")
    for wrapping in ("state_dict", "model"):
        if isinstance(found.get(wrapping), dict):
            found = found[wrapping]
    tensors = {str(k).removeprefix("module."): v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name; expected a state_dict: save that")
    return tensors
