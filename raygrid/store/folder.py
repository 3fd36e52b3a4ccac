"""A study folder: the declaration of a study, and the path of every file under STUDY/.

STUDY/study.json                                        raygrid.store.provenance
STUDY/samples/<modality>-<signature>/                   raygrid.store.samples
STUDY/zoo/<modality>/<readable name>-<signature>/
    model.safetensors   weights of the best epoch
    history.json        one entry per epoch
    resume.pt           state of an unfinished training
    failure.txt         error of the last training, unless raygrid raised it
    card.json           written last: the model, its data and recipe, its validation AUC
STUDY/scores/, STUDY/perceptibility/                    raygrid.store.units, raygrid.store.scores
STUDY/answers/<modality>/<target>/                      raygrid.store.answers
STUDY/results/                                          raygrid.store.results
STUDY/log.jsonl                                         raygrid.store.log
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from raygrid.errors import StoreError
from raygrid.hashing import digest
from raygrid.io.files import read_json
from raygrid.io.mirror import display_path, local_dir, pull
from raygrid.spec import AnyTarget, ModelSpec, StudySpec, SurrogateSpec, TargetSpec, displayed
from raygrid.store.log import LOG_FILE
from raygrid.store.provenance import RECORD_FILE, StudyRecord, read_declaration, read_record
from raygrid.store.results import Results
from raygrid.store.samples import IMAGE_FILES, Samples, samples_dir
from raygrid.store.signatures import model_signature
from raygrid.store.target_identity import target_identity
from raygrid.store.units import Unit, plan_units
from raygrid.store.weight_sources import weights_identity

WEIGHT_FILES = ("*.safetensors", "*.pt")  # files of weights, most of the bytes of a model folder


@dataclass(frozen=True)
class ModelFolder:
    """The folder of one model, trained or not."""

    path: Path

    @property
    def is_trained(self) -> bool:
        """Whether the training is finished."""
        return self.card_path.exists()

    @property
    def card(self) -> dict[str, Any]:
        """The model card. Raises StoreError if the model is not trained."""
        card: dict[str, Any] = read_json(self.card_path)
        return card

    @property
    def history(self) -> list[dict[str, float]]:
        """One entry per trained epoch: epoch, loss, validation_auc, validation_loss, learning_rate, seconds."""
        history: list[dict[str, float]] = read_json(self.history_path)
        return history

    @property
    def card_path(self) -> Path:
        """File of the model card."""
        return self.path / "card.json"

    @property
    def history_path(self) -> Path:
        """File of the training history."""
        return self.path / "history.json"

    @property
    def weights_path(self) -> Path:
        """File of the weights of the best epoch."""
        return self.path / "model.safetensors"

    @property
    def resume_path(self) -> Path:
        """File of the state of an unfinished training."""
        return self.path / "resume.pt"

    @property
    def failure_path(self) -> Path:
        """File with the error of the last training."""
        return self.path / "failure.txt"


@dataclass(frozen=True)
class StudyFolder:
    """A study and everything under its folder. Nothing here computes, trains or attacks.

    Attributes:
        path: the folder; for a study in object storage, this node's mirror.
        study: the declaration.
        sample_signatures: signature of the prepared samples, by modality.
    """

    path: Path
    study: StudySpec
    sample_signatures: Mapping[str, str]
    _signatures: dict[ModelSpec, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _opened: dict[str, Samples] = field(default_factory=dict, init=False, repr=False, compare=False)
    _planned: dict[Any, list[Unit]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def samples_dir(self, modality: str) -> Path:
        """Return the folder of the prepared images of a modality, prepared or not."""
        return samples_dir(self.path, modality, self.sample_signatures[modality])

    def has_samples(self, modality: str) -> bool:
        """Whether the images of a modality are prepared."""
        return (self.samples_dir(modality) / "manifest.json").exists()

    def samples(self, modality: str) -> Samples:
        """Return the prepared images of a modality. Raises StoreError if they are not prepared."""
        if modality not in self._opened or not self.has_samples(modality):
            self._opened[modality] = Samples(self.samples_dir(modality))
        return self._opened[modality]

    def model(self, model: ModelSpec) -> ModelFolder:
        """Return the folder of a model, trained or not."""
        return ModelFolder(self.path / "zoo" / model.modality / f"{model.name}-{self.signature(model)[:12]}")

    def untrained(self) -> list[ModelSpec]:
        """Return the models whose training is not finished, in declared order."""
        return [model for model in self.study.models if not self.model(model).is_trained]

    def signature(self, model: ModelSpec) -> str:
        """Return the signature of a model, trained or not."""
        if model not in self._signatures:
            samples, start = self.sample_signatures[model.modality], self._start(model)
            self._signatures[model] = model_signature(self.study, model, samples=samples, start=start)
        return self._signatures[model]

    def surrogate_signature(self, surrogate: SurrogateSpec) -> str:
        """Return the signature of a model or ensemble, or the identity of an external target."""
        if isinstance(surrogate, TargetSpec):
            return self.identity(surrogate)
        members = [self.signature(m) for m in self.study.members_of(surrogate) if isinstance(m, ModelSpec)]
        return members[0] if isinstance(surrogate, ModelSpec) else digest({"mean logits of": members})

    def identity(self, target: AnyTarget) -> str:
        """Return the identity of a target, a part of score signatures.

        For a model, it is the signature and, once trained, the checksum of the weights: training again on another
        device may give other weights, and the old scores are not theirs. For a target that raygrid did not train, it is
        a hash of the declaration and the files.
        """
        if isinstance(target, TargetSpec):
            return target_identity(target)
        trained = self.model(target)
        weights = trained.card["weights_sha256"] if trained.is_trained else "untrained"
        return f"{self.signature(target)}-{weights}"

    def units(self, modality: str) -> list[Unit]:
        """Return the units of work of a modality, finished or not: clean images first, then surrogate by surrogate.

        Raises StoreError if the images are not prepared.
        """
        num_test = self.samples(modality).num_test
        known: tuple[AnyTarget, ...] = (
            *self.study.models_of(modality),
            *self.study.external_targets(modality),
        )
        identities = {target: self.identity(target) for target in known}
        key = (modality, num_test, tuple(identities.values()))  # identities change when a model is trained
        if key not in self._planned:
            self._planned[key] = plan_units(
                self.study,
                modality,
                num_test=num_test,
                identities=identities,
                samples_signature=self.sample_signatures[modality],
                scores_dir=self.path / "scores",
            )
        return list(self._planned[key])

    def answers(self, target: TargetSpec) -> Path:
        """Return the folder of the stored answers of an HTTP target."""
        return self.path / "answers" / target.modality / target.name

    @property
    def results(self) -> Results:
        """The results of the study."""
        return Results(self.path / "results")

    @property
    def record(self) -> StudyRecord:
        """The origin of images and results, from study.json. Raises StoreError if the file is absent."""
        return read_record(self.path)

    @property
    def log_path(self) -> Path:
        """File of the events of all runs."""
        return self.path / LOG_FILE

    def refresh(self) -> None:
        """Update this node's mirror of the study from object storage, except for images and weights."""
        refresh(self.path)
        self._opened.clear()  # another machine may have prepared the images again

    def _start(self, model: ModelSpec) -> str:
        """Return the identity of a model's initial weights, a part of its signature."""
        weights = self.study.weights_of(model)
        if weights is not None:
            return weights_identity(model.arch, weights)
        source = self.study.source_model(model)
        return "random" if source is None else self.signature(source)

    def _repr_html_(self) -> str:
        """Return the state of the study as an HTML table, for notebooks."""
        trained = len(self.study.models) - len(self.untrained())
        rows = {
            "Study": self.study.name,
            "Folder": display_path(self.path),
            "Modalities": ", ".join(m.name for m in self.study.studied),
            "Models": f"{trained} of {len(self.study.models)} trained",
            "Attacks": ", ".join(dict.fromkeys(displayed(a.name) for a in self.study.transfer.attacks)),
            "Results": "results/report.html" if self.results.has("auc") else "none yet",
        }
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table>{cells}</table>"


def open_study(location: str | Path) -> StudyFolder:
    """Return the study in a folder or at a URL. Raises StoreError if there is none."""
    path = local_dir(location)
    refresh(path)
    if not (path / RECORD_FILE).exists():
        raise StoreError(
            f"{display_path(path)} holds no study: {display_path(path / RECORD_FILE)} does not exist; "
            "give the folder or URL of a study, its --output"
        )
    return StudyFolder(path, *read_declaration(path))


def refresh(study_dir: Path) -> None:
    """Update this node's mirror of a study from object storage, except for images and weights."""
    pull(study_dir / RECORD_FILE)
    pull(study_dir / "samples", without=IMAGE_FILES)
    pull(study_dir / "zoo", without=WEIGHT_FILES)
    for part in ("scores", "perceptibility", "answers", "results"):
        pull(study_dir / part)
