"""A whole factorial study: its models, pairings, and its form as JSON values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from raygrid.errors import SpecError, unknown_name
from raygrid.spec._require import require
from raygrid.spec.attacks import TransferSpec
from raygrid.spec.margins import Margins
from raygrid.spec.models import WEIGHTS, EnsembleSpec, ModalitySpec, ModelSpec, Recipe
from raygrid.spec.serialization import ABSENT_BY_DEFAULT, from_plain, to_plain
from raygrid.spec.targets import TargetSpec

AnyTarget = ModelSpec | TargetSpec  # what is attacked
SurrogateSpec = ModelSpec | EnsembleSpec | TargetSpec  # what an attack goes through


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A full factorial study.

    Attributes:
        weights: where pre-trained weights come from, by `<arch>` for `imagenet` and by `<name>/<arch>` for
            `weights:<name>`; `raygrid.store.weight_sources` lists the sources. Architectures that are not named get
            `imagenet` weights from timm's hub.
        ensembles: models that are attacked through together, beside each alone.
        targets: classifiers that raygrid did not train, attacked through every surrogate of their modality; those with
            `attacked_through` are surrogates, too.
        zoo_as_targets: whether the models of the zoo are attacked too; without it they are the attacker's alone.
        margins: what the claims call alike, little and different.
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
        require(len(set(names)) == len(names), f"modalities share a name: {names}")
        require(len(set(self.models)) == len(self.models), "a model is declared twice")
        for model in self.models:
            require(model.modality in names, unknown_name("modality", model.modality, names))
            if model.source is not None:
                require(model.source in names, unknown_name("source modality", model.source, names))
                source = self.source_model(model)
                require(
                    source is not None,
                    f"{model.modality}/{model.name} starts from a {model.arch} trained on {model.source}, "
                    "which the study does not train",
                )
            self.weights_of(model)
        labels = [(e.modality, e.label) for e in self.ensembles]
        require(len(set(labels)) == len(labels), f"ensembles share a label: {labels}")
        for ensemble in self.ensembles:
            studied = [m.name for m in self.studied]
            require(ensemble.modality in studied, unknown_name("modality", ensemble.modality, studied))
            self.members_of(ensemble)
        self._check_targets()

    def _check_targets(self) -> None:
        studied = [m.name for m in self.studied]
        labels = [(t.modality, t.label) for t in self.targets]
        require(len(set(labels)) == len(labels), f"targets share a label: {labels}")
        for target in self.targets:
            require(target.modality in studied, unknown_name("modality", target.modality, studied))
            require(
                bool(self.models_of(target.modality)),
                f"target {target.label!r}: the study trains no model of {target.modality}, so nobody looks like it",
            )
        for name in studied:
            require(
                self.zoo_as_targets or any(t.modality == name for t in self.targets),
                f"nothing of {name} is attacked: zoo_as_targets is False and none of the targets is of {name}; "
                "add one, or leave out that modality",
            )

    def modality(self, name: str) -> ModalitySpec:
        """Return a modality by name. Raises SpecError with near misses."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise SpecError(unknown_name("modality", name, [m.name for m in self.modalities]))

    @property
    def studied(self) -> tuple[ModalitySpec, ...]:
        """The modalities that are attacked: all but the pre-training sources."""
        return tuple(m for m in self.modalities if not m.source)

    def models_of(self, modality: str) -> tuple[ModelSpec, ...]:
        """Return the models of one modality in their declared order."""
        return tuple(m for m in self.models if m.modality == modality)

    def surrogates_of(self, modality: str) -> tuple[SurrogateSpec, ...]:
        """Return what the attacks of one modality go through: its models, its ensembles, networks of others."""
        ensembles = (e for e in self.ensembles if e.modality == modality)
        others = (t for t in self.external_targets(modality) if t.attacked_through)
        return (*self.models_of(modality), *ensembles, *others)

    def external_targets(self, modality: str) -> tuple[TargetSpec, ...]:
        """Return the targets of one modality that raygrid did not train."""
        return tuple(t for t in self.targets if t.modality == modality)

    def targets_of(self, modality: str) -> tuple[AnyTarget, ...]:
        """Return what is attacked in one modality: its models, unless they are the attacker's alone, then the rest."""
        return (*(self.models_of(modality) if self.zoo_as_targets else ()), *self.external_targets(modality))

    def members_of(self, surrogate: SurrogateSpec) -> tuple[AnyTarget, ...]:
        """Return a surrogate's models: a model itself, or all of an ensemble. Raises SpecError for unknown ones."""
        if not isinstance(surrogate, EnsembleSpec):
            return (surrogate,)
        known = {m.name: m for m in self.models_of(surrogate.modality)}
        for name in surrogate.members:
            require(name in known, unknown_name(f"member of the ensemble {surrogate.label}", name, known))
        return tuple(known[name] for name in surrogate.members)

    def source_model(self, model: ModelSpec) -> ModelSpec | None:
        """Return the model whose weights `model` starts from: same architecture, source modality, lowest instance."""
        found = [m for m in self.models if m.modality == model.source and m.arch == model.arch]
        return min(found, key=lambda m: m.instance) if found else None

    def weights_of(self, model: ModelSpec) -> str | None:
        """Return where the model's weights come from outside the study, None for those that start at random or within.

        Raises SpecError for named weights that `weights` lacks.
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
        """Return every ordered (surrogate, target) of a modality, white-box references included."""
        surrogates, targets = self.surrogates_of(modality), self.targets_of(modality)
        return [(surrogate, target) for surrogate in surrogates for target in targets]

    def is_white_box(self, surrogate: SurrogateSpec, target: AnyTarget) -> bool:
        """Whether the attacker of a pairing has the target itself, as far as the study's words tell."""
        if isinstance(surrogate, TargetSpec) and isinstance(target, TargetSpec):
            return surrogate.network == target.network
        return target in self.members_of(surrogate)

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain JSON values."""
        return cast(dict[str, Any], to_plain(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StudySpec":
        """Return the study that `to_dict` wrote. Raises SpecError for unknown or absent fields."""
        return from_plain(cls, values)
