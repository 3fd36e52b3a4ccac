"""The contract: a study as frozen, validated values; its models and pairings.

Everything a result depends on stands here and enters a signature; what only decides where and how fast
it is computed (workers, GPUs, folders) does not.
"""

from raygrid.spec.attacks import (
    ATTACKS,
    MEASURES,
    AttackSpec,
    Case,
    Condition,
    Norm,
    Shuffle,
    TransferSpec,
    attack,
    attack_grid,
    plugins,
)
from raygrid.spec.data import MAX_REJECTED_SHARE, SPLIT_FILES, SPLITS, DatasetSpec, SplitSpec
from raygrid.spec.margins import Margins
from raygrid.spec.models import (
    AUGMENTATIONS,
    ENSEMBLE,
    PRECISIONS,
    PRETRAINED_ON,
    SCHEDULES,
    WEIGHTS,
    EnsembleSpec,
    ModalitySpec,
    ModelSpec,
    Recipe,
    init_label,
)
from raygrid.spec.study import AnyTarget, StudySpec, SurrogateSpec
from raygrid.spec.targets import EXTERNAL, AnswerSpec, EndpointSpec, InputSpec, TargetSpec

__all__ = [
    "ATTACKS",
    "AUGMENTATIONS",
    "ENSEMBLE",
    "EXTERNAL",
    "MAX_REJECTED_SHARE",
    "MEASURES",
    "PRECISIONS",
    "PRETRAINED_ON",
    "SCHEDULES",
    "SPLITS",
    "SPLIT_FILES",
    "WEIGHTS",
    "AnswerSpec",
    "AnyTarget",
    "AttackSpec",
    "Case",
    "Condition",
    "DatasetSpec",
    "EndpointSpec",
    "EnsembleSpec",
    "InputSpec",
    "Margins",
    "ModalitySpec",
    "ModelSpec",
    "Norm",
    "Recipe",
    "Shuffle",
    "SplitSpec",
    "StudySpec",
    "SurrogateSpec",
    "TargetSpec",
    "TransferSpec",
    "attack",
    "attack_grid",
    "init_label",
    "plugins",
]
