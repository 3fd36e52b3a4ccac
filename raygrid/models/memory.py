"""The device memory that a training needs, estimated from shapes, without a computation or a device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from raygrid.models.architectures import build_classifier
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
    weights = sum(p.numel() * p.element_size() for p in classifier.parameters())
    own = {_storage(p) for p in classifier.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # kept alive, because a new storage can get the address of a freed one
        loss = F.binary_cross_entropy_with_logits(classifier(images), labels)
    activations = sum(size for storage, size in kept.items() if storage not in own)
    del loss
    return int((_COPIES * weights + activations) * _MARGIN) + CONTEXT_BYTES


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
