"""Which models are on the device, and that they take no more than the room they have."""

import pytest
from torch import nn

from raygrid.scoring.model_offload import ModelOffload

SIZE = 4 * (3 * 2 + 2)  # bytes of one model


@pytest.fixture
def models() -> dict[str, nn.Module]:
    return {name: nn.Linear(3, 2) for name in "abcd"}


def test_models_that_fit_are_on_the_device_from_the_start(models) -> None:
    offload = ModelOffload(models, "cpu", room=4 * SIZE)
    assert not offload.swaps
    assert offload.sizes == dict.fromkeys("abcd", SIZE)
    assert offload.pick(["c", "a"]) == [models["c"], models["a"]]
    assert list(offload.in_turn(["b", "d"])) == [models["b"], models["d"]]
    assert offload.num_fetched == 0


def test_the_least_recently_used_model_makes_room(models) -> None:
    offload = ModelOffload(models, "cpu", room=2 * SIZE)
    assert offload.swaps
    for names, fetched in (("a", 1), ("b", 2), ("a", 2), ("c", 3), ("a", 3), ("b", 4)):
        assert offload.pick(list(names)) == [models[n] for n in names]
        assert offload.num_fetched == fetched
        assert offload.bytes_placed <= 2 * SIZE


def test_a_loop_over_targets_fetches_each_once_and_can_be_repeated(models) -> None:
    offload = ModelOffload(models, "cpu", room=SIZE)
    targets = offload.in_turn("abcd")
    for round_number in (1, 2):
        assert list(targets) == list(models.values())
        assert offload.num_fetched == 4 * round_number
        assert offload.bytes_placed == SIZE


def test_models_picked_together_are_on_the_device_together(models) -> None:
    offload = ModelOffload(models, "cpu", room=SIZE)
    offload.pick(["a", "b", "c"])
    assert offload.bytes_placed == 3 * SIZE
    offload.pick(["d"])
    assert offload.bytes_placed == SIZE
