"""The images that reach a target that raygrid did not train, and the logits from its answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from target_models import function
from torch import Tensor

from raygrid.data.images.decode import decode_image
from raygrid.data.images.scale import round_towards, to_unit_range
from raygrid.errors import DataError
from raygrid.spec import AnswerSpec, InputSpec
from raygrid.targets.delivery import deliver, encode, to_levels
from raygrid.targets.outputs import to_logits
from raygrid.targets.preprocessing import preprocess


def levels_between(channels: int) -> Tensor:
    """Return one image with every grey level, each a little off, in [-1, 1]."""
    off = torch.linspace(-0.49, 0.49, 256 * channels).view(1, channels, 16, 16)
    return (torch.arange(256 * channels).remainder(256).view(1, channels, 16, 16) + off) / 127.5 - 1


@pytest.mark.parametrize("contrast", [1, 0.3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("received", ["png", "dicom", "jpeg:75"])
def test_a_delivered_image_equals_its_decoded_file(
    received: str, channels: int, contrast: float, tmp_path: Path
) -> None:
    spec = function("scores", received=received)
    shown = levels_between(channels) * contrast
    path = tmp_path / f"image.{received[:3]}"
    path.write_bytes(encode(to_levels(shown)[0], spec))
    read = decode_image(path, channels)
    assert torch.equal(deliver(shown, spec), to_unit_range(read[None]))
    nearest = np.rint((shown.numpy().transpose(0, 2, 3, 1) + 1) * 127.5)[0]
    assert np.array_equal(read, nearest) is (received != "jpeg:75")


@pytest.mark.parametrize("received", ["png", "dicom", "jpeg:75"])
def test_equal_images_give_equal_files(received: str) -> None:
    spec = function("scores", received=received)
    first, second = np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)
    assert encode(first, spec) == encode(second, spec)
    second[0, 0] = 200
    assert encode(first, spec) != encode(second, spec)


def test_a_coarser_jpeg_changes_more() -> None:
    coarse = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    unit = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3) + torch.linspace(0, 0.1, 32)
    change = {q: (deliver(unit, function("scores", received=f"jpeg:{q}")) - unit).abs().mean() for q in (20, 95)}
    assert change[20] > 2 * change[95] > 0


@pytest.mark.parametrize("epsilon", [0.02, 0.04, 0.06])
def test_levels_keep_the_budget_of_the_attack(epsilon: float) -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).numpy()
    clean = to_unit_range(levels)
    for share in (-1, -0.5, 0, 0.5, 1):
        changed = (clean + share * epsilon).clamp(-1, 1)
        received = ((round_towards(clean, changed) + 1) * 127.5).numpy()
        whole = np.trunc(share * epsilon * 127.5)  # by hand: 0.02 is 2.55 levels, of which 2 arrive
        expected = np.clip(levels.transpose(0, 3, 1, 2).astype(float) + whole, 0, 255)
        assert np.abs(received - expected).max() < 1e-3
        assert (round_towards(clean, changed) - clean).abs().max() <= epsilon + 5e-7


def test_rounding_leaves_whole_grey_levels_unchanged() -> None:
    levels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
    moved = np.clip(levels.astype(int) + np.random.default_rng(2).integers(-8, 9, levels.shape), 0, 255)
    clean, changed = to_unit_range(levels), to_unit_range(moved.astype(np.uint8))
    assert torch.equal(to_levels_of(round_towards(clean, changed)), to_levels_of(changed))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_not_finite_becomes_no_grey_level(value: float) -> None:
    images = torch.zeros(3, 1, 4, 4)
    assert to_levels(images).max() == 128
    images[1, 0, 2, 2] = value
    with pytest.raises(DataError, match="image number 1 of a batch has non-finite values"):
        to_levels(images)


def to_levels_of(images: Tensor) -> Tensor:
    return torch.from_numpy(to_levels(images))


@given(st.floats(0.001, 0.2), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_rounding_never_moves_a_pixel_away_from_the_clean_image(length: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    clean = to_unit_range(draw.integers(0, 256, (2, 6, 6, 1), np.uint8))
    change = torch.from_numpy(draw.normal(size=clean.shape).astype(np.float32)) * length  # any norm, some beyond white
    changed = (clean + change).clamp(-1, 1)
    left = round_towards(clean, changed) - clean
    assert (left.abs() <= (changed - clean).abs() + 1e-6).all()
    assert ((changed - clean).abs() - left.abs() < 1 / 127.5 + 1e-6).all()  # and never by a whole level


# --- what a target takes

GREY = torch.tensor([-1.0, 0.2, 1.0]).view(1, 1, 1, 3).expand(1, 1, 2, 3)
COLOUR = torch.tensor([-1.0, 0.2, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("spec", "images", "expected"),
    [
        (InputSpec(), GREY, [0, 0.6, 1]),
        (InputSpec(black=-1), GREY, [-1, 0.2, 1]),
        (InputSpec(black=1, white=0), GREY, [1, 0.4, 0]),
        (InputSpec(white=255, mean=(100.0,), std=(50.0,)), GREY, [-2, 1.06, 3.1]),
        (InputSpec(white=255, dtype="uint8"), GREY, [0, 153, 255]),
    ],
)
def test_pixels_are_scaled_as_declared(spec: InputSpec, images: Tensor, expected: list[float]) -> None:
    array = preprocess(images, spec)
    assert array.dtype == (torch.uint8 if spec.dtype == "uint8" else torch.float32)
    assert array[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_channels_are_converted_as_declared() -> None:
    assert torch.equal(preprocess(GREY, InputSpec(channels=3)), (GREY.expand(1, 3, 2, 3) + 1) / 2)
    luminance = preprocess(COLOUR, InputSpec(channels=1))
    assert luminance.shape == (1, 1, 2, 2)
    assert luminance[0, 0, 0, 0].item() == pytest.approx(0.587 * 0.6 + 0.114)
    spec = InputSpec(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 0.5), bgr=True, channels_last=True)
    shown = preprocess(COLOUR, spec)
    assert shown.shape == (1, 2, 2, 3)
    assert shown[0, 0, 0].tolist() == pytest.approx([(1 - 0.3) / 0.5, 0.6 - 0.2, 0 - 0.1])


def test_the_size_is_changed_without_aliasing() -> None:
    stripes = torch.ones(1, 1, 64, 64)
    stripes[..., ::4] = -1
    small = preprocess(stripes, InputSpec(size=16))
    assert small.shape == (1, 1, 16, 16)
    assert (small - 0.75).abs().max() < 0.1  # picked, not averaged, the dark lines would be lost
    assert preprocess(GREY[..., :2], InputSpec(size=7)).shape == (1, 1, 7, 7)


# --- what its answers mean


def logits_of(rows: Any, **declared: Any) -> np.ndarray:
    answer = AnswerSpec(**declared)
    return to_logits("target", np.atleast_2d(np.asarray(rows, np.float64)), answer, range(np.shape(rows)[-1]))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_a_probability_never_changes_its_rank(values: list[float]) -> None:
    logits = logits_of(np.sort(values)[:, None], kind="probability")[:, 0]
    assert np.isfinite(logits).all()
    assert (np.diff(logits) >= 0).all()


def test_probabilities_that_differ_keep_different_logits() -> None:
    end = np.cumprod(np.full(50, 0.5))  # 1/2, 1/4, ... to 2**-50
    both = np.concatenate([[0, 1e-323, 1e-320], end[::-1], 1 - end[1:], [1]])
    assert (np.diff(logits_of(both[:, None], kind="probability")[:, 0]) > 0).all()
    likely = np.arange(0.27, 0.95, 1e-3, dtype=np.float32)
    unlikely = np.geomspace(1e-5, 0.27, 500)
    pairs = ([likely, np.nextafter(likely, np.float32(1))], [unlikely, unlikely * (1 + 2e-6)])
    for pair in pairs:
        assert (np.diff(logits_of(np.stack(pair, axis=1), kind="probability"), axis=1) > 0).all()


def test_exclusive_outputs_are_compared_with_all_others() -> None:
    z = np.random.default_rng(0).normal(size=(40, 4)) * 3
    weights = np.exp(z)
    shares = weights / weights.sum(axis=1, keepdims=True)
    labels = ("a", "b", "c", "d")
    expected = np.log(shares / (1 - shares))
    assert logits_of(z, labels=labels, exclusive=True) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert logits_of(shares, kind="probability", labels=labels, exclusive=True) == pytest.approx(expected, rel=1e-5)
    certain = np.float32([[1, 1e-12], [1, 1e-9]])  # of which 1 - p has lost everything
    sure, surer = logits_of(certain, kind="probability", labels=("a", "b"), exclusive=True)[::-1, 0]
    assert sure < surer < 30
