"""The contract: a study as frozen, validated values; its models, pairings and signatures.

Everything a result depends on stands here and enters a signature; what only decides where and how fast
it is computed (workers, GPUs, folders) does not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from raygrid.errors import SpecError, unknown_name
from raygrid.keyed import Json
from raygrid.plain import ABSENT_IF_EMPTY, from_plain, to_plain

SPLITS = ("d1", "d2", "d2_half", "d1_tenth", "development")
SPLIT_FILES = ("all", "test", *(s + role for s in SPLITS[:4] for role in ("", "/train", "/validation")))
AUGMENTATIONS = ("flip_horizontal", "flip_vertical", "rotate", "translate", "colour")
ATTACKS = ("fgsm", "pgd")
Condition = Literal["clean", "adversarial", "control"]
PRETRAINED_ON = "pretrained_on:"
MAX_REJECTED_SHARE = 0.001  # of a modality's images; more stop a study

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _require(claim: bool, message: str) -> None:
    if not claim:
        raise SpecError(message)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Which images, and at what size they are prepared.

    Attributes:
        loader: name in `raygrid.datasets.DATASETS`.
        image_size: side of the square prepared image, pixels.
        channels: 1 (grey) or 3 (RGB); a perturbation of a grey image stays grey.
        options: what the loader accepts beyond that (number of phantom patients, the labels to use, ...).
    """

    loader: str
    image_size: int
    channels: int
    options: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16 pixels are needed")
        _require(self.channels in (1, 3), f"channels is {self.channels}; expected 1 or 3")


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """How patients are divided.

    Attributes:
        test_fraction: share of patients kept for testing; None uses the data set's official division.
        validation_fraction: share of each development split's patients that choose the best epoch.
        files: name in `SPLIT_FILES` -> path, relative to the data root, of a file that gives the split in place of a
            draw (see `raygrid.split_files`). What the files say enters the signature, not their paths.
    """

    test_fraction: float | None = None
    validation_fraction: float = 0.1
    files: Mapping[str, str] = field(default_factory=dict, metadata=ABSENT_IF_EMPTY)

    def __post_init__(self) -> None:
        test = self.test_fraction
        _require(test is None or 0 < test < 1, f"test_fraction is {test}; expected between 0 and 1, or None")
        _require(
            0 < self.validation_fraction < 1, f"validation_fraction is {self.validation_fraction}; expected 0 to 1"
        )
        for name in self.files:
            _require(name in SPLIT_FILES, unknown_name("split file", name, SPLIT_FILES))
        _require(
            test is None or not self.files,
            f"test_fraction is {test} beside split files; the files, or the official division, say who is tested: "
            "leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained: Adam, binary cross-entropy on logits, cosine decay of the learning rate to zero.

    Attributes:
        epochs: passes over the training part; the epoch of best validation AUC is kept.
        batch_size: images per step.
        learning_rate: at the first step.
        weight_decay: decoupled (AdamW); 0 is plain Adam.
        balanced: draw each batch half from positives, half from negatives (single-label tasks).
        augmentations: names in `AUGMENTATIONS`, drawn per (seed, image, epoch).
        threads: CPU threads of one training; they change rounding, so they are part of the signature.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    balanced: bool = False
    augmentations: tuple[str, ...] = ()
    threads: int = 1

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, f"epochs is {self.epochs}; expected at least 1")
        _require(self.batch_size >= 2, f"batch_size is {self.batch_size}; batch normalisation needs at least 2")
        _require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}; expected above 0")
        _require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; expected 0 or more")
        _require(self.threads >= 1, f"threads is {self.threads}; expected at least 1")
        for name in self.augmentations:
            _require(name in AUGMENTATIONS, unknown_name("augmentation", name, AUGMENTATIONS))


@dataclass(frozen=True, kw_only=True)
class ModalitySpec:
    """One medical domain, or (source=True) a public task that only serves for pre-training.

    `finetune` is the recipe of models that do not start at random weights; without it they use `recipe`.
    """

    name: str
    dataset: DatasetSpec
    splits: SplitSpec
    recipe: Recipe
    finetune: Recipe | None = None
    source: bool = False

    def __post_init__(self) -> None:
        _require(bool(_NAME.fullmatch(self.name)), f"modality name {self.name!r} must match {_NAME.pattern}")


@dataclass(frozen=True, kw_only=True, order=True)
class ModelSpec:
    """One cell of the zoo.

    Attributes:
        arch: a timm architecture.
        init: `random` (He), `imagenet`, or `pretrained_on:<source modality>`.
        split: name in `SPLITS`.
        instance: 0, 1, ...: trainings that differ by their seed alone.
    """

    modality: str
    arch: str
    init: str
    split: str
    instance: int = 0

    def __post_init__(self) -> None:
        known = self.init in ("random", "imagenet") or self.init.startswith(PRETRAINED_ON)
        _require(known, unknown_name("init", self.init, ["random", "imagenet", f"{PRETRAINED_ON}<source>"]))
        _require(self.split in SPLITS, unknown_name("split", self.split, SPLITS))
        _require(self.instance >= 0, f"instance is {self.instance}; expected 0 or more")

    @property
    def name(self) -> str:
        """Readable name, unique within the modality."""
        return f"{self.arch}-{self.init.replace(':', '-')}-{self.split}-{self.instance}"

    @property
    def source(self) -> str | None:
        """The source modality this model is pre-trained on, if any."""
        return self.init.removeprefix(PRETRAINED_ON) if self.init.startswith(PRETRAINED_ON) else None

    @property
    def is_pretrained(self) -> bool:
        """Whether the model starts at weights learned elsewhere."""
        return self.init != "random"

    @property
    def family(self) -> tuple[str, str, str, str]:
        """What a retrained twin shares with this model: modality, architecture, init, split."""
        return (self.modality, self.arch, self.init, self.split)


@dataclass(frozen=True, kw_only=True, order=True)
class AttackSpec:
    """One L-infinity attack at one budget; units of the image scale [-1, 1] (0.02 = 2.55 grey levels).

    Attributes:
        name: `fgsm` (one step of size epsilon) or `pgd` (`steps` steps of size alpha, no random start).
        epsilon: largest change of any pixel value.
        alpha: step size of `pgd`; for `fgsm` it is epsilon.
        steps: iterations of `pgd`; for `fgsm` it is 1.
    """

    name: str
    epsilon: float
    alpha: float
    steps: int

    def __post_init__(self) -> None:
        _require(self.name in ATTACKS, unknown_name("attack", self.name, ATTACKS))
        _require(0 < self.epsilon <= 2, f"epsilon is {self.epsilon}; images span [-1, 1], so expected 0 to 2")
        _require(self.alpha > 0 and self.steps >= 1, f"alpha {self.alpha} and steps {self.steps} must be positive")
        if self.name == "fgsm":
            _require(self.alpha == self.epsilon and self.steps == 1, "fgsm is one step of size epsilon")


@dataclass(frozen=True)
class Case:
    """What was done to the images before a target saw them; `attack` is None for clean images."""

    condition: Condition
    attack: AttackSpec | None

    @property
    def attack_name(self) -> str:
        """Name of the attack, empty for clean images."""
        return "" if self.attack is None else self.attack.name

    @property
    def epsilon(self) -> float:
        """Budget of the attack, 0 for clean images."""
        return 0.0 if self.attack is None else self.attack.epsilon


@dataclass(frozen=True, kw_only=True)
class TransferSpec:
    """How test images are attacked and scored; all of it is part of the result (docs/design.md, invariant 4).

    Attributes:
        attacks: every (attack, epsilon).
        block_size: images crafted as one batch.
        threads: CPU threads of one actor.
    """

    attacks: tuple[AttackSpec, ...]
    block_size: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        _require(len(self.attacks) > 0, "a study needs at least one attack")
        _require(len(set(self.attacks)) == len(self.attacks), "an attack is declared twice")
        keys = {(a.name, a.epsilon) for a in self.attacks}
        _require(
            len(keys) == len(self.attacks), "two attacks share name and epsilon, the tables could not tell them apart"
        )
        _require(self.block_size >= 1 and self.threads >= 1, "block_size and threads must be at least 1")


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A full factorial study.

    Attributes:
        weights: where `imagenet` weights of an architecture come from: `hub`, `package:<module>` or
            `file:<path>`; architectures that are not named use `hub`.
    """

    name: str
    seed: int
    modalities: tuple[ModalitySpec, ...]
    models: tuple[ModelSpec, ...]
    transfer: TransferSpec
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [m.name for m in self.modalities]
        _require(len(set(names)) == len(names), f"modalities share a name: {names}")
        _require(len(set(self.models)) == len(self.models), "a model is declared twice")
        for model in self.models:
            _require(model.modality in names, unknown_name("modality", model.modality, names))
            if model.source is not None:
                _require(model.source in names, unknown_name("source modality", model.source, names))
                source = self.source_model(model)
                _require(
                    source is not None,
                    f"{model.modality}/{model.name} starts from a {model.arch} trained on {model.source}, "
                    "which the study does not train",
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

    def source_model(self, model: ModelSpec) -> ModelSpec | None:
        """Return the model whose weights `model` starts from: same architecture, source modality, lowest instance."""
        found = [m for m in self.models if m.modality == model.source and m.arch == model.arch]
        return min(found, key=lambda m: m.instance) if found else None

    def recipe_of(self, model: ModelSpec) -> Recipe:
        """Return the recipe that trains `model`."""
        modality = self.modality(model.modality)
        return modality.finetune if model.is_pretrained and modality.finetune is not None else modality.recipe

    def pairings(self, modality: str) -> list[tuple[ModelSpec, ModelSpec]]:
        """Return every ordered (surrogate, target) of a modality, white-box references included."""
        models = self.models_of(modality)
        return [(surrogate, target) for surrogate in models for target in models]

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain JSON values."""
        return cast(dict[str, Any], to_plain(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StudySpec":
        """Return the study that `to_dict` wrote. Raises SpecError for unknown or absent fields."""
        return from_plain(cls, values)


def attack_grid(epsilons: Sequence[float], *, alpha: float = 0.01, steps: int = 20) -> tuple[AttackSpec, ...]:
    """Return FGSM and PGD at every epsilon: the paper's attacks (PROTOCOL, Attacks)."""
    fgsm = [AttackSpec(name="fgsm", epsilon=e, alpha=e, steps=1) for e in epsilons]
    pgd = [AttackSpec(name="pgd", epsilon=e, alpha=alpha, steps=steps) for e in epsilons]
    return (*fgsm, *pgd)
