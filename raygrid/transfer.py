"""The transfer stage: one Ray Data pipeline per modality, units of work in, score files out.

A unit (block of test images x surrogate) is read by a task and attacked and scored inside one actor call; what leaves
the actor is one small row per unit. Units are fixed by the study, not by how Ray batches rows, so any number of
workers, in any order, killed and resumed or not, gives the same files (docs/design.md, invariant 4).
"""

import io
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from raygrid.cluster import Resources, ray_data
from raygrid.errors import BudgetSpentError, ClusterError, RaygridError, StoreError
from raygrid.files import ROOM_REMEDY, remove, require_room, write_text
from raygrid.mirror import folder_at, location, pull
from raygrid.progress import Progress
from raygrid.samples import DEVELOPMENT_FILES, IMAGE_FILES, SampleBatch, Samples, samples_dir
from raygrid.scores import expected_bytes, read_metadata, write_perceptibility, write_scores
from raygrid.spec import AttackSpec, ModalitySpec, ModelSpec, StudySpec
from raygrid.units import ScoreFile, Tile, Unit, missing_files, plan_units, score_files
from raygrid.zoo import Zoo

if TYPE_CHECKING:  # PyTorch: only the actors need it
    from torch import nn

    from raygrid.engine import BlockScores

_READER_CPUS = 0.01  # what the actors of a CPU cluster leave of each CPU is room enough
_MOST_ACTORS = 256  # a pool grows with its cluster


def transfer_missing(zoo: Zoo, modality: ModalitySpec, resources: Resources) -> int:
    """Attack and score whatever a modality has no score file of; return how many files were missing.

    Raises StoreError if some cannot be scored, ClusterError if some are still missing afterwards.
    """
    return _score_missing(zoo, modality, resources, missing_files)


def score_external_clean(zoo: Zoo, modality: ModalitySpec, resources: Resources) -> int:
    """Score the clean images by the targets that raygrid did not train; return how many files were missing.

    No model of the zoo is opened, so this can be done before any is trained. Raises as `transfer_missing` does.
    """
    return _score_missing(zoo, modality, resources, partial(missing_external_clean, zoo.study))


def missing_external_clean(study: StudySpec, units: Sequence[Unit]) -> list[ScoreFile]:
    """Return the files of clean scores that targets raygrid did not train still lack."""
    clean = [unit for unit in units if unit.surrogate is None]
    own = {target.name for unit in clean for target in study.external_targets(unit.modality)}
    missing = [(file.unit, [t for t in file.tile.targets if t[0] in own]) for file in missing_files(clean)]
    return [ScoreFile(unit, Tile((), tuple(mine))) for unit, mine in missing if mine]


def _score_missing(
    zoo: Zoo, modality: ModalitySpec, resources: Resources, lacking: Callable[[list[Unit]], list[ScoreFile]]
) -> int:
    samples = Samples(samples_dir(zoo.study_dir, modality.name, zoo.samples[modality.name]))
    units = plan_units(zoo, modality.name, samples.num_test)
    missing = lacking(units)
    if not missing:
        return 0
    wanted_bytes = _bytes_of(missing, len(samples.labels))
    require_room(zoo.study_dir, wanted_bytes, f"the scores of {modality.name}", ROOM_REMEDY)
    kinds = {file.unit.surrogate for file in missing}  # clean images alone, where nothing is attacked yet
    done = sum(unit.surrogate in kinds for unit in units) - len({id(file.unit) for file in missing})
    progress = Progress(f"transfer {modality.name}: units", done + len(missing), done=done)
    progress.note(f"{resources.num_actors} actors load {len(_names_used(zoo, missing))} models", always=True)
    failed: dict[str, str] = {}
    number_of = {id(unit): number for number, unit in enumerate(units)}
    for row in _told(_scored(zoo, modality, resources, samples, [(number_of[id(f.unit)], f) for f in missing])):
        label = units[int(row["unit"])].label
        if row["error"]:
            failed[label] = row["error"]
            progress.fail(label, row["error"])
        else:
            progress.advance(f"{label} in {row['seconds']:.1f} s")
    if failed:
        reasons = "\n".join(f"  {reason}" for reason in dict.fromkeys(failed.values()))
        raise StoreError(f"{modality.name}: {len(failed)} of {len(units)} units could not be scored:\n{reasons}")
    for kind in ("scores", "perceptibility"):
        pull(zoo.study_dir / kind / f"modality={modality.name}")  # what other nodes wrote
    left = lacking(units)
    if left:
        raise ClusterError(
            f"{modality.name}: {len(left)} score files are still missing; run the study again to continue"
        )
    return len(missing)


def _bytes_of(missing: Sequence[ScoreFile], num_outputs: int) -> int:
    images = [f.unit.stop - f.unit.start for f in missing]
    cases = [2 * len(f.tile.attacks) for f in missing]  # adversarial and control
    scores = sum(n * max(1, c) * len(f.tile.targets) for n, c, f in zip(images, cases, missing, strict=True))
    return expected_bytes(scores, num_outputs, sum(n * c for n, c in zip(images, cases, strict=True)))


def _names_used(zoo: Zoo, files: Sequence[ScoreFile]) -> list[str]:
    """Return the models that score files are made with: what is attacked, and what is attacked through."""
    through = [m.name for f in files if f.unit.surrogate for m in zoo.study.members_of(f.unit.surrogate)]
    return sorted({*through, *(name for file in files for name in file.tile.names)})


def _told(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a pipeline. Raises ClusterError for what Ray raises: workers that hang, or die without end."""
    try:
        yield from rows
    except Exception as error:  # Ray raises many unrelated kinds of errors; nothing expected comes here
        raise ClusterError(
            "the transfer stage stopped; what was scored stays, run the same command to continue. Ray says:\n"
            f"{type(error).__name__}: {error}"
        ) from error


def _scored(
    zoo: Zoo, modality: ModalitySpec, resources: Resources, samples: Samples, numbered: Sequence[tuple[int, ScoreFile]]
) -> Iterator[dict[str, Any]]:
    """Run the pipeline over score files and the numbers of their units; yield what `_Scorer` says of each."""
    job = {
        "study": zoo.study.to_dict(),
        "study_dir": location(zoo.study_dir),
        "samples": dict(zoo.samples),
        "modality": modality.name,
        "device": resources.device,
        "names": _names_used(zoo, [file for _, file in numbered]),
    }
    wanted = [
        {"unit": number, "start": f.unit.start, "stop": f.unit.stop, "tile": json.dumps(f.tile.to_dict())}
        for number, f in numbered
    ]
    read = partial(_read_unit, samples_folder=location(samples.folder))
    return run_pipeline(wanted, read, _Scorer, job, resources)


def run_pipeline(
    wanted: Sequence[dict[str, Any]],
    read: Callable[[dict[str, Any]], dict[str, Any]],
    scorer: type,
    job: dict[str, Any],
    resources: Resources,
) -> Iterator[dict[str, Any]]:
    """Read every row in a task, and hand it to one of the actors `scorer(job)`; yield what they return, row by row."""
    data = ray_data()
    # a reader takes milliseconds per unit, its process seconds to import torch: few are enough
    readers = data.TaskPoolStrategy(size=max(1, resources.num_actors // 4))
    first = min(resources.num_actors, len(wanted))
    rows = (
        data.from_items(list(wanted), override_num_blocks=len(wanted))
        .map(read, num_cpus=_READER_CPUS, compute=readers)
        .map_batches(
            scorer,
            fn_constructor_args=(job,),
            batch_size=1,
            # never below what the cluster had at the start, above it once nodes have joined
            compute=data.ActorPoolStrategy(min_size=first, max_size=max(first, min(_MOST_ACTORS, len(wanted)))),
            num_cpus=resources.actor_cpus,
            num_gpus=resources.actor_gpus,
        )
        .iter_rows()
    )
    return iter(rows)


class _Scorer:
    """A Ray Data actor that holds the models of a modality that are used, and turns units into score files."""

    def __init__(self, job: dict[str, Any]) -> None:
        from raygrid.numerics import set_numerics  # PyTorch: only the actors need it
        from raygrid.shelf import Shelf

        self._zoo = Zoo(folder_at(job["study_dir"]), StudySpec.from_dict(job["study"]), job["samples"])
        folder = samples_dir(self._zoo.study_dir, job["modality"], job["samples"][job["modality"]])
        pull(folder, without=IMAGE_FILES)
        pull(self._zoo.study_dir / "zoo" / job["modality"], without=("resume.pt",))
        samples = Samples(folder)
        self._units = plan_units(self._zoo, job["modality"], samples.num_test)
        self._device = job["device"]
        set_numerics(threads=self._zoo.study.transfer.threads)
        self._error, models = "", {}
        try:
            models = _opened(self._zoo, job["modality"], job["names"], samples)
        except RaygridError as error:
            self._error = str(error)
        self._shelf = Shelf(models, self._device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        seconds, errors = [], []
        for number, tile, block, unread in zip(
            batch["unit"], batch["tile"], batch["block"], batch["error"], strict=True
        ):
            file = ScoreFile(self._units[int(number)], Tile.from_dict(json.loads(str(tile))))
            begun, error, trace = time.monotonic(), str(unread) or self._error, ""
            try:
                pull(file.unit.folder, only=file.unit.names)  # what other nodes know of it
                if not error:
                    error = self._score(file, _unpack(bytes(block)))
            except RaygridError as failure:  # as text: Ray would bury it in a page of its own frames
                error = str(failure)
            except Exception as failure:  # whatever a network or a library raises costs this unit alone
                error, trace = f"{type(failure).__name__}: {failure}", traceback.format_exc()
            if error:
                write_text(file.unit.failure_path, f"{error}\n\n{trace}".strip() + "\n")
            else:
                remove(file.unit.failure_path)
            seconds.append(time.monotonic() - begun)
            errors.append(error)
        return {"unit": batch["unit"], "seconds": np.array(seconds), "error": np.array(errors, dtype=object)}

    def _score(self, file: ScoreFile, block: SampleBatch) -> str:
        """Write the scores of a tile, of the targets that answered; return why others did not, "" if all did.

        A budget that is spent is no error: it is noted beside the scores.
        """
        from raygrid.engine import score_attacked, score_clean

        study, unit, begun = self._zoo.study, file.unit, time.monotonic()
        targets = self._shelf.each(file.tile.names)
        if unit.surrogate is None:
            scores = score_clean(targets, block, study.transfer, device=self._device)
        else:
            transfer = replace(study.transfer, attacks=file.tile.attacks)
            surrogate = self._surrogate(file)
            scores = score_attacked(
                surrogate, targets, block, transfer, seed=study.seed, device=self._device, at_once=self._shelf.swaps
            )
        spent = [file.tile.names[k] for k, error in scores.failed.items() if isinstance(error, BudgetSpentError)]
        if spent:
            unit.write_spent(spent)
        failed = [str(error) for error in scores.failed.values() if not isinstance(error, BudgetSpentError)]
        answered = [k for k in range(len(file.tile.targets)) if k not in scores.failed]
        if answered:
            kept = ScoreFile(unit, Tile(file.tile.attacks, tuple(file.tile.targets[k] for k in answered)))
            self._write(kept, block, scores, answered, time.monotonic() - begun)
        return "\n".join(failed)

    def _write(
        self, file: ScoreFile, block: SampleBatch, scores: "BlockScores", answered: Sequence[int], seconds: float
    ) -> None:
        unit = file.unit
        metadata = {
            "signature": unit.signature,
            "num_images": len(block),
            "num_gradients": scores.num_gradients,
            "num_zero_gradients": scores.num_zero_gradients,
            "bfloat16_change": scores.bfloat16_change,
            "adversarial_sha256": scores.adversarial_sha256,
            "device": self._device,
            "seconds": seconds,
        }
        seen = _seen_before(file, scores.adversarial_sha256, self._device)
        fresh = [i for i, case in enumerate(scores.cases) if case.attack is not None and case.attack not in seen]
        if fresh:
            write_perceptibility(
                file.perceptibility_path,
                image_ids=block.image_ids,
                cases=[scores.cases[i] for i in fresh],
                values=scores.perceptibility[fresh],
            )
        file.describe_tile()
        write_scores(
            file.path,
            image_ids=block.image_ids,
            targets=file.tile.names,
            cases=scores.cases,
            logits=scores.logits[list(answered)],
            metadata=metadata,
        )

    def _surrogate(self, file: ScoreFile) -> Any:
        from raygrid.attacks import Ensemble

        surrogate = file.unit.surrogate
        assert surrogate is not None  # asked only of units with one
        members = self._shelf.pick([model.name for model in self._zoo.study.members_of(surrogate)])
        return members[0] if isinstance(surrogate, ModelSpec) else Ensemble(members)


def _opened(zoo: Zoo, modality: str, names: Sequence[str], samples: Samples) -> "dict[str, nn.Module]":
    """Return the named models of a modality, ready to be scored. Raises RaygridError for one that may not be."""
    from raygrid.verification import Guarded, open_external, verify_card

    models: dict[str, nn.Module] = {}
    for model in (m for m in zoo.study.models_of(modality) if m.name in names):
        models[model.name] = zoo.load_frozen(model)
        verify_card(zoo, model, models[model.name], samples)
    for target in (t for t in zoo.study.external_targets(modality) if t.name in names):
        models[target.name] = Guarded(target, open_external(zoo, target, samples)).eval()
    return models


def _seen_before(file: ScoreFile, hashes: dict[str, str], device: str) -> set[AttackSpec]:
    """Return the attacks that the unit was crafted with before, for other targets.

    Raises StoreError if they came out otherwise then: their scores are of other images.
    """
    seen: set[AttackSpec] = set()
    (others,) = score_files([file.unit])
    for other in others:
        again = set(file.tile.attacks) & set(other.tile.attacks) - seen
        stored = read_metadata(other.path) if again else {}
        for attack in again:
            key = attack.key
            if stored["adversarial_sha256"][key] != hashes[key]:
                raise StoreError(
                    f"{file.unit.label}: {key} gives other images than when {other.path.name} was written, on "
                    f"{stored['device']} (now {device}); scores of both cannot stand together: run on the same kind of "
                    f"device and versions as before, or delete {file.unit.folder} to score this surrogate again"
                )
        seen |= again
    return seen


def _read_unit(row: dict[str, Any], samples_folder: str) -> dict[str, Any]:
    """Read the images of one unit, in a task of its own; what cannot be read costs this unit alone."""
    block, error = b"", ""
    try:
        folder = folder_at(samples_folder)
        pull(folder, without=DEVELOPMENT_FILES)
        block = _pack(Samples(folder).test_block(int(row["start"]), int(row["stop"])))
    except RaygridError as failure:
        error = str(failure)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    return {"unit": row["unit"], "tile": row["tile"], "block": block, "error": error}


def _pack(batch: SampleBatch) -> bytes:
    """Return a batch as bytes: one row per unit keeps Ray from cutting or joining blocks."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        image_ids=np.array(batch.image_ids),
        patient_ids=np.array(batch.patient_ids),
        labels=batch.labels,
        images=batch.images,
    )
    return buffer.getvalue()


def _unpack(data: bytes) -> SampleBatch:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return SampleBatch(
            image_ids=tuple(arrays["image_ids"].tolist()),
            patient_ids=tuple(arrays["patient_ids"].tolist()),
            labels=arrays["labels"],
            images=arrays["images"],
        )
