"""Networks of a study: built for training, loaded after it, frozen for attack and scoring."""

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from raygrid.errors import WeightsError
from raygrid.hashing import keyed_seed
from raygrid.models.architectures import Classifier, build_classifier, build_pretrained, start_from
from raygrid.models.folding import fold
from raygrid.spec import ModelSpec
from raygrid.store.folder import StudyFolder
from raygrid.store.weight_sources import path_of_model


def build(folder: StudyFolder, model: ModelSpec, *, num_outputs: int) -> Classifier:
    """Return an untrained model. Raises WeightsError or StoreError if its initial weights are absent."""
    study = folder.study
    channels = study.modality(model.modality).dataset.channels
    seed = keyed_seed(study.seed, "init", model.modality, model.name)
    weights = study.weights_of(model)
    if weights is not None:
        return build_pretrained(model.arch, weights, channels=channels, num_outputs=num_outputs, seed=seed)
    classifier = build_classifier(model.arch, channels=channels, num_outputs=num_outputs, seed=seed)
    source = study.source_model(model)
    if source is not None:
        start_from(classifier, _weights(folder, source))
    return classifier


def load(folder: StudyFolder, model: ModelSpec) -> Classifier:
    """Return a trained model. Raises StoreError if it is absent or its weights do not match the card's checksum."""
    labels = folder.model(model).card["labels"]
    channels = folder.study.modality(model.modality).dataset.channels
    classifier = build_classifier(model.arch, channels=channels, num_outputs=len(labels), seed=0)
    classifier.load_state_dict(_weights(folder, model))
    return classifier


def load_frozen(folder: StudyFolder, model: ModelSpec, device: str = "cpu") -> nn.Module:
    """Return a trained model, still on the CPU, as it is attacked and scored on `device`. Raises as `load` does."""
    return freeze(folder, model, load(folder, model), device)


def load_trained(folder: StudyFolder, model: ModelSpec) -> Classifier:
    """Return a trained model with all its layers, on the CPU, in evaluation mode. Raises as `load` does."""
    return load(folder, model).eval().requires_grad_(False)


def freeze(folder: StudyFolder, model: ModelSpec, classifier: Classifier, device: str = "cpu") -> nn.Module:
    """Return a frozen copy of a model's network, still on the CPU, with its normalisation folded for `device`.

    Folding is part of the execution plan, which every result depends on (docs/explanation/design.md, invariant 4).

    Raises WeightsError if a weight is not finite.
    """
    dataset = folder.study.modality(model.modality).dataset
    shape = (1, dataset.channels, dataset.image_size, dataset.image_size)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    try:
        return fold(classifier, noise, device=device)
    except WeightsError as error:
        raise error.with_context(f"{model.modality}/{model.name}: ") from error


def _weights(folder: StudyFolder, model: ModelSpec) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_file(path_of_model(folder.model(model).path))
    return weights
