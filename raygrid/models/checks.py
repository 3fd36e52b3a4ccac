"""Checks of a trained model: its answers, its labels."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raygrid.data.images.scale import to_unit_range
from raygrid.errors import StoreError, TrainingError
from raygrid.models.epoch import EVALUATION_BATCH, evaluate, labels_with_both_classes, predict
from raygrid.spec import ModelSpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples, TrainingSet

_AUC_TOLERANCE = 0.01
_GAIN = 1000.0
_PAIRS_TOLERANCE = 3  # (positive, negative) pairs that may change places, where there are so few that this is more


def verify_answers(frozen: nn.Module, validation: TrainingSet, validation_auc: float, device: str) -> None:
    """Return nothing if a network, as it will be attacked and scored, answers as the one that was trained.

    It must give logits, and the validation AUC that goes into the card. Done where a model is trained: there the
    validation images are at hand, and from then on a checksum guards the weights.

    Raises TrainingError that says what is wrong.
    """
    logits = predict(frozen, validation.images, device)
    if like_probabilities(logits) and like_probabilities(_amplified(frozen, validation, device)):
        raise TrainingError("the network gives values from 0 to 1 only: probabilities, where logits are expected")
    auc = evaluate(logits, validation.labels)["validation_auc"]
    counts = validation.labels[:, labels_with_both_classes(validation.labels)].sum(axis=0, dtype=int)
    pairs = int((counts * (len(validation) - counts)).min())
    if abs(auc - validation_auc) > max(_AUC_TOLERANCE, _PAIRS_TOLERANCE / pairs):
        raise TrainingError(
            f"folded for attack, the network has a validation AUC of {auc:.4f}, in training it had {validation_auc:.4f}"
        )


def _amplified(frozen: nn.Module, validation: TrainingSet, device: str) -> NDArray[np.float32]:
    """Return the answers to images far out of range: the logits of a hardly trained network can all lie in [0, 1] too,
    but only those of a probability stay there."""
    images = to_unit_range(validation.images[:EVALUATION_BATCH], device)
    with torch.inference_mode():
        return torch.cat([frozen(images * gain) for gain in (-_GAIN, _GAIN)]).cpu().numpy()


def verify_card(folder: StudyFolder, model: ModelSpec, network: nn.Module, samples: Samples) -> None:
    """Return nothing if a model is in evaluation mode and was trained for the samples' labels, in their order.

    Raises StoreError that says what is wrong.
    """
    who, labels = f"{model.modality}/{model.name}", folder.model(model).card["labels"]
    if any(module.training for module in network.modules()):
        raise StoreError(f"{who} is in training mode: its answers would depend on the batch; this is raygrid's mistake")
    if tuple(labels) != samples.labels:
        raise StoreError(
            f"{who} was trained for {labels}, the samples have {list(samples.labels)}; "
            f"delete {folder.model(model).path} and run the study again"
        )


def like_probabilities(values: NDArray[np.floating[Any]]) -> bool:
    """Whether answers all lie from 0 to 1: those of a probability do whatever the image."""
    return bool(((values >= 0) & (values <= 1)).all())
