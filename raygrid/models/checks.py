"""Checks of a trained model: its logits, its validation AUC, its labels."""

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

EXTREME_GAIN = 1000.0  # takes images so far out of range that logits leave [0, 1]; probabilities cannot
_AUC_TOLERANCE = 0.01
_PAIRS_TOLERANCE = 3  # (positive, negative) pairs that may change order, where that is more than _AUC_TOLERANCE


def verify_answers(frozen: nn.Module, validation: TrainingSet, validation_auc: float, device: str) -> None:
    """Check that a network, as it will be attacked and scored, agrees with the network that was trained.

    It must give logits, and the validation AUC of the card. The check runs where a model is trained, next to the
    validation images; from then on a checksum protects the weights.

    Raises TrainingError if the network gives probabilities or another AUC.
    """
    logits = predict(frozen, validation.images, device)
    if like_probabilities(logits) and like_probabilities(_answers_to_extremes(frozen, validation, device)):
        raise TrainingError("the network gives values from 0 to 1 only: probabilities, where logits are expected")
    auc = evaluate(logits, validation.labels)["validation_auc"]
    counts = validation.labels[:, labels_with_both_classes(validation.labels)].sum(axis=0, dtype=int)
    pairs = int((counts * (len(validation) - counts)).min())
    if abs(auc - validation_auc) > max(_AUC_TOLERANCE, _PAIRS_TOLERANCE / pairs):
        raise TrainingError(
            f"the network folded for attack has a validation AUC of {auc:.4f}; expected {validation_auc:.4f}, as in "
            "training; report this defect of raygrid"
        )


def _answers_to_extremes(frozen: nn.Module, validation: TrainingSet, device: str) -> NDArray[np.float32]:
    """Return the outputs for images far out of range.

    The logits of a barely trained network can all be in [0, 1], too, but only probabilities stay there.
    """
    images = to_unit_range(validation.images[:EVALUATION_BATCH], device)
    with torch.inference_mode():
        return torch.cat([frozen(images * gain) for gain in (-EXTREME_GAIN, EXTREME_GAIN)]).cpu().numpy()


def verify_card(folder: StudyFolder, model: ModelSpec, network: nn.Module, samples: Samples) -> None:
    """Check that a model is in evaluation mode and was trained for the samples' labels, in their order.

    Raises StoreError if it is in training mode or has other labels.
    """
    who, labels = f"{model.modality}/{model.name}", folder.model(model).card["labels"]
    if any(module.training for module in network.modules()):
        raise StoreError(f"{who} is in training mode: its logits depend on the batch; report this defect of raygrid")
    if tuple(labels) != samples.labels:
        raise StoreError(
            f"{who} was trained for {labels}, the samples have {list(samples.labels)}; "
            f"delete {folder.model(model).path} and run the study again"
        )


def like_probabilities(values: NDArray[np.floating[Any]]) -> bool:
    """Whether all values are from 0 to 1, as probabilities are for any image."""
    return bool(((values >= 0) & (values <= 1)).all())
