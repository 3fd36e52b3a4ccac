"""Seconds per image of one network on this machine: a training step, a gradient of an attack, a forward pass."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from raygrid.attacks import Crafter, loss_gradient
from raygrid.models.architectures import build_classifier
from raygrid.models.epoch import start, step
from raygrid.models.folding import fold
from raygrid.models.numerics import set_numerics
from raygrid.spec import AttackSpec, DatasetSpec, Recipe, TransferSpec

_REPEATS = 3
_PIXELS_AT_ONCE = 4 * 256 * 256  # per batch on a CPU; larger batches take long and change little


@dataclass(frozen=True)
class Seconds:
    """Seconds per image on one device, and the size of the network."""

    step: float
    gradient: float
    forward: float
    num_parameters: int


def num_gradients(attacks: Sequence[AttackSpec]) -> int:
    """Return the gradient evaluations per image that `Crafter` needs for all the attacks together."""
    num_outputs = max(1, *(len(a.label_weights) for a in attacks))
    # an image large enough for attacks of other packages, which may pad, crop or resize it
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_outputs))
    crafter = Crafter(network)
    for _ in crafter.craft(torch.zeros(1, 3, 32, 32), torch.ones(1, num_outputs), attacks, image_ids=("any",)):
        pass
    return crafter.num_gradients


def has_gpu() -> bool:
    """Whether `measure` would run on a GPU."""
    return torch.cuda.is_available()


def device_name() -> str:
    """Return the name of the device that `measure` runs on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "a CPU")
    return f"{model}, with the threads of the recipes"


def measure(arch: str, dataset: DatasetSpec, recipe: Recipe, transfer: TransferSpec, num_outputs: int) -> Seconds:
    """Return the seconds per image of an architecture at the study's image size, the minimum of a few repeats."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    set_numerics(threads=recipe.threads, precision=recipe.precision)
    size = recipe.batch_size
    if device == "cpu":
        size = max(2, min(size, _PIXELS_AT_ONCE // dataset.image_size**2))
    shape = (size, dataset.channels, dataset.image_size, dataset.image_size)
    images = (torch.rand(shape) * 2 - 1).to(device, memory_format=torch.channels_last)
    labels = torch.ones(size, num_outputs, device=device)
    classifier = build_classifier(arch, channels=dataset.channels, num_outputs=num_outputs, seed=0).to(device)
    state = start(classifier.train(), recipe)
    trained = _fastest(lambda: step(state, images, labels, recipe)) / size
    set_numerics(threads=transfer.threads)
    frozen = fold(classifier.cpu(), images[:1].cpu(), device=device).to(device)
    return Seconds(
        step=trained,
        gradient=_fastest(lambda: loss_gradient(frozen, images, labels).values) / size,
        forward=_fastest(lambda: _forward(frozen, images)) / size,
        num_parameters=sum(p.numel() for p in classifier.parameters()),
    )


def untimed(arch: str, dataset: DatasetSpec, num_outputs: int) -> Seconds:
    """Return the size of an architecture, and NaN for every time, without allocating or running the network."""
    with torch.device("meta"):
        classifier = build_classifier(arch, channels=dataset.channels, num_outputs=num_outputs, seed=0)
    return Seconds(math.nan, math.nan, math.nan, num_parameters=sum(p.numel() for p in classifier.parameters()))


def _forward(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = network(images)
    return logits


def _fastest(work: Callable[[], Tensor]) -> float:
    """Return the fewest seconds of a few runs, after a warm-up."""
    work()
    seconds = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        work().sum().item()  # a GPU returns before it has finished, and reading a number waits for it
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
