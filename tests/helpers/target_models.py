"""Targets for tests, declared as by a user: one sound network, and functions that each break one rule."""

import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from raygrid.spec import AnswerSpec, TargetSpec
from raygrid.targets import ExternalTarget, open_target

LABELS = ("first", "second", "third")
SIZE = 32


def make_network() -> nn.Module:
    """Return a small network with random weights, whose logits spread like those of a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = timm.create_model("test_resnet", num_classes=len(LABELS)).eval()
        network.get_classifier().weight.data.mul_(300)
    return network


def half_network() -> nn.Module:
    return make_network().half()


def brain_network() -> nn.Module:
    return make_network().bfloat16()


def double_network() -> nn.Module:
    return make_network().double()


def no_network() -> list[int]:
    return []


def scores(images: np.ndarray) -> np.ndarray:
    """Return the network's logits of images (n, 3, 32, 32) from 0 to 1."""
    with torch.inference_mode():
        return make_network()(torch.from_numpy(images)).numpy()


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(scores(images))


def as_list(images: np.ndarray) -> list:
    return scores(images).tolist()


def probabilities(images: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores(images).astype(np.float64)))


def of_levels(images: np.ndarray) -> np.ndarray:
    """Return the logits of grey levels (n, 32, 32, 3), as read from files."""
    assert images.dtype == np.uint8
    return scores(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def softmax(images: np.ndarray) -> np.ndarray:
    weights = np.exp(scores(images).astype(np.float64))
    return weights / weights.sum(axis=1, keepdims=True)


def two_outputs(images: np.ndarray) -> np.ndarray:
    return scores(images)[:, :2]


def transposed(images: np.ndarray) -> np.ndarray:
    return scores(images).T


def not_a_number(images: np.ndarray) -> np.ndarray:
    answers = scores(images)
    answers[1, 2] = np.nan
    return answers


def text(images: np.ndarray) -> list:
    return [["benign"] * len(LABELS)] * len(images)


def blind(images: np.ndarray) -> np.ndarray:
    return np.full((len(images), len(LABELS)), 2.5)


def batch_scaled(images: np.ndarray) -> np.ndarray:
    """Return the answers of a network in training mode, which scales each batch by itself."""
    answers = scores(images)
    return answers - answers.mean(axis=0)


def timid(images: np.ndarray) -> np.ndarray:
    """Return logits in [0, 1], except for black and white images."""
    return np.where(images.std(axis=(1, 2, 3), keepdims=True)[..., 0, 0] > 0, 0.5 + scores(images) / 1e3, 9.0)


def save_onnx(path: Path, batch: int | None = None) -> Path:
    """Write the network as an ONNX file, of a fixed or of any batch size."""
    axes = None if batch else {"images": {0: "n"}, "logits": {0: "n"}}
    example = torch.zeros(batch or 2, 3, SIZE, SIZE)
    names = {"input_names": ["images"], "output_names": ["logits"]}
    with warnings.catch_warnings():  # this exporter needs no further package, and says at length that it is old
        warnings.simplefilter("ignore")
        torch.onnx.export(make_network(), (example,), str(path), dynamo=False, dynamic_axes=axes, **names)
    return path


def save_export(path: Path, batch: int | None = None) -> Path:
    """Write the network as a torch.export program, of a fixed or of any batch size."""
    shapes = None if batch else ({0: torch.export.Dim("n")},)
    example = torch.zeros(batch or 2, 3, SIZE, SIZE)
    torch.export.save(torch.export.export(make_network(), (example,), dynamic_shapes=shapes), path)
    return path


def save_files(folder: Path) -> Path:
    """Write the network as weights, programs and ONNX files, and return the folder."""
    save_file(make_network().state_dict(), folder / "clinic.safetensors")
    torch.save({"state_dict": make_network().state_dict()}, folder / "clinic.pt")
    for batch in (None, 4):
        save_onnx(folder / f"clinic{batch or ''}.onnx", batch)
        save_export(folder / f"clinic{batch or ''}.pt2", batch)
    return folder


def target(kind: str, source: str, **changes) -> TargetSpec:
    return TargetSpec(modality="toy", label="clinic", kind=kind, source=source, **changes)


def function(name: str, **changes) -> TargetSpec:
    """Return the spec of a function or factory of this module."""
    return target(changes.pop("kind", "callable"), f"target_models:{name}", **changes)


def opened(spec: TargetSpec, folder: Path = Path("unused"), channels: int = 3) -> ExternalTarget:
    return open_target(spec, labels=LABELS, channels=channels, image_size=SIZE, answers_dir=folder)


def specs(files: Path) -> dict[str, TargetSpec]:
    return {
        "checkpoint": function("make_network", kind="checkpoint", weights=str(files / "clinic.safetensors")),
        "state_dict": function("make_network", kind="checkpoint", weights=str(files / "clinic.pt")),
        "export": target("export", str(files / "clinic.pt2")),
        "export of 4": target("export", str(files / "clinic4.pt2")),
        "onnx": target("onnx", str(files / "clinic.onnx")),
        "onnx of 4": target("onnx", str(files / "clinic4.onnx")),
        "callable": function("scores"),
        "tensor": function("as_tensor"),
        "list": function("as_list"),
        "probability": function("probabilities", answer=AnswerSpec(kind="probability")),
    }
