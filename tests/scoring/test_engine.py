"""One block through small networks whose answers are known: images left unmoved, and who gave a logit that is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raygrid.errors import DataError
from raygrid.scoring.engine import BlockScores, score_attacked, score_clean
from raygrid.spec import TransferSpec, attack
from raygrid.store.samples import SampleBatch
from raygrid.store.scores import unmoved_by_attack

IDS = ("a", "b", "c", "d")
LABELS = np.array([[0], [1], [0], [0]], dtype=np.uint8)


class Sum(nn.Module):
    """The logit is the sum of all values, times a factor for each image of the batch."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = torch.tensor(factors or (1.0, 1.0, 1.0, 1.0)).view(-1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.factors * images.flatten(1).sum(dim=1, keepdim=True)


class RootOfBlack(nn.Module):
    """A logit that is finite for a black image, and its gradient is not."""

    def forward(self, images: Tensor) -> Tensor:
        return (images + 1).square().sum(dim=(1, 2, 3)).sqrt().view(-1, 1)


class NoAnswer(nn.Module):
    """A network without a logit for images brighter than a bound on their mean."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean(dim=(1, 2, 3)).view(-1, 1)
        return torch.where(means > self.bound, torch.inf, means)


@pytest.fixture
def block() -> SampleBatch:
    images = np.random.default_rng(1).integers(40, 200, (4, 16, 16, 3), dtype=np.uint8)
    return SampleBatch(IDS, IDS, LABELS, images)


def scored(surrogate: nn.Module, block: SampleBatch, *attacks, **settings) -> BlockScores:
    transfer = TransferSpec(attacks=attacks)
    return score_attacked(surrogate, [Sum()], block, transfer, seed=3, device="cpu", **settings)


def test_unmoved_images_are_counted_by_attack_and_reason(block: SampleBatch) -> None:
    images = block.images.copy()
    images[3] = 0  # black: its gradient is not finite
    images[2] = 255  # white, and pushed outwards
    fgsm, start = attack("fgsm", 0.02), attack("pgd", 0.02, suffix="start", random_start=True)
    scores = scored(RootOfBlack(), replace(block, images=images), fgsm, start)
    assert scores.unmoved == {
        "fgsm@0.02": {"images": 2, "zero_gradient": 0, "not_finite_gradient": 1},
        "pgd-start@0.02": {"images": 1, "zero_gradient": 0, "not_finite_gradient": 0},
    }
    assert scores.not_finite_gradients == {"fgsm@0.02": 1, "pgd-start@0.02": 0}  # after the start there is a gradient
    assert scores.num_zero_gradients == 0
    flat = scored(Sum(0.0, 1.0, 0.0, 0.0), block, fgsm)
    assert flat.unmoved == {"fgsm@0.02": {"images": 3, "zero_gradient": 3, "not_finite_gradient": 0}}
    assert flat.num_zero_gradients == 3


def test_changes_below_one_grey_level_reach_no_target_of_whole_levels(block: SampleBatch) -> None:
    small, large = attack("fgsm", 0.007), attack("fgsm", 0.008)  # 0.89 and 1.02 grey levels
    scores = scored(Sum(), block, small, large, in_levels=[0])
    assert scores.unmoved["fgsm@0.007"] == {"images": 0, "zero_gradient": 0, "not_finite_gradient": 0, "in_levels": 4}
    assert scores.unmoved["fgsm@0.008"]["in_levels"] == 0
    clean = score_clean([Sum()], block, TransferSpec(attacks=(small,)), device="cpu").logits
    assert np.allclose(scores.logits[:, 0], clean[:, 0], atol=1e-3)  # they are the clean images
    assert not np.allclose(scores.logits[:, 2], clean[:, 0], atol=1e-3)


def test_a_logit_that_is_not_finite_names_target_image_and_case(block: SampleBatch) -> None:
    images = block.images.copy()
    images[2] = 127  # a mean of -1/255
    images[:2] = images[3:] = 60
    grey, pgd = replace(block, images=images), attack("pgd", 0.02)
    transfer = TransferSpec(attacks=(pgd,))
    with pytest.raises(DataError, match=r"^target 'poor' gave .* for image 'c' \(clean\), in all for 1 of 4 images; "):
        score_clean([Sum(), NoAnswer(-0.01)], grey, transfer, device="cpu", target_names=("good", "poor"))
    with pytest.raises(DataError, match=r"^target number 1 gave .* for image 'c' \(clean\)"):
        score_clean([Sum(), NoAnswer(-0.01)], grey, transfer, device="cpu")
    targets = [Sum(), NoAnswer(0.0)]  # a negative is pushed upwards, beyond 0, in the control as well
    assert np.isfinite(score_clean(targets, grey, transfer, device="cpu").logits).all()
    words = (
        r"target 'poor' gave .* for image 'c' \(adversarial, pgd@0.02\), in all for 2 of 8 images; check its weights"
    )
    for at_once in (False, True):
        with pytest.raises(DataError, match=words):
            score_attacked(
                Sum(),
                targets,
                grey,
                transfer,
                seed=3,
                device="cpu",
                at_once=at_once,
                target_names=("good", "poor"),
            )


def test_counts_of_score_files_add_up_over_units_and_not_over_files_of_one() -> None:
    def file(num_images: int, **unmoved: dict[str, int]) -> dict[str, object]:
        return {
            "num_images": num_images,
            "unmoved": {key.replace("_at_", "@"): counts for key, counts in unmoved.items()},
            "not_finite_gradients": {key.replace("_at_", "@"): 2 for key in unmoved},
        }

    first = {"images": 3, "zero_gradient": 1, "not_finite_gradient": 2}
    nothing = {"images": 0, "zero_gradient": 0, "not_finite_gradient": 0}
    units = [
        [file(64, pgd_at_1=first), file(64, pgd_at_1={**first, "in_levels": 5})],  # of two targets: the same images
        [file(32, pgd_at_1=first, fgsm_at_1=nothing)],
        [{"num_images": 16, "num_gradients": 20, "num_zero_gradients": 7}],  # written before the counts existed
    ]
    counts = {"attacked": 96, "images": 6, "zero_gradient": 2, "not_finite_gradient": 4, "in_levels": 5}
    assert unmoved_by_attack(units) == {
        "pgd@1": {**counts, "any_not_finite_gradient": 4},
        "fgsm@1": {**dict.fromkeys(counts, 0), "attacked": 32, "any_not_finite_gradient": 2},
    }
