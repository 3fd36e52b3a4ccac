"""The device memory that a training or an attack needs, estimated from shapes, without a computation or a device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.models.architectures import build_classifier
from raygrid.models.folding import fold_shapes
from raygrid.spec import DatasetSpec, Recipe

_COPIES = 4  # of the weights: themselves, their gradients, and Adam's two moments
_MARGIN = 1.25  # workspaces of convolutions, fragments of the allocator, gradients in progress
CONTEXT_BYTES = 600 * 2**20  # of a process on a GPU before its first tensor, outside PyTorch's own count


def training_bytes(arch: str, dataset: DatasetSpec, recipe: Recipe, *, num_outputs: int) -> int:
    """Return an estimate, in bytes, of the peak memory of a training on a GPU, including the overhead of its process.

    A forward pass runs on PyTorch's `meta` device, where tensors have shapes but no memory; the estimate sums the
    tensors that autograd keeps for the backward pass. It assumes float32, so it is too high for bfloat16.
    """
    with torch.device("meta"):
        classifier = build_classifier(arch, channels=dataset.channels, num_outputs=num_outputs, seed=0).train()
        images = torch.empty(recipe.batch_size, dataset.channels, dataset.image_size, dataset.image_size)
        labels = torch.empty(recipe.batch_size, num_outputs)
    activations = _kept_bytes(classifier, lambda: F.binary_cross_entropy_with_logits(classifier(images), labels))
    return int((_COPIES * _bytes_of(classifier) + activations) * _MARGIN) + CONTEXT_BYTES


def crafting_bytes(arch: str, dataset: DatasetSpec, *, num_images: int, num_outputs: int) -> int:
    """Return an estimate, in bytes, of the peak memory of an attack on a GPU, including the overhead of its process.

    It covers one gradient of a block through one surrogate, as it is folded for a GPU, in float32. The weights of the
    other networks on the device come on top.

    Args:
        num_images: of a block, `block_size` of the study's transfer stage.
    """
    with torch.device("meta"):
        classifier = build_classifier(arch, channels=dataset.channels, num_outputs=num_outputs, seed=0)
        images = torch.empty(num_images, dataset.channels, dataset.image_size, dataset.image_size)
    network = fold_shapes(classifier, images[:1])
    images.requires_grad_(True)
    activations = _kept_bytes(network, lambda: network(images))
    return int(activations * _MARGIN) + _bytes_of(network) + CONTEXT_BYTES


def _kept_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Return the bytes of the tensors that autograd keeps for the backward pass, without those of the network."""
    own = {_storage(tensor) for tensor in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = forward()  # kept alive, because a new storage can get the address of a freed one
    total = sum(size for storage, size in kept.items() if storage not in own)
    del outputs
    return total


def _bytes_of(network: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
