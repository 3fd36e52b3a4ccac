"""The names of an architecture's layers, for attacks that look inside a network."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from raygrid.attacks.inner_networks import inner_networks
from raygrid.models.architectures import build_classifier


class Layer(NamedTuple):
    """A layer that gives maps.

    Attributes:
        name: for `get_submodule` of the network that `inner_networks` gives.
        kind: name of its class.
        channels, height, width: of its maps.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int


def layers_of(arch: str, *, image_size: int, depth: int = 1) -> list[Layer]:
    """Return the layers of an architecture that give maps, in the order in which they run.

    Args:
        arch: a name of timm.
        image_size: side of the images in pixels.
        depth: most dots in a name: 0 for the outermost layers.

    Raises SpecError with near misses if timm has no such architecture.
    """
    classifier = build_classifier(arch, channels=3, num_outputs=1, seed=0).eval()
    (network,) = inner_networks(classifier)
    found: list[Layer] = []

    def note(name: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            found.append(Layer(name, type(module).__name__, *output.shape[1:]))

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, module, output))
        for name, module in network.named_modules()
        if name and name.count(".") <= depth
    ]
    with torch.inference_mode():
        classifier(torch.zeros(1, 3, image_size, image_size))
    for handle in handles:
        handle.remove()
    return found
