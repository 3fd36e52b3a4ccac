"""Functions that act as a deployed classifier in tests: array of images in [0, 1] to logits."""

import os

import numpy as np
import torch
from numpy.typing import NDArray

from raygrid.models.architectures import build_classifier
from raygrid.models.zoo import load_frozen
from raygrid.store.folder import open_study

STUDY_VARIABLE = "RAYGRID_TEST_STUDY"
_networks: dict[str, torch.nn.Module] = {}


def first_model(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer as the first model of the study that the environment names."""
    from pathlib import Path

    folder = os.environ[STUDY_VARIABLE]
    if folder not in _networks:
        zoo = open_study(Path(folder))
        _networks[folder] = load_frozen(zoo, zoo.study.models[0])
    with torch.no_grad():
        return np.asarray(_networks[folder](torch.from_numpy(images * 2 - 1)).numpy())


def first_network() -> torch.nn.Module:
    """Return the network of the models of `toy_zoo`, with other weights."""
    return build_classifier("test_resnet", channels=3, num_outputs=1, seed=99)


def brightness(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer with the brightness of an image."""
    return np.asarray(40 * (images.mean(axis=(1, 2, 3)) - 0.45)[:, None], dtype=np.float32)


def is_bright(images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Decide by the first pixel whether an image is bright."""
    return np.asarray(images[:, 0, 0, :1] > 0.4)


def broken(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raise an error instead of an answer."""
    raise RuntimeError("the licence has run out")


def wrong_shape(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer with two numbers for each image."""
    return np.zeros((len(images), 2), dtype=np.float32)
