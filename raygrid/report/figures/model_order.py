"""The models of a picture or grid in their order, and what they are called where there is little room."""

import pandas as pd

from raygrid.spec import ENSEMBLE, EXTERNAL, PRETRAINED_ON, WEIGHTS

_SIDE = ("arch", "init", "split", "instance")
ModelFacts = tuple[str, str, str, str, int]  # name, then what _SIDE names


def models_in_order(frame: pd.DataFrame) -> list[ModelFacts]:
    """Return (name, arch, init, split, instance) of all models: by architecture, random first, then split and instance.

    Ensembles come last, and after them the targets that raygrid did not train.
    """
    sides = []
    for side in ("target", "surrogate"):
        names = {f"{side}_{c}": c for c in _SIDE} | {side: "name"}
        sides.append(frame.loc[frame[side] != "", list(names)].rename(columns=names))
    rows = pd.concat(sides).drop_duplicates()[["name", *_SIDE]].itertuples(index=False)
    found = [(str(n), str(a), str(i), str(s), int(k)) for n, a, i, s, k in rows]
    return sorted(found, key=lambda m: (m[1] == EXTERNAL, m[1] == ENSEMBLE, m[1], m[2] != "random", m[2], m[3], m[4]))


def short_name(model: ModelFacts) -> str:
    """Return everything but the architecture, e.g. "random d2/2 #0"."""
    name, arch, init, split, instance = model
    if arch in (ENSEMBLE, EXTERNAL):
        return name.removeprefix(f"{arch}-")
    known = init.removeprefix(PRETRAINED_ON).removeprefix(WEIGHTS)
    words = f"pre-tr. {known}" if known != init else init
    words = "ImageNet" if init == "imagenet" else words
    return f"{words} {split.replace('_half', '/2').replace('_tenth', '/10')} #{instance}"
