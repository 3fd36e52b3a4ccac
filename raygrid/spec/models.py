"""The models of a study and their training."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from raygrid.errors import unknown_name
from raygrid.spec._require import require, sequence, text
from raygrid.spec.data import SPLITS, DatasetSpec, SplitSpec
from raygrid.spec.serialization import ABSENT_BY_DEFAULT

AUGMENTATIONS = ("flip_horizontal", "flip_vertical", "rotate", "translate", "colour")
SCHEDULES = (
    "cosine",  # falls to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)
    "exponential",  # falls to a hundredth, by the same factor at every step
    "constant",
)
PRECISIONS = (
    "float32",
    "tf32",  # float32 with products of 10-bit mantissas on NVIDIA's tensor cores; plain float32 on a CPU
    "bfloat16",  # autocast; weights and optimiser stay float32
)
PRETRAINED_ON = "pretrained_on:"  # an init is this and the name of a source modality
WEIGHTS = "weights:"  # an init is this and a name in `StudySpec.weights`
MODEL = "model"  # kind of surrogate and target: a model of the study
ENSEMBLE = "ensemble"  # kind of surrogate: several models together
SurrogateKind = Literal["model", "ensemble", "external"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training of a model with Adam and binary cross-entropy on logits.

    All fields are part of the signature of the model. Example:

        Recipe(epochs=30, learning_rate=5e-4, augmentations=("flip_horizontal", "translate"))

    Attributes:
        epochs: largest number of passes over the training part, at least 1. The epoch of the best validation AUC is
            kept.
        batch_size: images per step, at least 2.
        learning_rate: learning rate of the first step, above 0.
        schedule: decay of the learning rate over `epochs`: `cosine` (to 0), `exponential` (to a hundredth) or
            `constant`.
        patience: number of epochs without a higher validation AUC that end the training; 0 never ends it early.
        weight_decay: decoupled weight decay (AdamW), at least 0; 0 is plain Adam.
        precision: precision of the forward and backward pass: `float32`, `tf32` or `bfloat16`. Weights, validation
            and everything after the training are float32.
        balanced: make each batch half positives and half negatives; for tasks with one label.
        augmentations: names in `AUGMENTATIONS`: `flip_horizontal`, `flip_vertical`, `rotate`, `translate`, `colour`.
            They are drawn per seed, image and epoch.
        threads: CPU threads of one training, at least 1. They change rounding, so they are part of the signature.
        averaged_epochs: keep the mean of the weights after each of the last `averaged_epochs` epochs, instead of the
            best epoch: with a small validation part the best epoch is a matter of luck (Izmailov et al. 2018,
            "Averaging Weights Leads to Wider Optima and Better Generalization"). 0 averages nothing; not together with
            `patience`.

    Raises SpecError if a name is unknown, with near misses, or a value is not allowed.
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
        require(self.batch_size >= 2, f"batch_size is {self.batch_size}; expected at least 2, for batch normalisation")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}; expected above 0")
        require(self.schedule in SCHEDULES, unknown_name("schedule", self.schedule, SCHEDULES))
        require(self.patience >= 0, f"patience is {self.patience}; expected 0 or more")
        require(
            0 <= self.averaged_epochs <= self.epochs,
            f"averaged_epochs is {self.averaged_epochs}; expected 0 to {self.epochs}, the number of epochs",
        )
        require(
            not (self.patience and self.averaged_epochs),
            "patience could end a training before the last averaged_epochs; set only one of the two",
        )
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}; expected 0 or more")
        require(self.precision in PRECISIONS, unknown_name("precision", self.precision, PRECISIONS))
        require(self.threads >= 1, f"threads is {self.threads}; expected at least 1")
        for name in self.augmentations:
            require(name in AUGMENTATIONS, unknown_name("augmentation", name, AUGMENTATIONS))


@dataclass(frozen=True, kw_only=True)
class ModalitySpec:
    """One medical domain: its images, the division of its patients and the training of its models.

    Attributes:
        name: unique within the study; lower-case letters, digits and underscores, starting with a letter.
        dataset: the images.
        splits: the division of the patients.
        recipe: the training of models that start at random weights.
        finetune: the training of models that start at other weights; None uses `recipe`.
        source: True for a task used only for pre-training. Its models are trained and never attacked.

    Raises SpecError if the name is not valid.
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
    """One model of the zoo. `model_grid` declares many at once.

        ModelSpec(modality="clinic", arch="resnet18", init="random", split="d1")

    Attributes:
        modality: name of a modality of the study.
        arch: name of a timm architecture, optionally with the tag of its ImageNet weights (`densenet121.ra_in1k`).
        init: initial weights: `random` (He), `imagenet`, `pretrained_on:<source modality>`, or `weights:<name>` for
            named weights. `StudySpec.weights` gives the sources of `imagenet` and named weights.
        split: the patients of its training: `d1`, `d2`, `d2_half`, `d1_tenth` or `development` (d1 and d2).
        instance: 0, 1, ...; trainings that differ only by their seed.
        surrogate_kind: "model", for the columns `surrogate_kind` and `target_kind` of results.

    Raises SpecError if the init or the split is unknown, with near misses, or the instance is negative.
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
        """Readable name, unique within the modality, such as `resnet18-random-d1-0`."""
        return f"{self.arch}-{self.init.replace(':', '-')}-{self.split}-{self.instance}"

    @property
    def surrogate_key(self) -> str:
        """Key of the network when it is a surrogate: its name, so that surrogate and target share one network."""
        return self.name

    @property
    def source(self) -> str | None:
        """The source modality on which this model is pre-trained; None without one."""
        return self.init.removeprefix(PRETRAINED_ON) if self.init.startswith(PRETRAINED_ON) else None

    @property
    def is_pretrained(self) -> bool:
        """Whether the model starts at pre-trained weights."""
        return self.init != "random"

    @property
    def family(self) -> tuple[str, str, str, str]:
        """Modality, architecture, init and split: equal for this model and its retrained twins."""
        return (self.modality, self.arch, self.init, self.split)


@dataclass(frozen=True, kw_only=True, order=True)
class EnsembleSpec:
    """Models of one modality that form one surrogate by the mean of their logits.

    An ensemble is never a target. Against one of its members it is a white-box reference. Example:

        pair = model_grid("clinic", ["resnet18", "densenet121"], [("random", "d2", 0)])
        EnsembleSpec(modality="clinic", label="d2", members=tuple(model.name for model in pair))

    Attributes:
        modality: name of a modality of the study.
        label: unique within the modality; lower-case letters, digits and underscores, starting with a letter.
        members: names (`ModelSpec.name`) of two or more models of the study.
        surrogate_kind: "ensemble", for the column `surrogate_kind` of results.

    Raises SpecError if the label is not valid, a value is of another type, or there are fewer than two different
    members.

    Source: Liu et al. 2017; mean of the logits as in Dong et al. 2018.
    """

    modality: str
    label: str
    members: tuple[str, ...]
    surrogate_kind: ClassVar[SurrogateKind] = "ensemble"

    def __post_init__(self) -> None:
        label = text("label of an ensemble", self.label)
        require(bool(_NAME.fullmatch(label)), f"ensemble label {label!r} must match {_NAME.pattern}")
        members = sequence(f"members of ensemble {label!r}", self.members, "names of models")
        object.__setattr__(self, "members", tuple(text(f"a member of ensemble {label!r}", m) for m in members))
        require(
            len(set(self.members)) == len(self.members) >= 2,
            f"ensemble {self.label!r} has the members {list(self.members)}; expected two or more different ones",
        )

    @property
    def name(self) -> str:
        """Readable name, unique within the modality."""
        return f"{ENSEMBLE}-{self.label}"


def model_grid(
    modality: str, architectures: Iterable[str], variants: Iterable[tuple[str, str, int]]
) -> tuple[ModelSpec, ...]:
    """Return one model for each architecture and variant, architecture by architecture.

    >>> models = model_grid("chest", ["resnet18", "densenet121"], [("random", "d1", 0), ("imagenet", "d2", 0)])
    >>> [model.name for model in models]  # doctest: +NORMALIZE_WHITESPACE
    ['resnet18-random-d1-0', 'resnet18-imagenet-d2-0', 'densenet121-random-d1-0', 'densenet121-imagenet-d2-0']

    Args:
        modality: name of a modality of the study.
        architectures: `ModelSpec.arch` of the models.
        variants: `ModelSpec.init`, `split` and `instance` of the models of each architecture.

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
    """Return the words for an init in tables and figures, such as "ImageNet" or "pre-trained on textures"."""
    if init.startswith(PRETRAINED_ON):
        return f"pre-trained on {init.removeprefix(PRETRAINED_ON).replace('_', ' ')}"
    if init.startswith(WEIGHTS):
        return f"pre-trained, {init.removeprefix(WEIGHTS)}"
    return {"imagenet": "ImageNet", "": "none (clean)", "mean": "mean of surrogates"}.get(init, init)
