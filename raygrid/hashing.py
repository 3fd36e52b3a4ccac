"""Hashes, and random generators seeded by hashes: both depend only on names, not on order, process or global state."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

_SEED_MODULUS = 2**63


def digest(value: Json) -> str:
    """Return the SHA-256 (hex) of a JSON value; the order of mapping keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def keyed_seed(seed: int, *key: str | int) -> int:
    """Return a seed in [0, 2**63) that is a pure function of `seed` and `key`."""
    text = json.dumps([seed, *key], separators=(",", ":"), ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % _SEED_MODULUS


def keyed_generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return a fresh counter-based generator for (`seed`, *`key`).

    The same key gives the same numbers in every process and in any order of calls. A resumed run, or a run on more
    workers, therefore draws the same numbers (docs/explanation/design.md, invariant 4).
    """
    return np.random.Generator(np.random.Philox(keyed_seed(seed, *key)))
