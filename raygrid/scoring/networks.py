"""What must hold of a model before hours are spent: on attacks through it, on surrogates for attacks on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raygrid.attacks import to_unit_range
from raygrid.errors import DataError, RaygridError, SpecError, StoreError, TrainingError, unknown_name
from raygrid.io.mirror import pull
from raygrid.models.epoch import EVALUATION_BATCH, evaluate, labels_with_both_classes, predict
from raygrid.spec import ModelSpec, SurrogateSpec, TargetSpec
from raygrid.store.folder import Zoo
from raygrid.store.query_budget import CHECKS, allowance, limit_of
from raygrid.store.samples import DEVELOPMENT_FILES, Samples, TrainingSet
from raygrid.targets import ExternalTarget, check_surrogate, check_target, open_surrogate, open_target
from raygrid.targets.checks import like_probabilities
from raygrid.targets.surrogate import ExternalSurrogate

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


def verify_card(zoo: Zoo, model: ModelSpec, network: nn.Module, samples: Samples) -> None:
    """Return nothing if a model is in evaluation mode and was trained for the samples' labels, in their order.

    Raises StoreError that says what is wrong.
    """
    who, labels = f"{model.modality}/{model.name}", zoo.card(model)["labels"]
    if any(module.training for module in network.modules()):
        raise StoreError(f"{who} is in training mode: its answers would depend on the batch; this is raygrid's mistake")
    if tuple(labels) != samples.labels:
        raise StoreError(
            f"{who} was trained for {labels}, the samples have {list(samples.labels)}; "
            f"delete {zoo.folder(model)} and run the study again"
        )


def open_external(zoo: Zoo, target: TargetSpec, samples: Samples) -> ExternalTarget:
    """Return a target that raygrid did not train.

    Raises SpecError for a label of its answers that the samples do not have, and what `open_target` raises.
    """
    for label in target.answer.labels:
        if label and label not in samples.labels:
            raise SpecError(f"target {target.label!r}: {unknown_name('label', label, samples.labels)}")
    pull(zoo.answers_dir(target))
    dataset = zoo.study.modality(target.modality).dataset
    return open_target(
        target,
        labels=samples.labels,
        channels=dataset.channels,
        image_size=dataset.image_size,
        answers_dir=zoo.answers_dir(target),
    )


def open_external_surrogate(zoo: Zoo, target: TargetSpec, samples: Samples) -> ExternalSurrogate:
    """Return the network of a target, to be attacked through. Raises what `open_surrogate` raises."""
    dataset = zoo.study.modality(target.modality).dataset
    size = dataset.image_size
    return open_surrogate(target, labels=samples.labels, channels=dataset.channels, image_size=size)


def open_members(zoo: Zoo, surrogate: SurrogateSpec, samples: Samples) -> list[nn.Module]:
    """Return the networks that a surrogate is made of, ready to be attacked through."""
    return [
        open_external_surrogate(zoo, member, samples) if isinstance(member, TargetSpec) else _pulled(zoo, member)
        for member in zoo.study.members_of(surrogate)
    ]


def _pulled(zoo: Zoo, model: ModelSpec) -> nn.Module:
    pull(zoo.folder(model))
    return zoo.load_frozen(model)


class Guarded(nn.Module):
    """A network that raygrid did not train, whatever it raises made an error that names it."""

    def __init__(self, spec: TargetSpec, target: nn.Module) -> None:
        super().__init__()
        self._spec, self.target = spec, target

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits (batch, labels). Raises RaygridError, DataError for what others raise."""
        with _named(self._spec):
            logits: Tensor = self.target(images)
        return logits


@contextmanager
def _named(target: TargetSpec) -> Iterator[None]:
    try:
        yield
    except RaygridError:
        raise
    except Exception as error:  # somebody else's code raises whatever it likes
        raise DataError(f"target {target.label!r}: {target.source} raised {type(error).__name__}: {error}") from error


def verify_external(zoo: Zoo, target: TargetSpec, samples: Samples) -> None:
    """Return nothing if a target that raygrid did not train answers the first test images as it was declared to.

    They are among the clean images that it is asked about anyway, so an endpoint is not asked for more. Raises
    SpecError, too, where a budget does not cover those; DataError, StoreError as `check_target` does.
    """
    limit, least = limit_of(target), samples.num_test + CHECKS
    if limit and limit < least:
        raise SpecError(
            f"target {target.label!r}: max_images is {limit}, and the clean test images alone take {least}; "
            f"raise it to {allowance(zoo.study, target, samples.num_test).num_images_of_all} to leave nothing out"
        )
    count = max(2, min(target.endpoint.batch_size, samples.num_test))
    pull(samples.folder, without=DEVELOPMENT_FILES)
    images = samples.test_block(0, count).images
    with _named(target):
        check_target(target, open_external(zoo, target, samples), images)
        if target.attacked_through:
            check_surrogate(open_external_surrogate(zoo, target, samples), to_unit_range(images))
