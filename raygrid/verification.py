"""What must hold of a trained model before hours are spent on it."""

import numpy as np
from sklearn.metrics import roc_auc_score
from torch import nn

from raygrid.errors import StoreError
from raygrid.fitting import predict
from raygrid.samples import Samples
from raygrid.spec import ModelSpec
from raygrid.zoo import Zoo

_AUC_TOLERANCE = 0.01
_PAIRS_TOLERANCE = 3  # (positive, negative) pairs that may change places, where there are so few that this is more


def verify_model(zoo: Zoo, model: ModelSpec, network: nn.Module, samples: Samples, device: str) -> None:
    """Return nothing if `network`, as it will be attacked and scored, is the model that its card describes.

    It must be in evaluation mode, give logits in the order of the samples' labels, and have the card's validation AUC.

    Raises StoreError that says what is wrong.
    """
    card = zoo.card(model)
    who, how = f"{model.modality}/{model.name}", f"delete {zoo.folder(model)} and run the study again"
    if any(module.training for module in network.modules()):
        raise StoreError(f"{who} is in training mode: its answers would depend on the batch; this is raygrid's mistake")
    if tuple(card["labels"]) != samples.labels:
        raise StoreError(f"{who} was trained for {card['labels']}, the samples have {list(samples.labels)}; {how}")
    validation = samples.training_set(model.split, "validation")
    logits = predict(network, validation.images, device)
    if len(logits) > 1 and ((logits >= 0) & (logits <= 1)).all():
        raise StoreError(f"{who} gives values from 0 to 1 only: probabilities, where logits are expected; {how}")
    labels = validation.labels
    both = [i for i in range(labels.shape[1]) if 0 < labels[:, i].sum() < len(labels)]
    auc = float(np.mean([roc_auc_score(labels[:, i], logits[:, i]) for i in both]))
    pairs = min(int(labels[:, i].sum()) * int((1 - labels[:, i]).sum()) for i in both)
    if abs(auc - card["validation_auc"]) > max(_AUC_TOLERANCE, _PAIRS_TOLERANCE / pairs):
        raise StoreError(
            f"{who} has a validation AUC of {auc:.4f}, its card says {card['validation_auc']:.4f}: "
            f"weights and card do not belong together; {how}"
        )
