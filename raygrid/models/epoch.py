"""One epoch of training, a pure function of the previous state and the epoch's number, and its validation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.data.images.scale import to_unit_range
from raygrid.errors import TrainingError
from raygrid.hashing import keyed_generator, keyed_seed
from raygrid.models.architectures import Classifier
from raygrid.models.augment import augment, keyed_draws
from raygrid.spec import Recipe
from raygrid.store.memory_map import MappedImages
from raygrid.store.samples import TrainingSet

EVALUATION_BATCH = 64
_STEPS_PER_CHECK = 50

Epoch = dict[str, float]


@dataclass
class TrainingState:
    """Everything a training carries from one epoch to the next."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    history: list[Epoch]


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Return the learning rate at `progress`, the share of all epochs that is over, 0 to 1."""
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "exponential": math.pow(0.01, progress),
        "constant": 1.0,
    }[recipe.schedule]
    return recipe.learning_rate * factor


def start(classifier: Classifier, recipe: Recipe) -> TrainingState:
    """Return the state of a training before its first epoch."""
    # one pass over all weights at once; the plain loop over tensors costs small networks a third of a step
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    return TrainingState(classifier, optimizer, best={}, history=[])


def train_epoch(state: TrainingState, data: TrainingSet, recipe: Recipe, epoch: int, seed: int, device: str) -> float:
    """Train for one epoch and return the mean loss of its steps.

    (`seed`, `epoch`) is the key of all random numbers, so earlier work of this process changes nothing.

    Raises TrainingError with the step's number if a loss or a gradient is not finite.
    """
    state.classifier.train()
    # dropout and stochastic depth draw from the global generator
    torch.manual_seed(keyed_seed(seed, "epoch", epoch))
    draws = torch.from_numpy(keyed_draws(seed, data.image_ids, epoch)) if recipe.augmentations else None
    batches = list(epoch_order(data.labels, recipe, seed, epoch))
    measured: list[Tensor] = []
    for number, positions in enumerate(batches):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, (epoch - 1 + number / len(batches)) / recipe.epochs)
        images = to_unit_range(data.images[positions], device)
        if draws is not None:
            images = augment(images, draws[positions].to(device), recipe.augmentations)
        labels = torch.from_numpy(data.labels[positions]).to(device, torch.float32)
        measured.append(step(state, images, labels, recipe))
        if len(measured) % _STEPS_PER_CHECK == 0 or number + 1 == len(batches):
            _require_finite(measured[-_STEPS_PER_CHECK:], epoch, number, recipe)
    return float(torch.stack(measured)[:, 0].double().mean())


def step(state: TrainingState, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Do one step and return its loss and its gradient norm, (2,), still on the device."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = state.classifier(images)
    loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in state.classifier.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    state.optimizer.step()
    return torch.stack([loss.detach(), norm])


def _require_finite(measured: Sequence[Tensor], epoch: int, last_step: int, recipe: Recipe) -> None:
    # called for many steps together, because reading a number makes a GPU wait
    bad = (~torch.isfinite(torch.stack(list(measured)))).cpu()
    if bad.any():
        first = int(bad.any(dim=1).nonzero()[0, 0])
        what = " and ".join(n for n, b in zip(("loss", "gradient"), bad[first], strict=True) if b)
        raise TrainingError(
            f"the {what} is not finite at epoch {epoch}, step {last_step + 1 - len(measured) + first + 1}; "
            f"try a smaller learning rate than {recipe.learning_rate}, or precision float32"
        )


def validate(classifier: Classifier, data: TrainingSet, device: str) -> Epoch:
    """Return validation_auc (mean over the labels with both classes) and validation_loss.

    Raises TrainingError if no label has both classes, or a logit is not finite.
    """
    return evaluate(predict(classifier, data.images, device), data.labels)


def evaluate(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> Epoch:
    """Return the result of `validate` from logits and labels (n, outputs). Raises as `validate` does."""
    from sklearn.metrics import roc_auc_score  # a slow import, and scoring needs none of it

    loss = float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels).float()))
    both = labels_with_both_classes(labels)
    if not both:
        raise TrainingError(
            f"none of the labels has both classes among the {len(labels)} validation images; "
            "increase validation_fraction"
        )
    if not np.isfinite(logits).all():
        raise TrainingError("the model's logits of the validation images are not finite; try a smaller learning rate")
    aucs = [float(roc_auc_score(labels[:, i], logits[:, i])) for i in both]
    return {"validation_auc": sum(aucs) / len(aucs), "validation_loss": loss}


def labels_with_both_classes(labels: NDArray[np.uint8]) -> list[int]:
    """Return the indices of the columns of labels (n, outputs) with both classes; only these have an AUC."""
    return [i for i in range(labels.shape[1]) if 0 < labels[:, i].sum() < len(labels)]


def predict(classifier: nn.Module, images: NDArray[np.uint8] | MappedImages, device: str) -> NDArray[np.float32]:
    """Return logits (n, outputs) for uint8 images (n, height, width, channel)."""
    classifier.eval()
    with torch.inference_mode():
        parts = [
            classifier(to_unit_range(images[i : i + EVALUATION_BATCH], device)).cpu()
            for i in range(0, len(images), EVALUATION_BATCH)
        ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def epoch_order(labels: NDArray[np.uint8], recipe: Recipe, seed: int, epoch: int) -> Iterator[NDArray[np.intp]]:
    """Yield the positions of each batch of an epoch, a pure function of (seed, epoch), without a last short batch.

    With `recipe.balanced` every batch is half positives, half negatives, and the rarer class repeats.

    Raises TrainingError if `recipe.balanced` and there are several labels, or a class has no image.
    """
    generator = keyed_generator(seed, "order", epoch)
    if recipe.balanced:
        if labels.shape[1] > 1:
            raise TrainingError(
                f"class-balanced batches need exactly one label, got {labels.shape[1]}; set balanced=False"
            )
        half = -(-len(labels) // 2)
        sides = []
        for value in (0, 1):
            pool = np.flatnonzero(labels[:, 0] == value)
            if len(pool) == 0:
                raise TrainingError(
                    f"no training image has label {value}, but class-balanced batches need both; set balanced=False"
                )
            rounds = [generator.permutation(pool) for _ in range(-(-half // len(pool)))]
            sides.append(np.concatenate(rounds)[:half])
        order = np.stack(sides, axis=1).reshape(-1)
    else:
        order = generator.permutation(len(labels))
    for start in range(0, len(order) - recipe.batch_size + 1, recipe.batch_size):
        yield order[start : start + recipe.batch_size]
