"""Measure how vulnerable medical image classifiers are to transferred adversarial attacks.

A study is declared as a `StudySpec`, run by `main` (the command line of an experiment file) or `run_study`, and read
with `open_study`:

    import raygrid as rg

    study = rg.open_study("studies/demo")
    study.results.auc()  # a pandas frame: one row per pairing, attack, epsilon and condition

Images are scaled to [-1, 1]; epsilon and alpha are in that unit. Names are imported when they are first used, so that
`import raygrid` takes a moment and loads neither PyTorch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raygrid._version import __version__ as __version__

if TYPE_CHECKING:  # for type checkers and editors; a test compares it with _HOME, which is used at run time
    from raygrid.attacks.plugins import run_class_attack as run_class_attack
    from raygrid.cli.experiment import main as main
    from raygrid.errors import RaygridError as RaygridError
    from raygrid.spec import PRETRAINED_ON as PRETRAINED_ON
    from raygrid.spec import AnswerSpec as AnswerSpec
    from raygrid.spec import AttackSpec as AttackSpec
    from raygrid.spec import DatasetSpec as DatasetSpec
    from raygrid.spec import EndpointSpec as EndpointSpec
    from raygrid.spec import EnsembleSpec as EnsembleSpec
    from raygrid.spec import InputSpec as InputSpec
    from raygrid.spec import Margins as Margins
    from raygrid.spec import ModalitySpec as ModalitySpec
    from raygrid.spec import ModelSpec as ModelSpec
    from raygrid.spec import Recipe as Recipe
    from raygrid.spec import SplitSpec as SplitSpec
    from raygrid.spec import StudySpec as StudySpec
    from raygrid.spec import TargetSpec as TargetSpec
    from raygrid.spec import TransferSpec as TransferSpec
    from raygrid.spec import attack as attack
    from raygrid.spec import attack_grid as attack_grid
    from raygrid.spec import model_grid as model_grid
    from raygrid.store.folder import StudyFolder as StudyFolder
    from raygrid.store.folder import open_study as open_study
    from raygrid.study.plan import plan_study as plan_study
    from raygrid.study.run import RunOptions as RunOptions
    from raygrid.study.run import run_study as run_study

_HOME = {
    "AnswerSpec": "raygrid.spec",
    "AttackSpec": "raygrid.spec",
    "DatasetSpec": "raygrid.spec",
    "EndpointSpec": "raygrid.spec",
    "EnsembleSpec": "raygrid.spec",
    "InputSpec": "raygrid.spec",
    "Margins": "raygrid.spec",
    "ModalitySpec": "raygrid.spec",
    "ModelSpec": "raygrid.spec",
    "PRETRAINED_ON": "raygrid.spec",
    "RaygridError": "raygrid.errors",
    "Recipe": "raygrid.spec",
    "RunOptions": "raygrid.study.run",
    "SplitSpec": "raygrid.spec",
    "StudyFolder": "raygrid.store.folder",
    "StudySpec": "raygrid.spec",
    "TargetSpec": "raygrid.spec",
    "TransferSpec": "raygrid.spec",
    "attack": "raygrid.spec",
    "attack_grid": "raygrid.spec",
    "main": "raygrid.cli.experiment",
    "model_grid": "raygrid.spec",
    "open_study": "raygrid.store.folder",
    "plan_study": "raygrid.study.plan",
    "run_class_attack": "raygrid.attacks.plugins",
    "run_study": "raygrid.study.run",
}
__all__ = sorted(["__version__", *_HOME])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'raygrid' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
