"""Which models lie on the device, and that no more do than fit."""

import pytest
from torch import nn

from raygrid.scoring.model_offload import Shelf

SIZE = 4 * (3 * 2 + 2)  # bytes of one model


@pytest.fixture
def models() -> dict[str, nn.Module]:
    return {name: nn.Linear(3, 2) for name in "abcd"}


def test_what_fits_is_on_the_device_from_the_start(models) -> None:
    shelf = Shelf(models, "cpu", room=4 * SIZE)
    assert not shelf.swaps
    assert shelf.sizes == dict.fromkeys("abcd", SIZE)
    assert shelf.pick(["c", "a"]) == [models["c"], models["a"]]
    assert list(shelf.each(["b", "d"])) == [models["b"], models["d"]]
    assert shelf.num_fetched == 0


def test_the_least_recently_used_model_makes_room(models) -> None:
    shelf = Shelf(models, "cpu", room=2 * SIZE)
    assert shelf.swaps
    for names, fetched in (("a", 1), ("b", 2), ("a", 2), ("c", 3), ("a", 3), ("b", 4)):
        assert shelf.pick(list(names)) == [models[n] for n in names]
        assert shelf.num_fetched == fetched
        assert shelf.bytes_placed <= 2 * SIZE


def test_a_loop_over_targets_fetches_each_once_and_can_be_repeated(models) -> None:
    shelf = Shelf(models, "cpu", room=SIZE)
    targets = shelf.each("abcd")
    for round_number in (1, 2):
        assert list(targets) == list(models.values())
        assert shelf.num_fetched == 4 * round_number
        assert shelf.bytes_placed == SIZE


def test_what_is_asked_for_together_is_there_together(models) -> None:
    shelf = Shelf(models, "cpu", room=SIZE)
    shelf.pick(["a", "b", "c"])
    assert shelf.bytes_placed == 3 * SIZE
    shelf.pick(["d"])
    assert shelf.bytes_placed == SIZE
