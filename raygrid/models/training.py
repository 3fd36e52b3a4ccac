"""Training of one model in plain PyTorch, without Ray; a killed training continues after its last finished epoch."""

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from raygrid.errors import StoreError, TrainingError
from raygrid.hashing import keyed_seed
from raygrid.io.files import atomic_path, checksum, write_json
from raygrid.io.mirror import remove
from raygrid.models.checks import verify_answers
from raygrid.models.epoch import Epoch, TrainingState, learning_rate, start, train_epoch, validate
from raygrid.models.numerics import set_numerics
from raygrid.models.zoo import build, freeze
from raygrid.spec import ModelSpec, Recipe
from raygrid.store.folder import ModelFolder, StudyFolder
from raygrid.store.samples import Samples, TrainingSet


def train(
    folder: StudyFolder,
    model: ModelSpec,
    samples: Samples,
    *,
    device: str = "cpu",
    provenance: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> dict[str, Any]:
    """Train `model`, write its folder, and return its card; return only the card if the model is finished.

    Args:
        on_epoch: called after each epoch with its history entry.

    Raises TrainingError if the loss is not finite, if there are too few images or classes, or if the folded network
    fails `verify_answers`; StoreError if the file to resume from is damaged.
    """
    if folder.model(model).is_trained:
        return folder.model(model).card
    recipe, files = folder.study.recipe_of(model), folder.model(model)
    seed = keyed_seed(folder.study.seed, "training", model.modality, model.name)
    training, validation = (samples.training_set(model.split, role) for role in ("train", "validation"))
    if len(training) < recipe.batch_size:
        raise TrainingError(
            f"{model.name}: expected at least {recipe.batch_size} training images, one batch, got {len(training)}; "
            "lower batch_size"
        )
    state = start(build(folder, model, num_outputs=len(samples.labels)).to(device), recipe)
    _resume(files.resume_path, state, device)
    while not is_over(state.history, recipe):
        _do_epoch(state, recipe, training, validation, seed, device)
        _save_resume(files.resume_path, state)
        on_epoch(state.history[-1])
    _verify(folder, model, state, validation, device)
    card = _card(
        folder, model, samples, state, num_images=(len(training), len(validation)), provenance=provenance or {}
    )
    return _finish(files, state, card)


def is_over(history: Sequence[Epoch], recipe: Recipe) -> bool:
    """Whether all epochs are over, or the last `patience` of them brought no higher validation AUC."""
    if len(history) >= recipe.epochs:
        return True
    aucs = [entry["validation_auc"] for entry in history]
    return bool(aucs) and 0 < recipe.patience < len(aucs) - aucs.index(max(aucs))


def kept_of(history: Sequence[Epoch], recipe: Recipe) -> Epoch:
    """Return the epoch to keep: highest validation AUC, then lowest loss, then first; AUCs of few images often tie.

    With averaged weights it is the last epoch.
    """
    if recipe.averaged_epochs:
        return history[-1]
    return max(history, key=lambda entry: (entry["validation_auc"], -entry["validation_loss"]))


def mean_weights(mean: dict[str, Tensor], own: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return the mean of `number` epochs' weights.

    Args:
        mean: of the weights before the last epoch.
        own: weights of the last epoch; returned unchanged if `number` is 1 or less. Counters are always its own.
    """
    if number <= 1:
        return own
    return {k: mean[k] + (w - mean[k]) / number if w.is_floating_point() else w for k, w in own.items()}


def _do_epoch(
    state: TrainingState,
    recipe: Recipe,
    training: TrainingSet,
    validation: TrainingSet,
    seed: int,
    device: str,
) -> None:
    """Train the state for its next epoch, and validate the weights to keep if it is the last one."""
    epoch, started = len(state.history) + 1, time.monotonic()
    set_numerics(threads=recipe.threads, precision=recipe.precision)
    loss = train_epoch(state, training, recipe, epoch, seed, device)
    set_numerics(threads=recipe.threads)  # validated as it will be attacked, in float32
    own = {k: v.detach().cpu().clone() for k, v in state.classifier.state_dict().items()}
    candidate = mean_weights(state.best, own, epoch - (recipe.epochs - recipe.averaged_epochs))
    state.classifier.load_state_dict(candidate)
    entry = {
        "epoch": epoch,
        "loss": loss,
        **validate(state.classifier, validation, device),
        "learning_rate": learning_rate(recipe, (epoch - 1) / recipe.epochs),
        "seconds": time.monotonic() - started,
    }
    state.classifier.load_state_dict(own)
    state.history.append(entry)
    if kept_of(state.history, recipe) is entry:
        state.best = candidate


def _verify(folder: StudyFolder, model: ModelSpec, state: TrainingState, validation: TrainingSet, device: str) -> None:
    """Check the network to attack against the kept epoch, whose weights the state takes."""
    state.classifier.load_state_dict(state.best)
    frozen = freeze(folder, model, state.classifier.cpu(), device).to(device)
    kept = kept_of(state.history, folder.study.recipe_of(model))
    verify_answers(frozen, validation, kept["validation_auc"], device)


def _save_resume(path: Path, state: TrainingState) -> None:
    values = {
        "model": state.classifier.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "best": state.best,
        "history": state.history,
    }
    with atomic_path(path) as temporary, _disk_errors():
        torch.save(values, temporary)


def _resume(path: Path, state: TrainingState, device: str) -> None:
    if not path.exists():
        return
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise StoreError(
            f"{path} is damaged ({str(error).splitlines()[0]}); delete it to train from the start"
        ) from error
    state.classifier.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.best = {name: tensor.cpu() for name, tensor in saved["best"].items()}
    state.history = saved["history"]


def _card(
    folder: StudyFolder,
    model: ModelSpec,
    samples: Samples,
    state: TrainingState,
    *,
    num_images: tuple[int, int],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    best = kept_of(state.history, folder.study.recipe_of(model))
    source = folder.study.source_model(model)
    return {
        "name": model.name,
        "signature": folder.signature(model),
        "model": asdict(model),
        "starts_from": None if source is None else f"{source.modality}/{source.name}",
        "recipe": asdict(folder.study.recipe_of(model)),
        "labels": list(samples.labels),
        "data": {
            "title": samples.manifest["title"],
            "phantom": samples.manifest["phantom"],
            "signature": folder.sample_signatures[model.modality],
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


def _finish(files: ModelFolder, state: TrainingState, card: dict[str, Any]) -> dict[str, Any]:
    weights = files.weights_path
    with atomic_path(weights) as temporary, _disk_errors():
        save_file({k: v.contiguous() for k, v in state.best.items()}, temporary)
    write_json(files.history_path, state.history)
    card = {**card, "weights_sha256": checksum(weights)}
    write_json(files.card_path, card)
    remove(files.resume_path)
    remove(files.failure_path)
    return card


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Convert the errors of PyTorch and safetensors on a full disk to OSError."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OSError(str(error)) from error
