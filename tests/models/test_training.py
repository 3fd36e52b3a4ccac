"""Training: a killed one continues bit for bit, and impossible ones fail with a reason."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.errors import StoreError, TrainingError
from raygrid.io.files import write_json
from raygrid.models.epoch import epoch_order
from raygrid.models.training import train
from raygrid.models.zoo import build, load
from raygrid.spec import (
    Recipe,
)
from raygrid.store.samples import Samples
from raygrid.store.units import missing_files


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("epoch_of_death", "averaged_epochs"), [(1, 0), (2, 0), (2, 2)])
def test_resumed_training_gives_the_same_weights(
    tmp_path: Path, samples: Samples, epoch_of_death: int, averaged_epochs: int
) -> None:
    def die(epoch: dict[str, float]) -> None:
        if epoch["epoch"] == epoch_of_death:
            raise KilledError

    recipe = dataclasses.replace(RECIPE, averaged_epochs=averaged_epochs)
    whole, broken = (make_zoo(tmp_path / name, recipe) for name in ("whole", "broken"))
    train(whole, MODEL, samples)
    with pytest.raises(KilledError):
        train(broken, MODEL, samples, on_epoch=die)
    assert not broken.model(MODEL).is_trained
    seen: list[float] = []
    train(broken, MODEL, samples, on_epoch=lambda epoch: seen.append(epoch["epoch"]))
    assert seen == list(range(epoch_of_death + 1, 4))
    one, two = (load_file(zoo.model(MODEL).path / "model.safetensors") for zoo in (whole, broken))
    assert all(np.array_equal(one[name].numpy(), two[name].numpy()) for name in one)


def test_finished_training_is_left_alone(tmp_path: Path, samples: Samples) -> None:
    zoo = make_zoo(tmp_path)
    card = train(zoo, MODEL, samples)
    again = train(zoo, MODEL, samples, on_epoch=lambda epoch: pytest.fail("trained again"))
    assert again["weights_sha256"] == card["weights_sha256"]


def test_instances_differ(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path)
    twin = dataclasses.replace(MODEL, instance=1)
    one, two = (build(zoo, m, num_outputs=1).state_dict()["network.fc.weight"] for m in (MODEL, twin))
    assert not np.allclose(one.numpy(), two.numpy())


def test_diverging_loss_is_an_error(tmp_path: Path, samples: Samples) -> None:
    zoo = make_zoo(tmp_path, dataclasses.replace(RECIPE, learning_rate=1e30))
    with pytest.raises(TrainingError, match=r"not finite|loss is"):
        train(zoo, MODEL, samples)
    assert not zoo.model(MODEL).is_trained


def test_a_damaged_resume_state_is_named(tmp_path: Path, samples: Samples) -> None:
    zoo = make_zoo(tmp_path)
    path = zoo.model(MODEL).path / "resume.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(StoreError, match=r"resume\.pt is damaged.*delete it"):
        train(zoo, MODEL, samples)


def test_tampered_weights_are_refused(tmp_path: Path, samples: Samples) -> None:
    zoo = make_zoo(tmp_path)
    train(zoo, MODEL, samples)
    path = zoo.model(MODEL).path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="not the file that its card describes"):
        load(zoo, MODEL)


def test_balanced_batches_are_half_positive() -> None:
    labels = np.array([[1]] * 3 + [[0]] * 29, dtype=np.uint8)
    batches = list(epoch_order(labels, Recipe(epochs=1, batch_size=8, balanced=True), 1, 1))
    assert len(batches) == 4
    assert all(labels[batch, 0].sum() == 4 for batch in batches)


def test_balanced_batches_of_several_labels_are_refused() -> None:
    with pytest.raises(TrainingError, match="exactly one label, got 2; set balanced=False"):
        next(epoch_order(np.zeros((64, 2), dtype=np.uint8), Recipe(epochs=1, balanced=True), seed=1, epoch=1))


def test_a_retrained_model_has_another_identity_in_its_scores(tmp_path: Path, samples: Samples) -> None:
    zoo = make_zoo(tmp_path, dataclasses.replace(RECIPE, epochs=1))
    make_samples(zoo.samples_dir("toy"))
    units = {"untrained": zoo.units("toy")}
    train(zoo, MODEL, samples)
    units["trained"] = zoo.units("toy")
    card = zoo.model(MODEL).card
    write_json(zoo.model(MODEL).path / "card.json", {**card, "weights_sha256": "0" * 64})
    units["trained again"] = zoo.units("toy")
    for k in range(2):  # clean, and through the model
        assert len({missing_files([plan[k]])[0].path for plan in units.values()}) == 3


def test_order_is_keyed_by_epoch() -> None:
    labels = np.zeros((32, 1), dtype=np.uint8)
    recipe = Recipe(epochs=2, batch_size=8)
    first, again, second = (np.concatenate(list(epoch_order(labels, recipe, 1, e))) for e in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
