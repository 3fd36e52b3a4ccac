"""Attacks of other packages: the classes that they see, the images and random numbers that they get."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks import run_class_attack


class OneLogit(nn.Module):
    """A logit that is 10 times the mean of the image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * 100


def class_gradient(logit: float, label: int) -> float:
    """Return the derivative of cross-entropy with respect to the logit, as an attack on classes computes it."""
    seen = torch.full((1, 1, 1, 1), logit / 100).requires_grad_()
    found = []

    def build(model: nn.Module):
        def craft(images: Tensor, labels: Tensor) -> Tensor:
            loss = F.cross_entropy(model((seen + 1) / 2), labels)
            found.append(torch.autograd.grad(loss, seen)[0].item() / 100)
            return images

        return craft

    run_class_attack(build, OneLogit(), torch.zeros(1, 1, 1, 1), torch.tensor([[float(label)]]))
    return found[0]


@pytest.mark.parametrize("logit", [-60.0, -17.0, -1.0, 0.0, 1.0, 5.0, 16.0, 17.0, 30.0, 60.0, 80.0])
@pytest.mark.parametrize("label", [0, 1])
def test_a_confident_logit_keeps_its_gradient(logit: float, label: int) -> None:
    sign = 2 * label - 1
    exact = -sign / (1 + math.exp(sign * logit))  # of softplus(-sign z)
    got = class_gradient(logit, label)
    # float32 rounds 1 - p to 0 from 16.6 on, and then half of the derivative remains
    assert got == pytest.approx(exact, rel=0.05) or got == pytest.approx(exact / 2, rel=1e-3)
    assert got == pytest.approx(exact, rel=1e-3) or sign * logit > 10
