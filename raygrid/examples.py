"""The few adversarial images that a figure shows."""

import numpy as np
import torch
from numpy.typing import NDArray

from raygrid.attacks import Crafter, to_unit_range
from raygrid.numerics import set_numerics
from raygrid.samples import Samples
from raygrid.spec import ModelSpec
from raygrid.zoo import Zoo

CLEAN_LABEL = "clean"


def surrogate_of_figure(zoo: Zoo, modality: str) -> ModelSpec:
    """Return the model that Figure 1 is crafted through: the first that starts at random weights, else the first."""
    models = zoo.study.models_of(modality)
    return next((m for m in models if not m.is_pretrained), models[0])


def craft_examples(zoo: Zoo, modality: str, samples: Samples) -> dict[str, NDArray[np.float32]]:
    """Return one test image clean and under every FGSM of the study, (height, width, channel) in [-1, 1].

    The image is the first positive one of the first block, crafted with its whole block as the transfer stage does.
    """
    spec = zoo.study.transfer
    block = samples.test_block(0, min(spec.block_size, samples.num_test))
    positive = np.flatnonzero(block.labels.any(axis=1))
    position = int(positive[0]) if len(positive) else 0
    set_numerics(threads=spec.threads)
    images = to_unit_range(block.images)
    attacks = [a for a in spec.attacks if a.name == "fgsm"]
    crafter = Crafter(zoo.load_frozen(surrogate_of_figure(zoo, modality)))
    shown = {CLEAN_LABEL: images}
    for attack, adversarial in crafter.craft(images, torch.from_numpy(block.labels), attacks):
        shown[f"FGSM ε = {attack.epsilon:g}"] = adversarial
    return {name: batch[position].permute(1, 2, 0).numpy() for name, batch in shown.items()}
