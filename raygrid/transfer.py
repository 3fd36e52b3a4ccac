"""The transfer stage: one Ray Data pipeline per modality, units of work in, score files out.

A unit (block of test images x surrogate) is read by a task and attacked and scored inside one actor call; what leaves
the actor is one small row per unit. Units are fixed by the study, not by how Ray batches rows, so any number of
workers, in any order, killed and resumed or not, gives the same files (docs/design.md, invariant 4).
"""

import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raygrid.cluster import Resources, ray_data
from raygrid.errors import ClusterError, RaygridError, StoreError
from raygrid.progress import Progress
from raygrid.samples import SampleBatch, Samples, samples_dir
from raygrid.scores import Unit, missing_units, plan_units, write_perceptibility, write_scores
from raygrid.spec import ModalitySpec, ModelSpec, StudySpec
from raygrid.zoo import Zoo

_READER_CPUS = 0.25


def transfer_missing(zoo: Zoo, modality: ModalitySpec, resources: Resources) -> int:
    """Attack and score every unit of a modality that has no score file; return how many were missing.

    Raises StoreError if a unit cannot be scored, ClusterError if units are still missing afterwards.
    """
    samples = Samples(samples_dir(zoo.study_dir, modality.name, zoo.samples[modality.name]))
    units = plan_units(zoo, modality.name, samples.num_test)
    missing = missing_units(units)
    if not missing:
        return 0
    progress = Progress(f"transfer {modality.name}: units", len(units), done=len(units) - len(missing))
    progress.note(f"{resources.num_actors} actors load {len(zoo.study.models_of(modality.name))} models", always=True)
    failed: dict[str, str] = {}
    for row in _scored(zoo, modality, resources, samples, [(units.index(u), u) for u in missing]):
        if row["error"]:
            failed[row["label"]] = row["error"]
            progress.note(f"{row['label']} FAILED: {row['error']}")
        else:
            progress.advance(f"{row['label']} in {row['seconds']:.1f} s")
    if failed:
        reasons = "\n".join(f"  {reason}" for reason in dict.fromkeys(failed.values()))
        raise StoreError(f"{modality.name}: {len(failed)} of {len(units)} units could not be scored:\n{reasons}")
    left = missing_units(units)
    if left:
        raise ClusterError(
            f"{modality.name}: {len(left)} of {len(units)} units are still missing; run the study again to continue"
        )
    return len(missing)


def _scored(
    zoo: Zoo, modality: ModalitySpec, resources: Resources, samples: Samples, numbered: Sequence[tuple[int, Unit]]
) -> Iterator[dict[str, Any]]:
    """Run the pipeline over units and their numbers; yield what `_Scorer` says of each."""
    data = ray_data()
    job = {
        "study": zoo.study.to_dict(),
        "study_dir": str(zoo.study_dir),
        "samples": dict(zoo.samples),
        "modality": modality.name,
        "device": resources.device,
    }
    wanted = [{"unit": number, "start": unit.start, "stop": unit.stop} for number, unit in numbered]
    # a reader takes milliseconds per unit, its process seconds to import torch: few are enough
    readers = data.TaskPoolStrategy(size=max(1, resources.num_actors // 4))
    rows: Iterator[dict[str, Any]] = (
        data.from_items(wanted, override_num_blocks=len(wanted))
        .map(_read_unit, fn_args=(str(samples.folder),), num_cpus=_READER_CPUS, compute=readers)
        .map_batches(
            _Scorer,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(resources.num_actors, len(wanted))),
            num_cpus=resources.actor_cpus,
            num_gpus=resources.actor_gpus,
        )
        .iter_rows()
    )
    return rows


class _Scorer:
    """A Ray Data actor that holds all models of a modality and turns units into score files."""

    def __init__(self, job: dict[str, Any]) -> None:
        from raygrid.numerics import set_numerics  # PyTorch: only the actors need it
        from raygrid.verification import verify_card

        self._zoo = Zoo(Path(job["study_dir"]), StudySpec.from_dict(job["study"]), job["samples"])
        samples = Samples(samples_dir(self._zoo.study_dir, job["modality"], job["samples"][job["modality"]]))
        self._units = plan_units(self._zoo, job["modality"], samples.num_test)
        self._device = job["device"]
        set_numerics(threads=self._zoo.study.transfer.threads)
        self._models: dict[ModelSpec, Any] = {}
        self._error = ""
        try:
            for model in self._zoo.study.models_of(job["modality"]):
                self._models[model] = self._zoo.load_frozen(model).to(self._device)
                verify_card(self._zoo, model, self._models[model], samples)
        except RaygridError as error:
            self._error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        labels, seconds, errors = [], [], []
        for number, block in zip(batch["unit"], batch["block"], strict=True):
            unit = self._units[int(number)]
            begun, error = time.monotonic(), self._error
            try:
                if not error:
                    self._score(unit, _unpack(bytes(block)))
            except RaygridError as failure:  # as text: Ray would bury it in a page of its own frames
                error = str(failure)
            labels.append(f"{'clean' if unit.surrogate is None else unit.surrogate.name} block {unit.block}")
            seconds.append(time.monotonic() - begun)
            errors.append(error)
        return {"label": np.array(labels), "seconds": np.array(seconds), "error": np.array(errors, dtype=object)}

    def _score(self, unit: Unit, block: SampleBatch) -> None:
        from raygrid.attacks import Ensemble
        from raygrid.engine import score_attacked, score_clean

        study, begun = self._zoo.study, time.monotonic()
        targets = list(self._models.values())
        if unit.surrogate is None:
            scores = score_clean(targets, block, study.transfer, device=self._device)
        else:
            members = [self._models[model] for model in study.members_of(unit.surrogate)]
            surrogate = members[0] if isinstance(unit.surrogate, ModelSpec) else Ensemble(members)
            scores = score_attacked(surrogate, targets, block, study.transfer, seed=study.seed, device=self._device)
        metadata = {
            "signature": unit.signature,
            "num_images": len(block),
            "num_gradients": scores.num_gradients,
            "num_zero_gradients": scores.num_zero_gradients,
            "bfloat16_change": scores.bfloat16_change,
            "adversarial_sha256": scores.adversarial_sha256,
            "device": self._device,
            "seconds": time.monotonic() - begun,
        }
        if unit.surrogate is not None:
            write_perceptibility(
                unit.perceptibility_path,
                image_ids=block.image_ids,
                cases=scores.cases,
                values=scores.perceptibility,
            )
        write_scores(
            unit.path,
            image_ids=block.image_ids,
            targets=[model.name for model in self._models],
            cases=scores.cases,
            logits=scores.logits,
            metadata=metadata,
        )


def _read_unit(row: dict[str, Any], samples_folder: str) -> dict[str, Any]:
    """Read the images of one unit, in a task of its own."""
    block = Samples(Path(samples_folder)).test_block(int(row["start"]), int(row["stop"]))
    return {"unit": row["unit"], "block": _pack(block)}


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
