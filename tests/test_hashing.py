"""Hashes are part of every signature, and seeds of every result: both keep their values from version to version."""

import numpy as np
import pytest

from raygrid.hashing import digest, keyed_generator, keyed_seed


def test_a_digest_keeps_its_value() -> None:
    expected = "23158c8f2811c40ae1d3da2c4a141ad57993b399fa39f55210df8c1ffc5edb79"
    assert digest({"name": "Grün", "values": [1, 0.5, None, True]}) == expected
    assert digest({"values": [1, 0.5, None, True], "name": "Grün"}) == expected


@pytest.mark.parametrize(("one", "other"), [([1, 2], [2, 1]), (1, "1"), ({"a": 1}, {"a": 2}), (1, True)])
def test_other_values_have_other_digests(one: object, other: object) -> None:
    assert digest(one) != digest(other)  # type: ignore[arg-type]


def test_a_digest_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_a_seed_keeps_its_value() -> None:
    assert keyed_seed(3, "image-1", "noise") == 5507584659001794122
    assert 0 <= keyed_seed(3) < 2**63


def test_a_seed_depends_on_each_part_of_the_key() -> None:
    seeds = {keyed_seed(3, "a", "b"), keyed_seed(4, "a", "b"), keyed_seed(3, "b", "a"), keyed_seed(3, "ab")}
    assert len(seeds) == 4


def test_generators_of_one_key_draw_the_same_numbers_in_any_order() -> None:
    first = [keyed_generator(7, name).standard_normal(5) for name in ("a", "b")]
    second = [keyed_generator(7, name).standard_normal(5) for name in ("b", "a")]
    assert np.array_equal(first, second[::-1])
    assert not np.array_equal(first[0], first[1])
