"""Several surrogates attacked as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of several networks' logits. Source: Liu et al. 2017; averaged at the logits as in Dong et al. 2018."""

    wraps = "members"

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, outputs) for images in [-1, 1]."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)
