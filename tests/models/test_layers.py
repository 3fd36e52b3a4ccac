"""Layer names that plug-ins may hook, in the order in which layers run."""

import pytest
import torch

from raygrid.attacks import inner_networks
from raygrid.errors import SpecError
from raygrid.models.architectures import build_classifier
from raygrid.models.layers import Layer, layers_of


def test_a_resnets_stages_halve_the_maps() -> None:
    layers = {layer.name: layer for layer in layers_of("resnet18", image_size=64, depth=0)}
    assert list(layers) == ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert layers["layer2"] == Layer("layer2", "Sequential", 128, 8, 8)


@pytest.mark.parametrize("arch", ["densenet121", "inception_v3"])
def test_every_name_leads_to_a_layer_of_that_size(arch: str) -> None:
    layers = layers_of(arch, image_size=96)
    (network,) = inner_networks(build_classifier(arch, channels=3, num_outputs=1, seed=0).eval())
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        shapes: list[torch.Size] = []
        handle = network.get_submodule(layer.name).register_forward_hook(
            lambda module, inputs, output, shapes=shapes: shapes.append(output.shape)
        )
        network(torch.zeros(1, 3, 96, 96))
        handle.remove()
        assert shapes == [(1, layer.channels, layer.height, layer.width)]


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(SpecError, match="unknown architecture 'resnet1'"):
        layers_of("resnet1", image_size=64)
