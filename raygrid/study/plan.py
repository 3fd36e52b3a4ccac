"""The work and cost of a study before it runs: trials, passes, device hours, storage, money.

Counts follow from the declaration and the data, or from the published sizes of absent data sets. Times
are measured on this machine: each architecture runs a few times at the study's image size. They hold for machines like
this one, and for GPUs only if this machine has one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from raygrid.data.splits.rules import ROLES, members
from raygrid.errors import MissingDataError, SpecError
from raygrid.io.mirror import exists
from raygrid.models.memory import crafting_bytes, training_bytes
from raygrid.models.timing import Seconds, measure, num_gradients, untimed
from raygrid.progress import Progress
from raygrid.spec import ModalitySpec, ModelSpec, Recipe, StudySpec
from raygrid.store.folder import StudyFolder, open_study
from raygrid.store.query_budget import allowance, limit_of, num_requests
from raygrid.store.scores import cases_of, expected_bytes
from raygrid.study.prepare import open_raw, survey_modality
from raygrid.study.run import missing_work


@dataclass(frozen=True)
class Sizes:
    """The number of images of a modality.

    Attributes:
        images: (split, role) -> images.
        test: test images.
        outputs: labels.
        counted: whether the images were counted; if not, the numbers are the published ones.
    """

    images: dict[tuple[str, str], int]
    test: int
    outputs: int
    counted: bool


@dataclass(frozen=True)
class Work:
    """The work for one modality.

    A pass is one image through one network, forward or with its gradient. Names end in their unit: `_s` is seconds on
    one device, `_bytes` is storage at the end.

    Attributes:
        training_gpu_bytes: estimated memory of a GPU for the largest training.
        crafting_gpu_bytes: the same for the largest gradient of a block; 0 where nothing is attacked.
    """

    modality: str
    counted: bool
    num_models: int
    num_missing: int
    training_images: int
    test_images: int
    training_passes: int
    gradient_passes: int
    forward_passes: int
    training_s: float
    transfer_s: float
    samples_bytes: int
    zoo_bytes: int
    scores_bytes: int
    training_gpu_bytes: float
    crafting_gpu_bytes: float


def plan_study(study: StudySpec, study_dir: Path, data_root: Path, *, timed: bool = True) -> pd.DataFrame:
    """Return the work and cost of a study: one row per modality, pre-training sources included.

    Trained models and modalities with complete scores are left out; half-done work counts as a whole. The columns are
    the attributes of `raygrid.study.plan.Work`: counts of models, images and passes, seconds, bytes.

    Args:
        study_dir: the study folder; it need not exist.
        data_root: folder of the raw data sets. A data set that is absent is planned with its published size.
        timed: run each network a few times to measure seconds; False leaves them NaN.

    Raises MissingDataError for an absent data set without a published size.
    """
    folder = _opened(study, study_dir)
    sizes = {m.name: sizes_of(study, m, study_dir, data_root) for m in study.modalities}
    wanted = {model: (model.modality, model.arch, study.recipe_of(model)) for model in study.models}
    progress = Progress("plan: timing each network on this machine", len(set(wanted.values())))
    if timed:
        progress.note("large networks take minutes on a CPU; --no-times skips this", always=True)
    measured: dict[tuple[str, str, Recipe], Seconds] = {}
    for name, arch, recipe in wanted.values():
        if (name, arch, recipe) in measured:
            continue
        dataset, outputs = study.modality(name).dataset, sizes[name].outputs
        if timed:
            measured[name, arch, recipe] = measure(arch, dataset, recipe, study.transfer, outputs)
            progress.advance(f"{name}, {arch}")
        else:
            measured[name, arch, recipe] = untimed(arch, dataset, outputs)
    seconds = {model: measured[key] for model, key in wanted.items()}
    return pd.DataFrame([_work(study, m, sizes[m.name], seconds, folder) for m in study.modalities])


def sizes_of(study: StudySpec, modality: ModalitySpec, study_dir: Path, data_root: Path) -> Sizes:
    """Return the number of images of each split of a modality. Raises MissingDataError if it cannot be known."""
    dataset = open_raw(modality, data_root)
    absent = dataset.missing()
    if not absent:
        surveyed = survey_modality(study, modality, dataset, dataset.index(), study_dir, data_root)
        per_patient = surveyed.table.groupby("patient_id").size()
        images = {
            key: int(per_patient.reindex(members(surveyed.splits, *key)).fillna(0).sum())
            for key in _used(study, modality)
        }
        num_test = int((surveyed.table["part"] == "test").sum())
        return Sizes(images, num_test, len(surveyed.index.labels), counted=True)
    if dataset.published is None:
        raise MissingDataError(f"{modality.name} cannot be planned without its label files:", *absent)
    total, test, outputs = dataset.published
    fraction = modality.splits.test_fraction
    if fraction is None and test is None:
        raise SpecError(f"{modality.name}: {dataset.title} has no official test part; set test_fraction")
    num_test = (test or 0) if fraction is None else round(fraction * total)
    shares = {"d1": 0.5, "d2": 0.5, "d2_half": 0.25, "d1_tenth": 0.05, "development": 1.0}
    validation = modality.splits.validation_fraction
    part = {("d2_half", "validation"): shares["d2"] * validation}  # d2_half keeps the whole validation part of d2
    for split, share in shares.items():
        part[split, "train"] = share * (1 - validation)
        part.setdefault((split, "validation"), share * validation)
    images = {key: round((total - num_test) * part[key]) for key in _used(study, modality)}
    return Sizes(images, num_test, outputs, counted=False)


def describe(work: pd.DataFrame, study: StudySpec, *, price: float | None, device: str) -> str:
    """Return the plan as text for a terminal.

    Args:
        price: of one device hour, in any currency; None leaves the cost out.
        device: name of the device that the times were measured on.
    """
    shown = work.set_index("modality").T
    total_h = float(work[list(_HOURS)].to_numpy().sum()) / 3600
    timed = not math.isnan(total_h)
    counts = shown.loc[list(_COUNTS)].rename(_COUNTS).map("{:,.0f}".format)
    hours = (shown.loc[list(_HOURS)] / 3600).rename(_HOURS).map(_readable)
    storage = shown.loc[list(_STORAGE)] / 1e9
    memory = (shown.loc[list(_MEMORY)] / 1e9).rename(_MEMORY).map(_readable)
    lines = [
        f"study {study.name}: {len(study.models)} models, {sum(len(study.pairings(m.name)) for m in study.studied)} "
        f"pairings, {len(study.transfer.attacks)} attacks with their controls",
        "",
        pd.concat([counts, *([hours] if timed else []), storage.rename(_STORAGE).map(_readable), memory]).to_string(),
        "",
        f"in all {f'{_readable(total_h)} device hours and ' if timed else ''}"
        f"{_readable(storage.to_numpy(dtype=float).sum())} GB of storage",
        f"hours on {device}" if timed else "hours are unknown: no network was timed (--no-times)",
    ]
    if not work["counted"].all():
        absent = ", ".join(work.loc[~work["counted"].astype(bool), "modality"])
        lines.append(f"planned with the published size: {absent} (no data there yet)")
    lines += [
        line
        for row in work.to_dict("records")
        for line in describe_external(study, row["modality"], row["test_images"])
    ]
    if price is not None:
        lines.append(f"at {price:g} per device hour: {_readable(price * total_h)}")
    return "\n".join(lines)


def describe_external(study: StudySpec, modality: str, num_test: int) -> Iterator[str]:
    """Yield lines on the number of images and requests for each external target; their response time is unknown."""
    for target in study.external_targets(modality):
        plan = allowance(study, target, num_test)
        who = f"target {modality} {target.name} ({target.kind}):"
        yield f"{who} {plan.num_images:,} images; the device hours exclude its response time"
        if not target.traits.is_metered:
            continue
        requests = num_requests(study, target, num_test, plan.num_asked)
        hours = requests / target.endpoint.requests_per_second / 3600
        batch, rate = target.endpoint.batch_size, target.endpoint.requests_per_second
        yield (
            f"  {requests:,} requests of up to {batch}, at {rate:g} a second {hours:,.2f} hours at least; "
            "stored answers are not requested again"
        )
        limit, more = limit_of(target), plan.num_images_of_all - plan.num_images
        covers = "no limit is set" if not limit else f"its budget of {limit:,} images covers"
        yield (
            f"  {covers}: the clean images and {plan.num_asked} of {len(plan.cells)} (surrogate, attack) cells"
            + (f"; for all, set max_images={plan.num_images_of_all} ({more:,} more images)" if more else "")
        )


_COUNTS = {
    "num_models": "models",
    "num_missing": "  to be trained",
    "training_images": "training images of d1",
    "test_images": "test images",
    "training_passes": "training passes",
    "gradient_passes": "gradients of attacks",
    "forward_passes": "scores (forward passes)",
}
_HOURS = {"training_s": "training, device hours", "transfer_s": "transfer, device hours"}
_STORAGE = {
    "samples_bytes": "samples, GB at most",
    "zoo_bytes": "zoo, GB",
    "scores_bytes": "scores, perceptibility, GB",
}
_MEMORY = {
    "training_gpu_bytes": "GPU memory of a training, GB",
    "crafting_gpu_bytes": "GPU memory of a block, GB",
}


def _readable(value: float) -> str:
    """Return hours, gigabytes or money with the digits that a plan needs."""
    if math.isnan(value):
        return "unknown"
    if 0 < value < 0.01:
        return "< 0.01"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _opened(study: StudySpec, study_dir: Path) -> StudyFolder | None:
    """Return the study folder if it holds this very study, of which some work may be done."""
    if not exists(study_dir / "study.json"):
        return None
    folder = open_study(study_dir)
    return folder if folder.study == study else None


def _used(study: StudySpec, modality: ModalitySpec) -> Iterator[tuple[str, str]]:
    splits = {m.split for m in study.models_of(modality.name)} | {"d1"}
    return ((split, role) for split in sorted(splits) for role in ROLES)


def _work(
    study: StudySpec,
    modality: ModalitySpec,
    sizes: Sizes,
    seconds: dict[ModelSpec, Seconds],
    folder: StudyFolder | None,
) -> Work:
    models = study.models_of(modality.name)
    attacked_models = models if study.zoo_as_targets else ()
    missing = [m for m in models if folder is None or not folder.model(m).is_trained]
    passes = {m: study.recipe_of(m).epochs * sizes.images[m.split, "train"] for m in missing}
    training_s = sum(passes[m] * seconds[m].step + _validation_s(study, m, sizes, seconds) for m in missing)
    attacked = [] if modality.source or _is_scored(modality, folder) else study.surrogates_of(modality.name)
    members = [member for surrogate in attacked for member in study.members_of(surrogate)]
    gradients = sizes.test * num_gradients(study.transfer.attacks)
    changed = len(attacked) * len(cases_of(study, models[0])) if models else 0
    cases = changed + bool(attacked)
    transfer_s = sum(gradients * seconds[m].gradient for m in members if isinstance(m, ModelSpec))
    transfer_s += sum(sizes.test * cases * seconds[m].forward for m in attacked_models)
    scores = sizes.test * len(study.targets_of(modality.name)) * cases
    side = modality.dataset
    return Work(
        modality=modality.name,
        counted=sizes.counted,
        num_models=len(models),
        num_missing=len(missing),
        training_images=sizes.images["d1", "train"],
        test_images=sizes.test,
        training_passes=sum(passes.values()),
        gradient_passes=gradients * len(members),
        forward_passes=sizes.test * len(attacked_models) * cases,
        training_s=training_s,
        transfer_s=transfer_s,
        samples_bytes=_num_images(sizes) * side.image_size**2 * side.channels,
        zoo_bytes=sum(4 * seconds[m].num_parameters for m in models),
        scores_bytes=expected_bytes(scores, sizes.outputs, sizes.test * changed),
        training_gpu_bytes=_gpu_bytes(study, models, sizes.outputs),
        crafting_gpu_bytes=_gpu_bytes(study, [m for m in members if isinstance(m, ModelSpec)], sizes.outputs, True),
    )


def _gpu_bytes(study: StudySpec, models: Sequence[ModelSpec], num_outputs: int, crafting: bool = False) -> float:
    """Return the memory of the largest training, or of the largest gradient of a block; NaN if it is unknown."""
    needed = [0]
    for _, arch, recipe in {(m.modality, m.arch, study.recipe_of(m)) for m in models}:
        dataset = study.modality(models[0].modality).dataset
        try:
            if crafting:
                size = study.transfer.block_size
                needed.append(crafting_bytes(arch, dataset, num_images=size, num_outputs=num_outputs))
            else:
                needed.append(training_bytes(arch, dataset, recipe, num_outputs=num_outputs))
        except (RuntimeError, NotImplementedError):  # the network cannot run at this size, or not without values
            return math.nan
    return max(needed)


def _validation_s(study: StudySpec, model: ModelSpec, sizes: Sizes, seconds: dict[ModelSpec, Seconds]) -> float:
    passes = study.recipe_of(model).epochs * sizes.images[model.split, "validation"]
    return passes * seconds[model].forward


def _is_scored(modality: ModalitySpec, folder: StudyFolder | None) -> bool:
    return folder is not None and not missing_work(folder).get(f"units of {modality.name}", 1)


def _num_images(sizes: Sizes) -> int:
    return sizes.test + 2 * sum(sizes.images["d1", role] for role in ROLES)
