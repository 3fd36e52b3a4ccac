"""A second derivative through a folded network raises; the trained network has it."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks import loss_gradient
from raygrid.errors import SpecError
from raygrid.models.architectures import Classifier
from raygrid.models.folding import fold

IMAGES = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1


def curvature(network: nn.Module, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the product of the loss's Hessian with a vector of ones."""
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(network(images)), images, create_graph=True)
    (product,) = torch.autograd.grad(gradient.sum(), images)
    return product


def pair(arch: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    classifier = Classifier(timm.create_model(arch, num_classes=1), channels=3).eval().requires_grad_(False)
    return classifier, fold(classifier, IMAGES[:1])


@pytest.mark.parametrize("arch", ["resnet10t", "densenet121", "test_efficientnet"])
def test_a_second_derivative_is_refused(arch: str) -> None:
    trained, folded = pair(arch)

    def loss(logits: Tensor) -> Tensor:
        return F.softplus(3 * logits).sum()

    with pytest.raises(SpecError, match=r"second derivative .*raygrid\.attacks\.needs_trained_network"):
        curvature(folded, loss)
    # finite differences of the exact gradient, in float64, are the value that the trained network gives
    exact, step = trained.double(), 1e-6

    def gradient(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        return torch.autograd.grad(loss(exact(images)), images)[0]

    with torch.no_grad():
        given = IMAGES.double()
    expected = (gradient(given + step) - gradient(given - step)) / (2 * step)
    images = given.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(exact(images)), images, create_graph=True)
    (product,) = torch.autograd.grad(first.sum(), images)
    assert (product - expected).norm() < 0.02 * expected.norm()


def test_a_kept_graph_changes_no_first_derivative() -> None:
    _, folded = pair("resnet10t")
    images = IMAGES.clone().requires_grad_()
    loss = F.softplus(-folded(images)).sum()
    (kept,) = torch.autograd.grad(loss, images, create_graph=True)
    (plain,) = torch.autograd.grad(F.softplus(-folded(images)).sum(), images)
    assert torch.equal(kept, plain)
    own = loss_gradient(folded, IMAGES, torch.ones(2, 1))
    torch.testing.assert_close(own.values * own.log_scale.exp().view(-1, 1, 1, 1), plain, rtol=1e-4, atol=1e-7)


def test_a_piecewise_linear_network_under_a_linear_loss_has_no_second_derivative() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), timm.layers.BatchNormAct2d(4), nn.Conv2d(4, 1, 3), nn.Flatten())
    folded = fold(network.eval().requires_grad_(False), IMAGES[:1])
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(folded(images).sum(), images, create_graph=True)
    assert not gradient.requires_grad  # constant, and PyTorch says so
