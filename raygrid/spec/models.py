"""The models of a study and how each is trained."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from raygrid.errors import unknown_name
from raygrid.spec._require import require
from raygrid.spec.data import SPLITS, DatasetSpec, SplitSpec
from raygrid.spec.serialization import ABSENT_BY_DEFAULT

AUGMENTATIONS = ("flip_horizontal", "flip_vertical", "rotate", "translate", "colour")
SCHEDULES = (
    "cosine",  # to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)
    "exponential",  # to a hundredth, the same factor at every step
    "constant",
)
PRECISIONS = (
    "float32",
    "tf32",  # float32 with products of 10-bit mantissas on NVIDIA's tensor cores; plain float32 on a CPU
    "bfloat16",  # autocast; weights and optimiser stay float32
)
PRETRAINED_ON = "pretrained_on:"
MODEL = "model"  # kinds of surrogates and targets in the AUC frame: one model of the study,
ENSEMBLE = "ensemble"  # several that are attacked through together,
WEIGHTS = "weights:"
SurrogateKind = Literal["model", "ensemble", "external"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained: Adam and binary cross-entropy on logits.

    Attributes:
        epochs: passes over the training part at most; the epoch of best validation AUC is kept.
        averaged_epochs: keep the mean of the weights after each of that many last epochs instead (Izmailov et al.
            2018, "Averaging Weights Leads to Wider Optima and Better Generalization"): a small validation part chooses
            an epoch by luck. 0 averages nothing.
        batch_size: images per step.
        learning_rate: at the first step.
        schedule: how the learning rate decays over `epochs`, name in `SCHEDULES`.
        patience: epochs without a higher validation AUC that end the training; 0 never ends it early.
        weight_decay: decoupled (AdamW); 0 is plain Adam.
        precision: of the forward and backward pass, name in `PRECISIONS`; weights, validation and everything after
            training are float32.
        balanced: draw each batch half from positives, half from negatives (single-label tasks).
        augmentations: names in `AUGMENTATIONS`, drawn per (seed, image, epoch).
        threads: CPU threads of one training; they change rounding, so they are part of the signature.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    patience: int = 0
    weight_decay: float = 0.0
    precision: str = "float32"
    balanced: bool = False
    augmentations: tuple[str, ...] = ()
    threads: int = 1
    averaged_epochs: int = field(default=0, metadata=ABSENT_BY_DEFAULT)

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"epochs is {self.epochs}; expected at least 1")
        require(self.batch_size >= 2, f"batch_size is {self.batch_size}; batch normalisation needs at least 2")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}; expected above 0")
        require(self.schedule in SCHEDULES, unknown_name("schedule", self.schedule, SCHEDULES))
        require(self.patience >= 0, f"patience is {self.patience}; expected 0 or more")
        require(
            0 <= self.averaged_epochs <= self.epochs,
            f"averaged_epochs is {self.averaged_epochs}; expected from 0 to the {self.epochs} epochs",
        )
        require(
            not (self.patience and self.averaged_epochs),
            "patience ends a training before the epochs that averaged_epochs names; set one of the two",
        )
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; expected 0 or more")
        require(self.precision in PRECISIONS, unknown_name("precision", self.precision, PRECISIONS))
        require(self.threads >= 1, f"threads is {self.threads}; expected at least 1")
        for name in self.augmentations:
            require(name in AUGMENTATIONS, unknown_name("augmentation", name, AUGMENTATIONS))


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
        require(bool(_NAME.fullmatch(self.name)), f"modality name {self.name!r} must match {_NAME.pattern}")


@dataclass(frozen=True, kw_only=True, order=True)
class ModelSpec:
    """One cell of the zoo.

    Attributes:
        arch: a timm architecture, with the tag of its ImageNet weights where one is meant (`densenet121.ra_in1k`).
        init: `random` (He), `imagenet`, `pretrained_on:<source modality>`, or `weights:<name>` for other weights;
            where `imagenet` and named weights come from, `StudySpec.weights` says.
        split: name in `SPLITS`.
        instance: 0, 1, ...: trainings that differ by their seed alone.
    """

    modality: str
    arch: str
    init: str
    split: str
    instance: int = 0
    surrogate_kind: ClassVar[SurrogateKind] = "model"

    def __post_init__(self) -> None:
        known = self.init in ("random", "imagenet") or self.init.startswith((PRETRAINED_ON, WEIGHTS))
        inits = ["random", "imagenet", f"{PRETRAINED_ON}<source>", f"{WEIGHTS}<name>"]
        require(known, unknown_name("init", self.init, inits))
        require(self.split in SPLITS, unknown_name("split", self.split, SPLITS))
        require(self.instance >= 0, f"instance is {self.instance}; expected 0 or more")

    @property
    def name(self) -> str:
        """Readable name, unique within the modality."""
        return f"{self.arch}-{self.init.replace(':', '-')}-{self.split}-{self.instance}"

    @property
    def surrogate_key(self) -> str:
        """What it is called among opened networks, where attacks go through it: its name, as where it is attacked."""
        return self.name

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
class EnsembleSpec:
    """Models of one modality that are attacked through as one, by their mean logits: a surrogate, never a target.

    Against a member it is a white-box reference, as a model against itself is.

    Attributes:
        label: tells it from other ensembles of its modality.
        members: names of at least two models of the study (`ModelSpec.name`).

    Source: Liu et al. 2017; averaged at the logits as in Dong et al. 2018.
    """

    modality: str
    label: str
    members: tuple[str, ...]
    surrogate_kind: ClassVar[SurrogateKind] = "ensemble"

    def __post_init__(self) -> None:
        require(bool(_NAME.fullmatch(self.label)), f"ensemble label {self.label!r} must match {_NAME.pattern}")
        require(
            len(set(self.members)) == len(self.members) >= 2,
            f"ensemble {self.label!r} has the members {list(self.members)}; expected two or more, each once",
        )

    @property
    def name(self) -> str:
        """Readable name, unique within the modality."""
        return f"{ENSEMBLE}-{self.label}"


def model_grid(
    modality: str, architectures: Iterable[str], variants: Iterable[tuple[str, str, int]]
) -> tuple[ModelSpec, ...]:
    """Return one model for each architecture and each (init, split, instance), architecture by architecture.

    The three values of a variant are those of `ModelSpec`:

    >>> models = model_grid("chest", ["resnet18", "densenet121"], [("random", "d1", 0), ("imagenet", "d2", 0)])
    >>> [model.name for model in models]  # doctest: +NORMALIZE_WHITESPACE
    ['resnet18-random-d1-0', 'resnet18-imagenet-d2-0', 'densenet121-random-d1-0', 'densenet121-imagenet-d2-0']

    Raises SpecError if architectures or variants are empty, one is given twice, a variant is not a triple, or a value
    is not valid for `ModelSpec`.
    """
    require(
        not isinstance(architectures, str),
        f"architectures is {architectures!r}; expected a list: use [{architectures!r}]",
    )
    archs, cells = list(architectures), list(variants)
    require(len(archs) > 0, "architectures is empty; name at least one")
    require(len(cells) > 0, "variants is empty; give at least one (init, split, instance)")
    for name, values in (("architecture", archs), ("variant", cells)):
        twice = next((value for k, value in enumerate(values) if value in values[:k]), None)
        require(twice is None, f"{name} {twice!r} is given twice; remove one")
    for cell in cells:
        require(
            isinstance(cell, (tuple, list)) and len(cell) == 3,
            f"variant {cell!r}: expected (init, split, instance), such as ('random', 'd1', 0)",
        )
    return tuple(
        ModelSpec(modality=modality, arch=arch, init=init, split=split, instance=instance)
        for arch in archs
        for init, split, instance in cells
    )


def init_label(init: str) -> str:
    """Return the words for an init: a model pre-trained on a phantom source is never called ImageNet."""
    if init.startswith(PRETRAINED_ON):
        return f"pre-trained on {init.removeprefix(PRETRAINED_ON).replace('_', ' ')}"
    if init.startswith(WEIGHTS):
        return f"pre-trained, {init.removeprefix(WEIGHTS)}"
    return {"imagenet": "ImageNet", "": "none (clean)", "mean": "mean of surrogates"}.get(init, init)
