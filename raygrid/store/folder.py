"""The trained models of a study: where they lie, what is missing, how one is opened.

STUDY/zoo/<modality>/<readable name>-<signature>/
    model.safetensors   weights of the best epoch
    history.json        one entry per epoch
    resume.pt           state of an unfinished training
    failure.txt         what an unfinished training stopped at, where that was no error of raygrid's own
    card.json           written last: what the model is, what made it, how good it is
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raygrid.hashing import digest, keyed_seed
from raygrid.io.files import read_json
from raygrid.spec import AnyTarget, ModelSpec, StudySpec, SurrogateSpec, TargetSpec
from raygrid.store.signatures import model_signature
from raygrid.store.weight_sources import path_of_model, weights_identity
from raygrid.targets import target_identity

if TYPE_CHECKING:  # PyTorch and timm take seconds to import; asking what is missing needs neither
    from torch import Tensor, nn

    from raygrid.models.architectures import Classifier

WEIGHT_FILES = ("*.safetensors", "*.pt")  # names of the files that hold weights, the bulk of a folder


@dataclass(frozen=True)
class Zoo:
    """All models of a study in one study folder.

    Attributes:
        samples: signature of the prepared samples per modality.
    """

    study_dir: Path
    study: StudySpec
    samples: Mapping[str, str]

    def signature(self, model: ModelSpec) -> str:
        """Return the signature of a model, trained or not."""
        return model_signature(self.study, model, samples=self.samples[model.modality], start=self._start(model))

    def identity(self, model: AnyTarget) -> str:
        """Return what stands for a model in the signature of scores: its signature and, once trained, its weights.

        A model that is trained again need not come out the same on another device; its old scores are not its own. A
        target that raygrid did not train is what its declaration and its files say.
        """
        if isinstance(model, TargetSpec):
            return target_identity(model)
        weights = self.card(model)["weights_sha256"] if self.is_trained(model) else "untrained"
        return f"{self.signature(model)}-{weights}"

    def surrogate_signature(self, surrogate: SurrogateSpec) -> str:
        """Return the signature of a model, or one of an ensemble's models in their order."""
        if isinstance(surrogate, TargetSpec):
            return self.identity(surrogate)
        members = [self.signature(m) for m in self.study.members_of(surrogate) if isinstance(m, ModelSpec)]
        return members[0] if isinstance(surrogate, ModelSpec) else digest({"mean logits of": members})

    def answers_dir(self, target: TargetSpec) -> Path:
        """Return the folder of what a target has answered, where asking again costs something."""
        return self.study_dir / "answers" / target.modality / target.name

    def folder(self, model: ModelSpec) -> Path:
        """Return the folder of a model, trained or not."""
        return self.study_dir / "zoo" / model.modality / f"{model.name}-{self.signature(model)[:12]}"

    def is_trained(self, model: ModelSpec) -> bool:
        """Whether the model's training is finished."""
        return (self.folder(model) / "card.json").exists()

    def untrained(self) -> list[ModelSpec]:
        """Return the models that are still to be trained, in declared order."""
        return [model for model in self.study.models if not self.is_trained(model)]

    def card(self, model: ModelSpec) -> dict[str, Any]:
        """Return the model card. Raises StoreError if the model is not trained."""
        card: dict[str, Any] = read_json(self.folder(model) / "card.json")
        return card

    def history(self, model: ModelSpec) -> list[dict[str, float]]:
        """Return one entry per trained epoch: epoch, loss, validation_auc, validation_loss, learning_rate, seconds."""
        history: list[dict[str, float]] = read_json(self.folder(model) / "history.json")
        return history

    def build(self, model: ModelSpec, *, num_outputs: int) -> "Classifier":
        """Return the model as it is before training. Raises WeightsError, StoreError if its source is not there."""
        from raygrid.models.architectures import build_classifier, build_pretrained, start_from

        channels = self.study.modality(model.modality).dataset.channels
        seed = keyed_seed(self.study.seed, "init", model.modality, model.name)
        weights = self.study.weights_of(model)
        if weights is not None:
            return build_pretrained(model.arch, weights, channels=channels, num_outputs=num_outputs, seed=seed)
        classifier = build_classifier(model.arch, channels=channels, num_outputs=num_outputs, seed=seed)
        source = self.study.source_model(model)
        if source is not None:
            start_from(classifier, self._weights(source))
        return classifier

    def load(self, model: ModelSpec) -> "Classifier":
        """Return the trained model. Raises StoreError if it is not there or its weights are not what the card says."""
        from raygrid.models.architectures import build_classifier

        card = self.card(model)
        channels = self.study.modality(model.modality).dataset.channels
        classifier = build_classifier(model.arch, channels=channels, num_outputs=len(card["labels"]), seed=0)
        classifier.load_state_dict(self._weights(model))
        return classifier

    def load_frozen(self, model: ModelSpec) -> "nn.Module":
        """Return the trained model as it is attacked and scored."""
        return self.frozen(model, self.load(model))

    def frozen(self, model: ModelSpec, classifier: "Classifier") -> "nn.Module":
        """Return a frozen copy of a model's network on the CPU, with its normalisation folded.

        This is part of the execution plan, which every result depends on (docs/design.md, invariant 4).
        """
        import torch

        from raygrid.models.folding import fold

        dataset = self.study.modality(model.modality).dataset
        shape = (1, dataset.channels, dataset.image_size, dataset.image_size)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return fold(classifier, noise)

    def _weights(self, model: ModelSpec) -> "dict[str, Tensor]":
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = load_file(path_of_model(self.folder(model)))
        return weights

    def _start(self, model: ModelSpec) -> str:
        weights = self.study.weights_of(model)
        if weights is not None:
            return weights_identity(model.arch, weights)
        source = self.study.source_model(model)
        return "random" if source is None else self.signature(source)
