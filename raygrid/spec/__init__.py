"""The declaration of a study: its data, models, attacks, targets and margins, as frozen and validated values.

Every field that can change a result is declared here and enters a signature. Options that only decide where and how
fast the study runs (workers, GPUs, folders) are not part of it: see `raygrid.study.run.RunOptions`.
"""

from raygrid.spec.attacks import ATTACKS as ATTACKS
from raygrid.spec.attacks import MEASURES as MEASURES
from raygrid.spec.attacks import AttackSpec as AttackSpec
from raygrid.spec.attacks import Norm as Norm
from raygrid.spec.attacks import attack as attack
from raygrid.spec.attacks import attack_grid as attack_grid
from raygrid.spec.attacks import displayed as displayed
from raygrid.spec.attacks import plugins as plugins
from raygrid.spec.data import MAX_REJECTED_SHARE as MAX_REJECTED_SHARE
from raygrid.spec.data import SPLIT_FILES as SPLIT_FILES
from raygrid.spec.data import SPLITS as SPLITS
from raygrid.spec.data import DatasetSpec as DatasetSpec
from raygrid.spec.data import SplitSpec as SplitSpec
from raygrid.spec.margins import Margins as Margins
from raygrid.spec.models import AUGMENTATIONS as AUGMENTATIONS
from raygrid.spec.models import ENSEMBLE as ENSEMBLE
from raygrid.spec.models import MODEL as MODEL
from raygrid.spec.models import PRECISIONS as PRECISIONS
from raygrid.spec.models import PRETRAINED_ON as PRETRAINED_ON
from raygrid.spec.models import SCHEDULES as SCHEDULES
from raygrid.spec.models import WEIGHTS as WEIGHTS
from raygrid.spec.models import EnsembleSpec as EnsembleSpec
from raygrid.spec.models import ModalitySpec as ModalitySpec
from raygrid.spec.models import ModelSpec as ModelSpec
from raygrid.spec.models import Recipe as Recipe
from raygrid.spec.models import SurrogateKind as SurrogateKind
from raygrid.spec.models import init_label as init_label
from raygrid.spec.models import model_grid as model_grid
from raygrid.spec.study import AnyTarget as AnyTarget
from raygrid.spec.study import StudySpec as StudySpec
from raygrid.spec.study import SurrogateSpec as SurrogateSpec
from raygrid.spec.targets import EXTERNAL as EXTERNAL
from raygrid.spec.targets import AnswerSpec as AnswerSpec
from raygrid.spec.targets import EndpointSpec as EndpointSpec
from raygrid.spec.targets import InputSpec as InputSpec
from raygrid.spec.targets import TargetSpec as TargetSpec
from raygrid.spec.transfer import Case as Case
from raygrid.spec.transfer import Condition as Condition
from raygrid.spec.transfer import Shuffle as Shuffle
from raygrid.spec.transfer import TransferSpec as TransferSpec
