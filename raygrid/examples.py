"""The few adversarial images that a figure shows."""

import numpy as np
import torch
from numpy.typing import NDArray

from raygrid.attacks import Crafter, to_unit_range
from raygrid.errors import SpecError, unknown_name
from raygrid.mirror import pull
from raygrid.numerics import set_numerics
from raygrid.samples import DEVELOPMENT_FILES, Samples
from raygrid.spec import ModelSpec
from raygrid.zoo import Zoo

CLEAN_LABEL = "clean"


def surrogate_of_figure(zoo: Zoo, modality: str) -> ModelSpec:
    """Return the model that Figure 1 is crafted through: the first that starts at random weights, else the first."""
    models = zoo.study.models_of(modality)
    return next((m for m in models if not m.is_pretrained), models[0])


def craft_examples(
    zoo: Zoo, modality: str, samples: Samples, attack: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return one test image clean and under one attack at every epsilon, (height, width, channel) in [-1, 1].

    Args:
        attack: name of an attack of the study; by default FGSM, or the first of a study without it.

    The image is the first positive one of the first block. It is crafted alone: up to rounding it is the image that
    was scored. Raises SpecError if the study has no such attack.
    """
    names = list(dict.fromkeys(a.name for a in zoo.study.transfer.attacks))
    chosen = attack or ("fgsm" if "fgsm" in names else names[0])
    if chosen not in names:
        raise SpecError(unknown_name("attack of the study", chosen, names))
    model = surrogate_of_figure(zoo, modality)
    pull(samples.folder, without=DEVELOPMENT_FILES)
    pull(zoo.folder(model))
    block = samples.test_block(0, min(zoo.study.transfer.block_size, samples.num_test))
    positive = np.flatnonzero(block.labels.any(axis=1))
    position = slice(int(positive[0]), int(positive[0]) + 1) if len(positive) else slice(0, 1)
    set_numerics(threads=zoo.study.transfer.threads)
    image = to_unit_range(block.images[position])
    crafted = Crafter(zoo.load_frozen(model)).craft(
        image,
        torch.from_numpy(block.labels[position]),
        [a for a in zoo.study.transfer.attacks if a.name == chosen],
        seed=zoo.study.seed,
        image_ids=block.image_ids[position],
    )
    shown = {CLEAN_LABEL: image, **{f"{a.name.upper()} ε = {a.epsilon:g}": made for a, made in crafted}}
    return {name: batch[0].permute(1, 2, 0).numpy() for name, batch in shown.items()}
