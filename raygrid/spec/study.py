"""The declaration of a whole factorial study."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from raygrid.errors import SpecError, unknown_name
from raygrid.spec._require import require
from raygrid.spec.margins import Margins
from raygrid.spec.models import WEIGHTS, EnsembleSpec, ModalitySpec, ModelSpec, Recipe
from raygrid.spec.serialization import ABSENT_BY_DEFAULT, from_plain, to_plain
from raygrid.spec.targets import TargetSpec
from raygrid.spec.transfer import TransferSpec

AnyTarget = ModelSpec | TargetSpec  # the types of targets
SurrogateSpec = ModelSpec | EnsembleSpec | TargetSpec  # the types of surrogates


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A whole factorial study: every surrogate of a modality attacks every target of it.

    >>> from raygrid.spec import DatasetSpec, SplitSpec, attack_grid, model_grid
    >>> clinic = ModalitySpec(
    ...     name="clinic",
    ...     dataset=DatasetSpec(loader="phantom_xray", image_size=64, channels=1, options={"patients": 600}),
    ...     splits=SplitSpec(test_fraction=0.2),
    ...     recipe=Recipe(epochs=10),
    ... )
    >>> study = StudySpec(
    ...     name="first",
    ...     seed=1,
    ...     modalities=(clinic,),
    ...     models=model_grid("clinic", ["resnet18", "densenet121"], [("random", "d1", 0), ("random", "d2", 0)]),
    ...     transfer=TransferSpec(attacks=attack_grid((0.02, 0.04))),
    ... )
    >>> len(study.pairings("clinic"))
    16

    Attributes:
        name: name of the default study folder, `studies/<name>`.
        seed: seed of every random number of the study.
        modalities: the medical domains, including those used only for pre-training.
        models: the zoo: the models that the study trains.
        transfer: the attacks, and the settings of crafting and scoring.
        weights: sources of pre-trained weights, `<arch>` -> source for the init `imagenet` and `<name>/<arch>` ->
            source for the init `weights:<name>` (kinds of sources: `raygrid.store.weight_sources`). Without an entry,
            `imagenet` weights come from timm's hub.
        ensembles: additional surrogates, each of two or more models.
        targets: classifiers that the study does not train. Every surrogate of their modality attacks them; those with
            `attacked_through` are surrogates too.
        zoo_as_targets: whether the models of the zoo are targets too. If False they serve only as surrogates.
        margins: the margins of the claims.

    Raises SpecError if names or labels are repeated, a modality, model or source of weights is unknown (with near
    misses), a pre-trained model has no source model, or a modality has no target.
    """

    name: str
    seed: int
    modalities: tuple[ModalitySpec, ...]
    models: tuple[ModelSpec, ...]
    transfer: TransferSpec
    weights: Mapping[str, str] = field(default_factory=dict)
    ensembles: tuple[EnsembleSpec, ...] = field(default=(), metadata=ABSENT_BY_DEFAULT)
    targets: tuple[TargetSpec, ...] = field(default=(), metadata=ABSENT_BY_DEFAULT)
    zoo_as_targets: bool = field(default=True, metadata=ABSENT_BY_DEFAULT)
    margins: Margins = field(default_factory=Margins)

    def __post_init__(self) -> None:
        names = [m.name for m in self.modalities]
        require(len(set(names)) == len(names), f"modalities have the names {names}; expected each once")
        require(
            len(set(self.models)) == len(self.models),
            "models has the same model twice; remove one, or give it another instance",
        )
        for model in self.models:
            require(model.modality in names, unknown_name("modality", model.modality, names))
            if model.source is not None:
                require(model.source in names, unknown_name("source modality", model.source, names))
                source = self.source_model(model)
                require(
                    source is not None,
                    f"{model.modality}/{model.name} starts from a {model.arch} trained on {model.source}, which the "
                    "study does not train; add that model to models",
                )
            self.weights_of(model)
        labels = [(e.modality, e.label) for e in self.ensembles]
        require(
            len(set(labels)) == len(labels), f"ensembles share a label: {labels}; expected each (modality, label) once"
        )
        for ensemble in self.ensembles:
            studied = [m.name for m in self.studied]
            require(ensemble.modality in studied, unknown_name("modality", ensemble.modality, studied))
            self.members_of(ensemble)
        self._check_targets()

    def _check_targets(self) -> None:
        studied = [m.name for m in self.studied]
        labels = [(t.modality, t.label) for t in self.targets]
        require(
            len(set(labels)) == len(labels), f"targets share a label: {labels}; expected each (modality, label) once"
        )
        for target in self.targets:
            require(target.modality in studied, unknown_name("modality", target.modality, studied))
            require(
                bool(self.models_of(target.modality)),
                f"target {target.label!r}: expected at least one model of {target.modality} as a surrogate; "
                "add one to models",
            )
        for name in studied:
            require(
                self.zoo_as_targets or any(t.modality == name for t in self.targets),
                f"{name} has no target: zoo_as_targets is False and targets has none of {name}; add one, or remove the "
                "modality",
            )

    def modality(self, name: str) -> ModalitySpec:
        """Return a modality by name. Raises SpecError, with near misses, if the study has none of that name."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise SpecError(unknown_name("modality", name, [m.name for m in self.modalities]))

    @property
    def studied(self) -> tuple[ModalitySpec, ...]:
        """The modalities that are attacked: all but the pre-training sources."""
        return tuple(m for m in self.modalities if not m.source)

    def models_of(self, modality: str) -> tuple[ModelSpec, ...]:
        """Return the models of one modality, in their declared order."""
        return tuple(m for m in self.models if m.modality == modality)

    def surrogates_of(self, modality: str) -> tuple[SurrogateSpec, ...]:
        """Return the surrogates of one modality: its models, its ensembles, and targets with `attacked_through`."""
        ensembles = (e for e in self.ensembles if e.modality == modality)
        others = (t for t in self.external_targets(modality) if t.attacked_through)
        return (*self.models_of(modality), *ensembles, *others)

    def external_targets(self, modality: str) -> tuple[TargetSpec, ...]:
        """Return the external targets of one modality: classifiers that the study does not train."""
        return tuple(t for t in self.targets if t.modality == modality)

    def targets_of(self, modality: str) -> tuple[AnyTarget, ...]:
        """Return the targets of one modality: its models, if `zoo_as_targets`, then the external ones."""
        return (*(self.models_of(modality) if self.zoo_as_targets else ()), *self.external_targets(modality))

    def members_of(self, surrogate: SurrogateSpec) -> tuple[AnyTarget, ...]:
        """Return the members of an ensemble, or a tuple with only the surrogate if it is not an ensemble.

        Raises SpecError, with near misses, if the study does not have a member.
        """
        if not isinstance(surrogate, EnsembleSpec):
            return (surrogate,)
        known = {m.name: m for m in self.models_of(surrogate.modality)}
        for name in surrogate.members:
            require(name in known, unknown_name(f"member of the ensemble {surrogate.label}", name, known))
        return tuple(known[name] for name in surrogate.members)

    def source_model(self, model: ModelSpec) -> ModelSpec | None:
        """Return the model whose weights `model` starts from, None without one.

        It has the same architecture, the source modality of `model`, and the lowest instance.
        """
        found = [m for m in self.models if m.modality == model.source and m.arch == model.arch]
        return min(found, key=lambda m: m.instance) if found else None

    def weights_of(self, model: ModelSpec) -> str | None:
        """Return the source of a model's initial weights outside the study, None without one.

        Raises SpecError, with near misses, if `weights` does not name the source.
        """
        if model.init == "imagenet":
            return self.weights.get(model.arch, "hub")
        if not model.init.startswith(WEIGHTS):
            return None
        key = f"{model.init.removeprefix(WEIGHTS)}/{model.arch}"
        require(key in self.weights, unknown_name("weights", key, self.weights) + f"; set weights={{{key!r}: ...}}")
        return self.weights[key]

    def recipe_of(self, model: ModelSpec) -> Recipe:
        """Return the recipe that trains `model`."""
        modality = self.modality(model.modality)
        return modality.finetune if model.is_pretrained and modality.finetune is not None else modality.recipe

    def pairings(self, modality: str) -> list[tuple[SurrogateSpec, AnyTarget]]:
        """Return every (surrogate, target) of a modality, with the white-box references."""
        surrogates, targets = self.surrogates_of(modality), self.targets_of(modality)
        return [(surrogate, target) for surrogate in surrogates for target in targets]

    def is_white_box(self, surrogate: SurrogateSpec, target: AnyTarget) -> bool:
        """Whether the surrogate is the target or contains it; external classifiers are compared by network."""
        if isinstance(surrogate, TargetSpec) and isinstance(target, TargetSpec):
            return surrogate.network == target.network
        return target in self.members_of(surrogate)

    def to_dict(self) -> dict[str, Any]:
        """Return the study as JSON values."""
        return cast(dict[str, Any], to_plain(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StudySpec":
        """Return the study from the values of `to_dict`. Raises SpecError if a field is unknown, missing or invalid."""
        return from_plain(cls, values)
