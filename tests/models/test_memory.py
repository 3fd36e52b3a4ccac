"""The estimate of the memory that an attack needs, against the tensors that a real gradient keeps."""

from copy import deepcopy

import torch

from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold
from raygrid.models.memory import CONTEXT_BYTES, crafting_bytes
from raygrid.spec import DatasetSpec

DATASET = DatasetSpec(loader="x", image_size=64, channels=3)
MARGIN = 1.25


def kept_by_a_real_gradient(arch: str, num_images: int) -> int:
    """Return the bytes that autograd keeps in a forward pass with values, folded for a GPU."""
    classifier = build_classifier(arch, channels=3, num_outputs=2, seed=0)
    network = fold(deepcopy(classifier), torch.rand(1, 3, 64, 64) * 2 - 1, device="cuda")
    weights = {w.untyped_storage().data_ptr() for w in [*network.parameters(), *network.buffers()]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(num_images, 3, 64, 64, requires_grad=True))
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights)


def test_the_estimate_is_that_of_a_real_gradient_with_a_margin() -> None:
    for arch in ("test_resnet", "densenet121"):
        real = kept_by_a_real_gradient(arch, 2)
        estimate = crafting_bytes(arch, DATASET, num_images=2, num_outputs=2)
        classifier = build_classifier(arch, channels=3, num_outputs=2, seed=0)
        weights = 4 * sum(w.numel() for w in classifier.parameters())
        # folding drops the weights of some normalisations and adds biases
        assert abs(estimate - CONTEXT_BYTES - MARGIN * real - weights) < 0.01 * (MARGIN * real + weights)


def test_memory_grows_with_the_block() -> None:
    one, two, three = (crafting_bytes("test_resnet", DATASET, num_images=n, num_outputs=1) for n in (1, 2, 3))
    assert two - one == three - two > 0
