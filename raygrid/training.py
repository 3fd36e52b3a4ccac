"""Training of one model: plain PyTorch, no Ray; a killed training goes on at its last finished epoch."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from raygrid.attacks import to_unit_range
from raygrid.augment import augment, keyed_draws
from raygrid.errors import TrainingError
from raygrid.files import atomic_path, checksum, write_json
from raygrid.keyed import keyed_generator, keyed_seed
from raygrid.mapped import MappedImages
from raygrid.models import Classifier
from raygrid.samples import Samples, TrainingSet
from raygrid.spec import ModelSpec, Recipe
from raygrid.zoo import Zoo

EVALUATION_BATCH = 64

Epoch = dict[str, float]


@dataclass
class _State:
    """Everything a training carries from one epoch to the next."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    history: list[Epoch]


def train(
    zoo: Zoo,
    model: ModelSpec,
    samples: Samples,
    *,
    device: str = "cpu",
    provenance: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> dict[str, Any]:
    """Train `model`, write its folder, and return its card; a finished model is returned as it is.

    Args:
        on_epoch: called after each epoch with its history entry.

    Raises TrainingError if the loss is not finite, or if the data cannot train or validate a model.
    """
    if zoo.is_trained(model):
        return zoo.card(model)
    recipe, folder = zoo.study.recipe_of(model), zoo.folder(model)
    torch.set_num_threads(recipe.threads)
    seed = keyed_seed(zoo.study.seed, "training", model.modality, model.name)
    training, validation = (samples.training_set(model.split, role) for role in ("train", "validation"))
    if len(training) < recipe.batch_size:
        raise TrainingError(
            f"{model.name}: {len(training)} training images are fewer than a batch of {recipe.batch_size}"
        )
    state = _start(zoo, model, samples, recipe, device)
    _resume(folder / "resume.pt", state, device)
    for epoch in range(len(state.history) + 1, recipe.epochs + 1):
        started = time.monotonic()
        loss = _train_epoch(state, training, recipe, epoch, seed, device)
        entry = {
            "epoch": epoch,
            "loss": loss,
            **_validate(state.classifier, validation, device),
            "seconds": time.monotonic() - started,
        }
        if _is_best(entry, state.history):
            state.best = {k: v.detach().cpu().clone() for k, v in state.classifier.state_dict().items()}
        state.history.append(entry)
        _save_resume(folder / "resume.pt", state)
        on_epoch(entry)
    card = _card(zoo, model, samples, state, num_images=(len(training), len(validation)), provenance=provenance or {})
    return _finish(folder, state, card)


def predict(classifier: Classifier, images: NDArray[np.uint8] | MappedImages, device: str) -> NDArray[np.float32]:
    """Return logits (n, outputs) for uint8 images (n, height, width, channel)."""
    classifier.eval()
    with torch.inference_mode():
        parts = [
            classifier(to_unit_range(images[i : i + EVALUATION_BATCH]).to(device)).cpu()
            for i in range(0, len(images), EVALUATION_BATCH)
        ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def epoch_order(labels: NDArray[np.uint8], recipe: Recipe, seed: int, epoch: int) -> Iterator[NDArray[np.intp]]:
    """Yield the positions of each batch of an epoch, a pure function of (seed, epoch); a last short batch is left out.

    With `recipe.balanced` every batch is half positives, half negatives, the rarer class repeating.
    """
    generator = keyed_generator(seed, "order", epoch)
    if recipe.balanced:
        if labels.shape[1] > 1:
            raise TrainingError(
                f"class-balanced batches are for one label, and there are {labels.shape[1]}; set balanced=False"
            )
        half = -(-len(labels) // 2)
        sides = []
        for value in (0, 1):
            pool = np.flatnonzero(labels[:, 0] == value)
            if len(pool) == 0:
                raise TrainingError(f"no training image has label {value}; class-balanced batches need both")
            rounds = [generator.permutation(pool) for _ in range(-(-half // len(pool)))]
            sides.append(np.concatenate(rounds)[:half])
        order = np.stack(sides, axis=1).reshape(-1)
    else:
        order = generator.permutation(len(labels))
    for start in range(0, len(order) - recipe.batch_size + 1, recipe.batch_size):
        yield order[start : start + recipe.batch_size]


def _start(zoo: Zoo, model: ModelSpec, samples: Samples, recipe: Recipe, device: str) -> _State:
    classifier = zoo.build(model, num_outputs=len(samples.labels)).to(device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return _State(classifier, optimizer, best={}, history=[])


def _train_epoch(state: _State, data: TrainingSet, recipe: Recipe, epoch: int, seed: int, device: str) -> float:
    state.classifier.train()
    # dropout and stochastic depth draw from the global generator: keyed to the epoch, a resumed run draws the same
    torch.manual_seed(keyed_seed(seed, "epoch", epoch))
    draws = torch.from_numpy(keyed_draws(seed, data.image_ids, epoch))
    batches = list(epoch_order(data.labels, recipe, seed, epoch))
    total = 0.0
    for step, positions in enumerate(batches):
        progress = (epoch - 1 + step / len(batches)) / recipe.epochs
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        images = to_unit_range(data.images[positions]).to(device)
        images = augment(images, draws[positions].to(device), recipe.augmentations)
        labels = torch.from_numpy(data.labels[positions]).to(device, torch.float32)
        loss = F.binary_cross_entropy_with_logits(state.classifier(images), labels)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at epoch {epoch}, step {step + 1}; "
                f"try a smaller learning rate than {recipe.learning_rate}"
            )
        total += value
    return total / len(batches)


def _validate(classifier: Classifier, data: TrainingSet, device: str) -> Epoch:
    logits = predict(classifier, data.images, device)
    labels = torch.from_numpy(data.labels).float()
    loss = float(F.binary_cross_entropy_with_logits(torch.from_numpy(logits), labels))
    both = [i for i in range(labels.shape[1]) if 0 < data.labels[:, i].sum() < len(data)]
    if not both:
        raise TrainingError(
            f"none of the labels has both classes among the {len(data)} validation images; enlarge validation_fraction"
        )
    if not np.isfinite(logits).all():
        raise TrainingError(
            "the model gives logits that are not finite on validation images; try a smaller learning rate"
        )
    aucs = [float(roc_auc_score(data.labels[:, i], logits[:, i])) for i in both]
    return {"validation_auc": sum(aucs) / len(aucs), "validation_loss": loss}


def _is_best(entry: Epoch, before: list[Epoch]) -> bool:
    # a small validation part ties often: then the lower loss decides
    return all(
        (entry["validation_auc"], -entry["validation_loss"]) > (e["validation_auc"], -e["validation_loss"])
        for e in before
    )


def _save_resume(path: Path, state: _State) -> None:
    with atomic_path(path) as temporary:
        torch.save(
            {
                "model": state.classifier.state_dict(),
                "optimizer": state.optimizer.state_dict(),
                "best": state.best,
                "history": state.history,
            },
            temporary,
        )


def _resume(path: Path, state: _State, device: str) -> None:
    if not path.exists():
        return
    saved = torch.load(path, map_location=device, weights_only=True)
    state.classifier.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.best, state.history = saved["best"], saved["history"]


def _card(
    zoo: Zoo,
    model: ModelSpec,
    samples: Samples,
    state: _State,
    *,
    num_images: tuple[int, int],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    best = max(state.history, key=lambda e: (e["validation_auc"], -e["validation_loss"]))
    source = zoo.study.source_model(model)
    return {
        "name": model.name,
        "signature": zoo.signature(model),
        "model": asdict(model),
        "starts_from": None if source is None else f"{source.modality}/{source.name}",
        "recipe": asdict(zoo.study.recipe_of(model)),
        "labels": list(samples.labels),
        "data": {
            "title": samples.manifest["title"],
            "phantom": samples.manifest["phantom"],
            "signature": zoo.samples[model.modality],
        },
        "num_training_images": num_images[0],
        "num_validation_images": num_images[1],
        "num_parameters": sum(p.numel() for p in state.classifier.parameters()),
        "best_epoch": int(best["epoch"]),
        "validation_auc": best["validation_auc"],
        "validation_loss": best["validation_loss"],
        "seconds": sum(e["seconds"] for e in state.history),
        **provenance,
    }


def _finish(folder: Path, state: _State, card: dict[str, Any]) -> dict[str, Any]:
    weights = folder / "model.safetensors"
    with atomic_path(weights) as temporary:
        save_file({k: v.contiguous() for k, v in state.best.items()}, temporary)
    write_json(folder / "history.json", state.history)
    card = {**card, "weights_sha256": checksum(weights)}
    write_json(folder / "card.json", card)
    (folder / "resume.pt").unlink(missing_ok=True)
    return card
