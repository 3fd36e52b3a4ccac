"""Training of the zoo: every missing model is one Ray Tune trial with a share of a GPU or a CPU."""

import shutil
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from raygrid.errors import ClusterError, RaygridError
from raygrid.io.files import write_text
from raygrid.io.mirror import from_portable, pull, to_portable
from raygrid.progress import Progress, tell
from raygrid.spec import ModelSpec, StudySpec
from raygrid.store.folder import WEIGHT_FILES, StudyFolder
from raygrid.store.samples import TEST_FILES, Samples
from raygrid.study.cluster import Resources

MOST_PER_GPU = 16
MAX_DEATHS = 8  # of a trial's workers (lost nodes, spot instances) before it counts as failed


@dataclass(frozen=True)
class Request:
    """A model to be trained, and the resources that its trial asks for."""

    model: ModelSpec
    cpus: int
    gpus: float


def train_missing(
    folder: StudyFolder, resources: Resources, provenance: dict[str, Any], trials_per_gpu: int | None = None
) -> dict[str, str]:
    """Train every model that has no card yet; return the reason of each failure, by `<modality>/<name>`.

    Args:
        trials_per_gpu: trials that share a GPU; None packs by the memory that each is estimated to need.

    Raises ClusterError if a trial asks for more than the cluster could ever give.
    """
    missing = folder.untrained()
    if not missing:
        return {}
    requests = [request_of(folder, model, resources, trials_per_gpu) for model in missing]
    progress = Progress("train: models", len(folder.study.models), done=len(folder.study.models) - len(missing))
    progress.note(f"{len(missing)} trials{_packing(requests)}", always=True)
    job = {
        "study": folder.study.to_dict(),
        "study_dir": to_portable(folder.path),
        "samples": dict(folder.sample_signatures),
        "device": resources.device,
        "provenance": provenance,
    }
    scratch = folder.path / "tune"
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, job=job), _bundle),
        tune_config=tune.TuneConfig(
            search_alg=SourcesFirst(folder, requests),
            num_samples=-1,  # until the searcher has no more
            reuse_actors=True,  # a fresh actor per trial would import torch each time
            max_concurrent_trials=_most_at_once(requests, resources),
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
    shutil.rmtree(scratch, ignore_errors=True)  # what resumes a study is the zoo, not Tune's record of it
    reasons = _reasons(results)
    return {_label(m): _reason(folder, m, reasons.get(folder.study.models.index(m))) for m in folder.untrained()}


def request_of(folder: StudyFolder, model: ModelSpec, resources: Resources, trials_per_gpu: int | None) -> Request:
    """Return what the trial of a model asks for: a CPU per thread, and the share of a GPU that it fits into.

    Raises ClusterError if no node has so many CPUs.
    """
    recipe = folder.study.recipe_of(model)
    if recipe.threads > resources.node_cpus:
        raise ClusterError(
            f"{_label(model)} trains with {recipe.threads} threads, and the largest node has {resources.node_cpus:g} "
            "CPUs; lower `threads` in its recipe, or use larger nodes"
        )
    if resources.device == "cpu":
        return Request(model, recipe.threads, 0.0)
    if trials_per_gpu is None:
        from raygrid.models.memory import training_bytes

        samples = folder.samples(model.modality)
        dataset = folder.study.modality(model.modality).dataset
        try:
            needed = training_bytes(model.arch, dataset, recipe, num_outputs=len(samples.labels))
        except (RuntimeError, NotImplementedError):  # a network that cannot run: its trial will say why
            needed = resources.gpu_bytes
        trials_per_gpu = max(1, min(MOST_PER_GPU, resources.gpu_bytes // needed))
    return Request(model, recipe.threads, 1 / trials_per_gpu)


def _bundle(config: dict[str, Any]) -> Any:
    return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])


def _most_at_once(requests: Sequence[Request], resources: Resources) -> int:
    """Return how many trials may run or wait for a place: as many as fit, or all if nodes may join."""
    if resources.may_grow or resources.device == "cuda":
        return len(requests)
    return max(1, int(resources.cpus // min(r.cpus for r in requests)))


def _packing(requests: Sequence[Request]) -> str:
    counts = Counter(round(1 / r.gpus) for r in requests if r.gpus)
    shared = ", ".join(f"{number} with 1/{share} of a GPU each" for share, number in sorted(counts.items()))
    return f": {shared}" if shared else ""


def _reasons(results: Iterable[Any]) -> dict[int, str]:
    """Return what Tune knows of trials that left no model, by the model's place in the study; of several the last."""
    reasons: dict[int, str] = {}
    for result in results:
        if result.config is not None:
            said = (result.metrics or {}).get("failed")
            reasons[int(result.config["model"])] = str(result.error) if result.error is not None else str(said or "")
    return reasons


def _reason(folder: StudyFolder, model: ModelSpec, error: str | None) -> str:
    source = folder.study.source_model(model)
    if source is not None and not folder.model(source).is_trained:
        return f"{_label(source)}, which it starts from, is not trained"
    # an infeasible request ends without an error, so the zoo is asked, not the result grid
    return _last_line(error or "the trial ended without a model")


class SourcesFirst(Searcher):  # type: ignore[misc]
    """Hands Tune the missing models in declared order; one that starts from another waits until that is trained.

    A trial that ran out of its share of GPU memory comes again with twice the share. Its batch stays what it is:
    batch normalisation would make another one another model.
    """

    def __init__(self, folder: StudyFolder, requests: Sequence[Request]) -> None:
        super().__init__()
        self._folder, self._waiting = folder, list(requests)
        self._running: dict[str, Request] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, None to be asked again, or FINISHED."""
        for request in self._waiting:
            source = self._folder.study.source_model(request.model)
            if source is None or self._folder.model(source).is_trained:
                self._waiting.remove(request)
                self._running[trial_id] = request
                index = self._folder.study.models.index(request.model)
                return {"model": index, "cpus": request.cpus, "gpus": request.gpus}
        return None if self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Forget the trial, or put it up again with a larger share; whether it left a model is read from the zoo."""
        request = self._running.pop(trial_id, None)
        if request is not None:
            pull(self._folder.model(request.model).path, without=WEIGHT_FILES)  # it may have run on another node
        if request is not None and (result or {}).get("out_of_memory") and request.gpus < 1:
            larger = min(1.0, 2 * request.gpus)
            tell(f"train: {_label(request.model)} ran out of {request.gpus:g} of a GPU; again with {larger:g}")
            self._waiting.insert(0, replace(request, gpus=larger))

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept any: the models are declared, not searched for."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the zoo is the record of what is trained."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


def _trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """Train one model inside a Tune trial; what running it again would not mend is reported instead of raised."""
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
    except Exception as error:  # whatever it is, it would come again; only a worker that dies is worth another try
        if is_out_of_memory(error):
            tune.report({"out_of_memory": True, "failed": f"out of memory with {config['gpus']:g} of a GPU: {error}"})
            return
        trace = folder.model(model).failure_path
        write_text(trace, traceback.format_exc())
        tune.report({"failed": f"{type(error).__name__}: {error} (traceback in {trace})"})
    else:
        # a trial that was finished before it started has reported no epoch, and Tune wants one
        tune.report({"epoch": card["best_epoch"], "validation_auc": card["validation_auc"], "finished": True})


def _pull_for(folder: StudyFolder, model: ModelSpec) -> Samples:
    """Bring what a training reads to this node: images, what is left of an earlier try, the model it starts from."""
    pull(folder.samples_dir(model.modality), without=TEST_FILES)
    pull(folder.model(model).path)
    source = folder.study.source_model(model)
    if source is not None:
        pull(folder.model(source).path)
    return folder.samples(model.modality)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the memory of a GPU ran out; the libraries below PyTorch say so in words of their own."""
    return "out of memory" in str(error).lower() or "ALLOC_FAILED" in str(error)


def _cap_memory(share: float) -> None:
    """Keep this process within its share of the GPU, so that it cannot make its neighbours run out of memory."""
    import torch

    from raygrid.models.memory import CONTEXT_BYTES

    torch.cuda.empty_cache()  # of the trial that this process ran before
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
            tell(f"train: {_label(model)} failed; the others go on")

    def _running(self, trials: list[Any]) -> str:
        running = sum(trial.status == "RUNNING" for trial in trials)
        waiting = self._progress.total - self._progress.done - running
        return f"  ({running} running, {max(0, waiting)} waiting)"

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tell(f"train: {_label(self._folder.study.models[trial.config['model']])} failed; the others go on")


def _label(model: ModelSpec) -> str:
    return f"{model.modality}/{model.name}"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else text
