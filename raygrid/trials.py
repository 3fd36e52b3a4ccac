"""Training of the zoo: every missing model is one Ray Tune trial with a share of a GPU or a CPU."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from raygrid.cluster import Resources
from raygrid.progress import Progress, tell
from raygrid.samples import Samples, samples_dir
from raygrid.spec import ModelSpec, StudySpec
from raygrid.zoo import Zoo

MAX_FAILURES = 1


def train_missing(zoo: Zoo, resources: Resources, provenance: dict[str, Any]) -> dict[str, str]:
    """Train every model that has no card yet; return the reason of each failure, by `<modality>/<name>`."""
    missing = zoo.untrained()
    if not missing:
        return {}
    progress = Progress("train: models", len(zoo.study.models), done=len(zoo.study.models) - len(missing))
    progress.note(f"{len(missing)} trials, {resources.max_trials} at a time", always=True)
    job = {
        "study": zoo.study.to_dict(),
        "study_dir": str(zoo.study_dir),
        "samples": dict(zoo.samples),
        "device": resources.device,
        "provenance": provenance,
    }
    scratch = zoo.study_dir / "tune"
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_trial, job=job), {"cpu": resources.trial_cpus, "gpu": resources.trial_gpus}
        ),
        tune_config=tune.TuneConfig(
            search_alg=_SourcesFirst(zoo, missing),
            num_samples=len(missing),
            reuse_actors=True,  # a fresh actor per trial would import torch each time
            max_concurrent_trials=resources.max_trials,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[_Reporter(zoo, progress)],
        ),
    )
    results = tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)  # what resumes a study is the zoo, not Tune's record of it
    errors = {int(r.config["model"]): str(r.error) for r in results if r.error is not None and r.config is not None}
    return {_label(m): _reason(zoo, m, errors.get(zoo.study.models.index(m))) for m in zoo.untrained()}


def _reason(zoo: Zoo, model: ModelSpec, error: str | None) -> str:
    source = zoo.study.source_model(model)
    if source is not None and not zoo.is_trained(source):
        return f"{_label(source)}, which it starts from, is not trained"
    # an infeasible request ends without an error, so the zoo is asked, not the result grid
    return _last_line(error or "the trial ended without a model")


class _SourcesFirst(Searcher):  # type: ignore[misc]
    """Hands Tune the missing models in declared order; one that starts from another waits until that is trained."""

    def __init__(self, zoo: Zoo, missing: Sequence[ModelSpec]) -> None:
        super().__init__()
        self._zoo, self._waiting = zoo, list(missing)
        self._running: dict[str, ModelSpec] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next model, None to be asked again, or FINISHED."""
        for model in self._waiting:
            source = self._zoo.study.source_model(model)
            if source is None or self._zoo.is_trained(source):
                self._waiting.remove(model)
                self._running[trial_id] = model
                return {"model": self._zoo.study.models.index(model)}
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Forget the trial; whether it left a model is read from the zoo."""
        self._running.pop(trial_id, None)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept any: the models are declared, not searched for."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the zoo is the record of what is trained."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


def _trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """Train one model inside a Tune trial."""
    from raygrid.training import train

    study = StudySpec.from_dict(job["study"])
    zoo = Zoo(Path(job["study_dir"]), study, job["samples"])
    model = study.models[config["model"]]
    samples = Samples(samples_dir(zoo.study_dir, model.modality, zoo.samples[model.modality]))
    card = train(zoo, model, samples, device=job["device"], provenance=job["provenance"], on_epoch=tune.report)
    # a trial that was finished before it started has reported no epoch, and Tune wants one
    tune.report({"epoch": card["best_epoch"], "validation_auc": card["validation_auc"], "finished": True})


class _Reporter(tune.Callback):  # type: ignore[misc]
    """Turns Tune's events into progress lines."""

    def __init__(self, zoo: Zoo, progress: Progress) -> None:
        self._zoo, self._progress = zoo, progress

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        model = self._zoo.study.models[result["config"]["model"]]
        if not result.get("finished"):
            epochs = self._zoo.study.recipe_of(model).epochs
            self._progress.note(f"{_label(model)} epoch {result['epoch']}/{epochs}, AUC {result['validation_auc']:.3f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        model = self._zoo.study.models[trial.config["model"]]
        best = trial.last_result.get("validation_auc")
        self._progress.advance(
            f"{_label(model)} done" + (f", best validation AUC {best:.3f}" if best is not None else "")
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tell(f"train: {_label(self._zoo.study.models[trial.config['model']])} failed")


def _label(model: ModelSpec) -> str:
    return f"{model.modality}/{model.name}"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else text
