"""Training by a recipe: schedules, early stop, averaged weights, precision, and failures on the way."""

import dataclasses
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_zoo import MODEL, RECIPE, make_zoo

from raygrid.errors import SpecError, StoreError, TrainingError
from raygrid.hashing import keyed_seed
from raygrid.models.epoch import learning_rate, start, train_epoch, validate
from raygrid.models.training import is_over, kept_of, train
from raygrid.models.zoo import build
from raygrid.spec import SCHEDULES, Recipe
from raygrid.store.samples import Samples


def history(*aucs: float) -> list[dict[str, float]]:
    return [{"epoch": k + 1, "validation_auc": auc, "validation_loss": 1.0} for k, auc in enumerate(aucs)]


@pytest.mark.parametrize(("schedule", "end"), [("cosine", 0.0), ("exponential", 0.01), ("constant", 1.0)])
def test_schedules_begin_at_the_rate_and_never_rise(schedule: str, end: float) -> None:
    recipe = Recipe(epochs=1, learning_rate=0.5, schedule=schedule)
    rates = [learning_rate(recipe, p) for p in np.linspace(0, 1, 11)]
    assert rates[0] == 0.5
    assert rates[-1] == pytest.approx(0.5 * end, abs=1e-12)
    assert all(after <= before for before, after in pairwise(rates))


def test_every_schedule_is_known() -> None:
    assert all(learning_rate(Recipe(epochs=1, schedule=s), 0.5) > 0 for s in SCHEDULES)


def test_best_epoch_is_the_first_of_the_best() -> None:
    assert kept_of(history(0.6, 0.8, 0.8, 0.7), RECIPE)["epoch"] == 2
    tied = history(0.8, 0.8)
    tied[1]["validation_loss"] = 0.5
    assert kept_of(tied, RECIPE)["epoch"] == 2


def test_averaged_weights_are_the_mean_of_the_last_epochs_and_validated_as_such(
    tmp_path: Path, samples: Samples
) -> None:
    zoo = make_zoo(tmp_path, dataclasses.replace(RECIPE, averaged_epochs=2))
    card = train(zoo, MODEL, samples)
    alone = make_zoo(tmp_path / "alone")
    state = start(build(alone, MODEL, num_outputs=1), RECIPE)
    seed = keyed_seed(zoo.study.seed, "training", MODEL.modality, MODEL.name)
    after = []
    for epoch in (1, 2, 3):
        train_epoch(state, samples.training_set("d1", "train"), RECIPE, epoch, seed, "cpu")
        after.append({k: v.clone() for k, v in state.classifier.state_dict().items()})
    kept = load_file(zoo.model(MODEL).path / "model.safetensors")
    for name, values in kept.items():
        if values.is_floating_point():
            torch.testing.assert_close(values, (after[1][name] + after[2][name]) / 2)
    state.classifier.load_state_dict(kept)
    assert card["best_epoch"] == 3
    assert (
        card["validation_auc"]
        == validate(state.classifier, samples.training_set("d1", "validation"), "cpu")["validation_auc"]
    )


@pytest.mark.parametrize(
    "changes", [{"averaged_epochs": 4}, {"averaged_epochs": -1}, {"averaged_epochs": 2, "patience": 1}]
)
def test_invalid_averaging_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(SpecError, match="averaged_epochs"):
        dataclasses.replace(RECIPE, **changes)


def test_patience_ends_a_training() -> None:
    recipe = Recipe(epochs=10, patience=2)
    assert not is_over(history(), recipe)
    assert not is_over(history(0.8, 0.7), recipe)
    assert is_over(history(0.8, 0.7, 0.8), recipe)
    assert not is_over(history(0.8, 0.7, 0.9), recipe)
    falling = history(0.9, 0.9, 0.9)
    falling[1]["validation_loss"], falling[2]["validation_loss"] = 0.9, 0.8
    assert is_over(falling, recipe)  # a lower loss alone does not prolong a training
    assert is_over(history(*[0.5 + k / 100 for k in range(10)]), recipe)
    assert not is_over(history(0.8, 0.7, 0.6, 0.5), dataclasses.replace(recipe, patience=0))


def test_early_stop_is_kept_over_a_resume(tmp_path: Path, samples: Samples) -> None:
    def die_when_over(epoch: dict[str, float]) -> None:
        seen.append(epoch)
        if is_over(seen, recipe):
            raise InterruptedError

    recipe, seen = dataclasses.replace(RECIPE, epochs=40, patience=1), []
    zoo = make_zoo(tmp_path, recipe)
    with pytest.raises(InterruptedError):
        train(zoo, MODEL, samples, on_epoch=die_when_over)
    train(zoo, MODEL, samples, on_epoch=lambda epoch: pytest.fail("the training was over"))
    trained = zoo.model(MODEL).history
    assert len(trained) < 40
    aucs = [entry["validation_auc"] for entry in trained]
    assert aucs[-1] <= max(aucs[:-1])


def test_bfloat16_trains_other_weights_and_keeps_them_float32(tmp_path: Path, samples: Samples) -> None:
    weights = {}
    for precision in ("float32", "tf32", "bfloat16"):
        zoo = make_zoo(tmp_path / precision, dataclasses.replace(RECIPE, epochs=1, precision=precision))
        train(zoo, MODEL, samples)
        weights[precision] = load_file(zoo.model(MODEL).path / "model.safetensors")
    assert all(v.dtype != torch.bfloat16 for v in weights["bfloat16"].values())
    same = [
        torch.equal(v, weights["bfloat16"][k]) for k, v in weights["float32"].items() if k.endswith("conv1.0.weight")
    ]
    assert same == [False]
    # only NVIDIA's tensor cores compute in TensorFloat-32: a CPU computes in float32, with another signature
    assert all(torch.equal(v, weights["tf32"][k]) for k, v in weights["float32"].items())


def test_a_gradient_that_is_not_finite_stops_the_training_with_epoch_and_step(tmp_path: Path, samples: Samples) -> None:
    zoo = make_zoo(tmp_path)
    state = start(build(zoo, MODEL, num_outputs=1), RECIPE)
    steps = iter(range(100))

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("nan") if next(steps) == 2 else gradient

    next(state.classifier.parameters()).register_hook(poison)
    with pytest.raises(TrainingError, match="gradient is not finite at epoch 1, step 3"):
        train_epoch(state, samples.training_set("d1", "train"), RECIPE, 1, 0, "cpu")


@contextmanager
def no_file_larger_than(num_bytes: int) -> Iterator[None]:
    """Make every larger write of this process fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_nothing_is_lost(tmp_path: Path, samples: Samples) -> None:
    whole, broken = make_zoo(tmp_path / "whole"), make_zoo(tmp_path / "broken")
    train(whole, MODEL, samples)
    train_epoch_images = samples.training_set("d1", "train")  # the cache is filled before the disk is
    assert len(train_epoch_images) > 0
    with (
        no_file_larger_than(100_000),
        pytest.raises(StoreError, match=r"cannot be written.*run the same command again"),
    ):
        train(broken, MODEL, samples)
    assert not broken.model(MODEL).is_trained
    assert not list(broken.model(MODEL).path.glob("*"))
    train(broken, MODEL, samples)
    one, two = (load_file(zoo.model(MODEL).path / "model.safetensors") for zoo in (whole, broken))
    assert all(torch.equal(one[name], two[name]) for name in one)
