"""The train stage: each missing model is one Ray Tune trial with a share of a GPU, or CPUs."""

import shutil
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from raygrid.errors import ClusterError, RaygridError, in_one_line, one_line
from raygrid.io.files import write_text
from raygrid.io.mirror import from_portable, pull, to_portable
from raygrid.progress import Progress, tell
from raygrid.spec import ModelSpec, StudySpec
from raygrid.store.folder import WEIGHT_FILES, StudyFolder
from raygrid.store.samples import TEST_FILES, Samples
from raygrid.study.cluster import Resources

MOST_PER_GPU = 16
MAX_DEATHS = 8  # workers that a trial may lose (lost nodes, spot instances) before it counts as failed


@dataclass(frozen=True)
class Request:
    """A model to train, and the resources of its trial."""

    model: ModelSpec
    cpus: int
    gpus: float


def train_missing(
    folder: StudyFolder, resources: Resources, provenance: dict[str, Any], trials_per_gpu: int | None = None
) -> dict[str, str]:
    """Train every model without a card; return the reason of each failure, by `<modality>/<name>`.

    Args:
        trials_per_gpu: trials per GPU; None derives the number from an estimate of their memory.

    Raises ClusterError if a trial needs more than the largest node has.
    """
    missing = folder.untrained()
    if not missing:
        return {}
    requests = [request_of(folder, model, resources, trials_per_gpu) for model in missing]
    progress = Progress("train: models", len(folder.study.models), done=len(folder.study.models) - len(missing))
    progress.note(f"{len(missing)} trials{_gpu_shares(requests)}", always=True)
    job = {
        "study": folder.study.to_dict(),
        "study_dir": to_portable(folder.path),
        "samples": dict(folder.sample_signatures),
        "device": resources.device,
        "provenance": provenance,
    }
    scratch = folder.path / "tune"
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, job=job), _bundle),
        tune_config=tune.TuneConfig(
            search_alg=SourcesFirst(folder, requests),
            num_samples=-1,  # until the searcher has no more models
            reuse_actors=True,  # a fresh actor per trial would import torch each time
            max_concurrent_trials=max_concurrent_trials(requests, resources),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
            callbacks=[_Reporter(folder, progress)],
        ),
    )
    results = tuner.fit()
    pull(folder.path / "zoo", without=WEIGHT_FILES)
    shutil.rmtree(scratch, ignore_errors=True)  # a study resumes from its zoo, not from Tune's record
    reasons = _reasons(results)
    return {_label(m): _reason(folder, m, reasons.get(folder.study.models.index(m))) for m in folder.untrained()}


def request_of(folder: StudyFolder, model: ModelSpec, resources: Resources, trials_per_gpu: int | None) -> Request:
    """Return the resources of a model's trial: one CPU per thread, and the share of a GPU that it fits into.

    Raises ClusterError if no node has as many CPUs as the recipe has threads.
    """
    recipe = folder.study.recipe_of(model)
    if recipe.threads > resources.node_cpus:
        raise ClusterError(
            f"{_label(model)}: expected a node with {recipe.threads} CPUs, one per thread of its recipe, the largest "
            f"node has {resources.node_cpus:g}; lower `threads` in the recipe, or use larger nodes"
        )
    if resources.device == "cpu":
        return Request(model, recipe.threads, 0.0)
    if trials_per_gpu is None:
        from raygrid.models.memory import training_bytes

        samples = folder.samples(model.modality)
        dataset = folder.study.modality(model.modality).dataset
        try:
            needed = training_bytes(model.arch, dataset, recipe, num_outputs=len(samples.labels))
        except (RuntimeError, NotImplementedError):  # the network cannot run: its trial reports why
            needed = resources.gpu_bytes
        trials_per_gpu = max(1, min(MOST_PER_GPU, resources.gpu_bytes // needed))
    return Request(model, recipe.threads, 1 / trials_per_gpu)


def _bundle(config: dict[str, Any]) -> Any:
    return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])


def max_concurrent_trials(requests: Sequence[Request], resources: Resources) -> int:
    """Return the number of trials that may run or wait: as many as fit, or all if nodes may join."""
    if resources.may_grow or resources.device == "cuda":
        return len(requests)
    return max(1, int(resources.cpus // min(r.cpus for r in requests)))


def _gpu_shares(requests: Sequence[Request]) -> str:
    counts = Counter(round(1 / r.gpus) for r in requests if r.gpus)
    shared = ", ".join(f"{number} with 1/{share} of a GPU each" for share, number in sorted(counts.items()))
    return f": {shared}" if shared else ""


def _reasons(results: Iterable[Any]) -> dict[int, str]:
    """Return Tune's last error for each model, by the model's position in the study."""
    reasons: dict[int, str] = {}
    for result in results:
        if result.config is not None:
            said = (result.metrics or {}).get("failed")
            reasons[int(result.config["model"])] = str(result.error) if result.error is not None else str(said or "")
    return reasons


def _reason(folder: StudyFolder, model: ModelSpec, error: str | None) -> str:
    source = folder.study.source_model(model)
    if source is not None and not folder.model(source).is_trained:
        return f"its source model {_label(source)} is not trained"
    # an infeasible request ends without an error, so the zoo decides, not the result grid
    return _last_line(error or "the trial ended without a model")


class SourcesFirst(Searcher):  # type: ignore[misc]
    """Gives Tune the missing models in declared order; a model that starts from another waits until that is trained.

    A trial that ran out of its share of GPU memory runs again with twice the share. Its batch size stays: with batch
    normalisation another size gives another model.
    """

    def __init__(self, folder: StudyFolder, requests: Sequence[Request]) -> None:
        super().__init__()
        self._folder, self._waiting = folder, list(requests)
        self._running: dict[str, Request] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, None while the next one has to wait, or FINISHED."""
        for request in self._waiting:
            source = self._folder.study.source_model(request.model)
            if source is None or self._folder.model(source).is_trained:
                self._waiting.remove(request)
                self._running[trial_id] = request
                index = self._folder.study.models.index(request.model)
                return {"model": index, "cpus": request.cpus, "gpus": request.gpus}
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Forget the trial, or queue it again with a larger share. The zoo shows whether it left a model."""
        request = self._running.pop(trial_id, None)
        if request is not None:
            pull(self._folder.model(request.model).path, without=WEIGHT_FILES)  # it may have run on another node
        if request is not None and (result or {}).get("out_of_memory") and request.gpus < 1:
            larger = min(1.0, 2 * request.gpus)
            tell(f"train: {_label(request.model)} ran out of memory on {request.gpus:g} of a GPU; trying {larger:g}")
            self._waiting.insert(0, replace(request, gpus=larger))

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept any properties: the models are declared, not searched for."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the zoo is the record of trained models."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


def run_trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """Train one model inside a Tune trial; an error that a retry cannot fix is reported, not raised."""
    from raygrid.models.training import train

    study = StudySpec.from_dict(job["study"])
    folder = StudyFolder(from_portable(job["study_dir"]), study, job["samples"])
    model = study.models[config["model"]]
    if config["gpus"]:
        _cap_memory(config["gpus"])
    try:
        samples = _pull_for(folder, model)
        card = train(folder, model, samples, device=job["device"], provenance=job["provenance"], on_epoch=tune.report)
    except RaygridError as error:
        tune.report({"failed": str(error)})
    except Exception as error:  # a retry would end in the same error; only the death of a worker is worth one
        if is_out_of_memory(error):
            # one line, because only the last line of a reason is shown
            said = f"out of memory with {config['gpus']:g} of a GPU: {in_one_line(error)}"
            tune.report({"out_of_memory": True, "failed": said})
            return
        trace = folder.model(model).failure_path
        write_text(trace, traceback.format_exc())
        tune.report({"failed": one_line(f"{type(error).__name__}: {error} (traceback in {trace})")})
    else:
        # a trial of a finished model reports no epoch, and Tune needs one report
        tune.report({"epoch": card["best_epoch"], "validation_auc": card["validation_auc"], "finished": True})


def _pull_for(folder: StudyFolder, model: ModelSpec) -> Samples:
    """Fetch the inputs of a training to this node: images, resume state, source model."""
    pull(folder.samples_dir(model.modality), without=TEST_FILES)
    pull(folder.model(model).path)
    source = folder.study.source_model(model)
    if source is not None:
        pull(folder.model(source).path)
    return folder.samples(model.modality)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU ran out of memory, in the words of PyTorch or of the libraries below it."""
    return "out of memory" in str(error).lower() or "ALLOC_FAILED" in str(error)


def _cap_memory(share: float) -> None:
    """Limit this process to its share of the GPU memory, to protect the other trials on the GPU."""
    import torch

    from raygrid.models.memory import CONTEXT_BYTES

    torch.cuda.empty_cache()  # left by the previous trial of this process
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(max(0.01, share - CONTEXT_BYTES / total))


class _Reporter(tune.Callback):  # type: ignore[misc]
    """Turns Tune's events into progress lines."""

    def __init__(self, folder: StudyFolder, progress: Progress) -> None:
        self._folder, self._progress = folder, progress

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        model = self._folder.study.models[result["config"]["model"]]
        if "epoch" in result and not result.get("finished"):
            epochs = self._folder.study.recipe_of(model).epochs
            what = f"{_label(model)} epoch {result['epoch']}/{epochs}, AUC {result['validation_auc']:.3f}"
            self._progress.note(f"{what}{self._running(trials)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        model, last = self._folder.study.models[trial.config["model"]], trial.last_result
        if last.get("finished"):
            best = f"best validation AUC {last['validation_auc']:.3f}"
            self._progress.advance(f"{_label(model)} done, {best}{self._running(trials)}")
        elif not last.get("out_of_memory"):
            tell(f"train: {_label(model)} failed; the other trainings continue")

    def _running(self, trials: list[Any]) -> str:
        running = sum(trial.status == "RUNNING" for trial in trials)
        waiting = self._progress.total - self._progress.done - running
        return f"  ({running} running, {max(0, waiting)} waiting)"

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tell(f"train: {_label(self._folder.study.models[trial.config['model']])} failed; the other trainings continue")


def _label(model: ModelSpec) -> str:
    return f"{model.modality}/{model.name}"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else text
