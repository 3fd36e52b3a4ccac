"""Training of the zoo: every missing model is one Ray Tune trial with a share of a GPU or a CPU."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune

from raygrid.cluster import Resources
from raygrid.progress import Progress, tell
from raygrid.samples import Samples, samples_dir
from raygrid.spec import ModelSpec, StudySpec
from raygrid.zoo import Zoo

MAX_FAILURES = 1


def train_missing(zoo: Zoo, resources: Resources, provenance: dict[str, Any]) -> dict[str, str]:
    """Train every model that has no card yet; return the reason of each failure, by `<modality>/<name>`.

    Models that start from another model of the study wait for it: they are trained in a second wave.
    """
    failed: dict[str, str] = {}
    progress = Progress("train: models", len(zoo.study.models), done=len(zoo.study.models) - len(zoo.untrained()))
    while wave := [m for m in zoo.untrained() if _label(m) not in failed and _is_ready(zoo, m)]:
        failed |= _run_wave(zoo, wave, resources, provenance, progress)
    for model in zoo.untrained():
        failed.setdefault(_label(model), "the model that it starts from is not trained")
    return failed


def _is_ready(zoo: Zoo, model: ModelSpec) -> bool:
    source = zoo.study.source_model(model)
    return source is None or zoo.is_trained(source)


def _run_wave(
    zoo: Zoo, wave: Sequence[ModelSpec], resources: Resources, provenance: dict[str, Any], progress: Progress
) -> dict[str, str]:
    progress.note(f"{len(wave)} trials start, {resources.max_trials} at a time", always=True)
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
        param_space={"model": tune.grid_search([zoo.study.models.index(m) for m in wave])},
        tune_config=tune.TuneConfig(
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
    # an infeasible request ends without an error, so the zoo is asked, not the result grid
    return {
        _label(m): _last_line(errors.get(zoo.study.models.index(m), "the trial ended without a model"))
        for m in wave
        if not zoo.is_trained(m)
    }


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
