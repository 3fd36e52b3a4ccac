"""The order of models in figures and grids, and their short names."""

from typing import NamedTuple

import pandas as pd

from raygrid.spec import ENSEMBLE, EXTERNAL, MODEL, PRETRAINED_ON, WEIGHTS

_KIND_ORDER = (MODEL, ENSEMBLE, EXTERNAL)


class ModelFacts(NamedTuple):
    """A surrogate or a target: its name and its columns in the AUC frame."""

    name: str
    kind: str
    arch: str
    init: str
    split: str
    instance: int


def models_in_order(frame: pd.DataFrame) -> list[ModelFacts]:
    """Return all models: by architecture, random first, then split and instance; then ensembles, then external ones."""
    sides = []
    for side in ("target", "surrogate"):
        names = {f"{side}_{c}": c for c in ModelFacts._fields[1:]} | {side: "name"}
        sides.append(frame.loc[frame[side] != "", list(names)].rename(columns=names))
    rows = pd.concat(sides).drop_duplicates()[list(ModelFacts._fields)].itertuples(index=False)
    found = [ModelFacts(str(n), str(k), str(a), str(i), str(s), int(number)) for n, k, a, i, s, number in rows]
    return sorted(found, key=_place)


def _place(model: ModelFacts) -> tuple[int, str, bool, str, str, int]:
    _, kind, arch, init, split, instance = model
    return _KIND_ORDER.index(kind), arch, init != "random", init, split, instance


def short_name(model: ModelFacts) -> str:
    """Return everything but the architecture, e.g. "random d2/2 #0"."""
    name, kind, _, init, split, instance = model
    if kind != MODEL:
        return name.removeprefix(f"{kind}-")
    known = init.removeprefix(PRETRAINED_ON).removeprefix(WEIGHTS)
    words = f"pre-tr. {known}" if known != init else init
    words = "ImageNet" if init == "imagenet" else words
    return f"{words} {split.replace('_half', '/2').replace('_tenth', '/10')} #{instance}"
