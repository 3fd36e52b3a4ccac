"""Perceptibility of changes, against values computed by hand."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raygrid.attacks.perceptibility import perceptibility
from raygrid.spec import MEASURES, Case, attack
from raygrid.store.scores import write_perceptibility


def test_known_changes() -> None:
    images = torch.zeros(2, 3, 16, 16)
    changed = images.clone()
    changed[0] += 0.02
    changed[1, 0, 0, 0] = -0.5
    measured = dict(zip(MEASURES, perceptibility(images, changed).T.tolist(), strict=True))
    assert measured["linf"] == pytest.approx([0.02, 0.5])
    assert measured["l2"] == pytest.approx([0.02 * math.sqrt(768), 0.5])
    assert measured["psnr"] == pytest.approx([10 * math.log10(4 / 0.02**2), 10 * math.log10(4 / (0.25 / 768))])


def test_an_unchanged_image_is_the_same() -> None:
    images = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    measured = dict(zip(MEASURES, perceptibility(images, images)[0].tolist(), strict=True))
    assert measured == {"linf": 0, "l2": 0, "psnr": math.inf, "ssim": pytest.approx(1)}


def test_structural_similarity_is_that_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(1, 1, 11, 11, generator=generator) * 2 - 1
    changed = (images + 0.2 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    place = np.arange(11) - 5
    line = np.exp(-(place**2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()
    x, y = images[0, 0].double().numpy(), changed[0, 0].double().numpy()
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
    covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    assert perceptibility(images, changed)[0, MEASURES.index("ssim")].item() == pytest.approx(expected, abs=1e-5)


def test_stored_rows_name_image_and_case(tmp_path) -> None:
    cases = [Case("adversarial", attack("fgsm", 0.02)), Case("control", attack("fgsm", 0.02))]
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    write_perceptibility(tmp_path / "block.parquet", image_ids=["a", "b", "c"], cases=cases, values=values)
    frame = pq.read_table(tmp_path / "block.parquet").to_pandas()
    row = frame[(frame["image_id"] == "b") & (frame["condition"] == "control")].iloc[0]
    assert (row["attack"], row["epsilon"]) == ("fgsm", 0.02)
    assert [row[name] for name in MEASURES] == values[1, 1].tolist()
