"""The actor of the transfer stage: it holds models and turns units of work into score files, with or without Ray."""

import json
import time
import traceback
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from raygrid.attacks import Ensemble, PluginWarning
from raygrid.errors import BudgetSpentError, RaygridError, StoreError, one_line
from raygrid.io.files import write_text
from raygrid.io.mirror import from_portable, pull, remove
from raygrid.models.checks import verify_card
from raygrid.models.numerics import set_numerics
from raygrid.models.zoo import load_frozen
from raygrid.scoring.engine import BlockScores, score_attacked, score_clean
from raygrid.scoring.model_offload import ModelOffload
from raygrid.scoring.networks import open_external, open_external_surrogate, open_trained
from raygrid.spec import AttackSpec, EnsembleSpec, StudySpec, SurrogateSpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import IMAGE_FILES, SampleBatch, Samples
from raygrid.store.scores import read_metadata, write_perceptibility, write_scores
from raygrid.store.units import ScoreFile, Tile, score_files


class Scorer:
    """A Ray Data actor that holds the networks of a modality and turns units into score files.

    Args:
        job: the study (`study`, as a dictionary), its folder (`study_dir`), its sample signatures (`samples`), the
            `modality`, the `device`, and the `names` of the networks to load.

    A call takes rows of `unit` (its number), `tile` (JSON), `block` (`SampleBatch.to_bytes`) and `error` (why the block
    could not be read, or ""), and returns rows of `unit`, `seconds`, `error` and `notes` (about attacks of other
    packages, one a line). An error fails only its own unit.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._folder = StudyFolder(from_portable(job["study_dir"]), StudySpec.from_dict(job["study"]), job["samples"])
        pull(self._folder.samples_dir(job["modality"]), without=IMAGE_FILES)
        pull(self._folder.path / "zoo" / job["modality"], without=("resume.pt",))
        samples = self._folder.samples(job["modality"])
        self._units = self._folder.units(job["modality"])
        self._device = job["device"]
        set_numerics(threads=self._folder.study.transfer.threads)
        self._error, models = "", {}
        try:
            models = _opened(self._folder, job["modality"], job["names"], samples, self._device)
        except RaygridError as error:
            self._error = str(error)
        self._models = ModelOffload(models, self._device)
        self._trained: tuple[SurrogateSpec, nn.Module] | None = None
        self._notes: list[str] = []

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        seconds, errors, notes = [], [], []
        for number, tile, block, unread in zip(
            batch["unit"], batch["tile"], batch["block"], batch["error"], strict=True
        ):
            file = ScoreFile(self._units[int(number)], Tile.from_dict(json.loads(str(tile))))
            begun, error, trace = time.monotonic(), str(unread) or self._error, ""
            try:
                pull(file.unit.folder, only=file.unit.names)  # other nodes may have written there
                if not error:
                    error = self._score(file, SampleBatch.from_bytes(bytes(block)))
            except RaygridError as failure:  # as text: Ray would bury it in a page of its own frames
                error = str(failure)
            except Exception as failure:  # any error of a network or a library fails only this unit
                error, trace = one_line(f"{type(failure).__name__}: {failure}"), traceback.format_exc()
            if error:
                write_text(file.unit.failure_path, f"{error}\n\n{trace}".strip() + "\n")
            else:
                remove(file.unit.failure_path)
            seconds.append(time.monotonic() - begun)
            errors.append(error)
            notes.append("\n".join(self._notes))
            self._notes = []
        texts = {"error": np.array(errors, dtype=object), "notes": np.array(notes, dtype=object)}
        return {"unit": batch["unit"], "seconds": np.array(seconds), **texts}

    def _score(self, file: ScoreFile, block: SampleBatch) -> str:
        """Write a tile's scores of the targets that answered; return the errors of the others, one a line.

        A spent budget is no error: a file beside the scores names the target.
        """
        study, unit, begun = self._folder.study, file.unit, time.monotonic()
        targets = self._models.in_turn(file.tile.names)
        if unit.surrogate is None:
            scores = score_clean(targets, block, study.transfer, device=self._device, target_names=file.tile.names)
        else:
            scores = self._attacked(unit.surrogate, targets, block, file)
        self._notes = scores.notes
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
        self, file: ScoreFile, block: SampleBatch, scores: BlockScores, answered: Sequence[int], seconds: float
    ) -> None:
        unit = file.unit
        metadata = {
            "signature": unit.signature,
            "num_images": len(block),
            "num_gradients": scores.num_gradients,
            "num_zero_gradients": scores.num_zero_gradients,
            "unmoved": scores.unmoved,
            "not_finite_gradients": scores.not_finite_gradients,
            "bfloat16_change": scores.bfloat16_change,
            "plugin_notes": scores.notes,
            "adversarial_sha256": scores.adversarial_sha256,
            "device": self._device,
            "seconds": seconds,
        }
        known = _crafted_before(file, scores.adversarial_sha256, self._device)
        fresh = [i for i, case in enumerate(scores.cases) if case.attack is not None and case.attack not in known]
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

    def _attacked(
        self, surrogate: SurrogateSpec, targets: Iterable[nn.Module], block: SampleBatch, file: ScoreFile
    ) -> BlockScores:
        """Return the scores of a tile under attack."""
        study = self._folder.study
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PluginWarning)  # the driver prints the notes, once for all actors
            return score_attacked(
                self._surrogate(surrogate),
                targets,
                block,
                replace(study.transfer, attacks=file.tile.attacks),
                seed=study.seed,
                device=self._device,
                at_once=self._models.swaps,
                in_levels=_positions_in_levels(study, file),
                surrogate_name=surrogate.name,
                target_names=file.tile.names,
                trained=partial(self._as_trained, surrogate),
            )

    def _as_trained(self, surrogate: SurrogateSpec) -> nn.Module:
        """Return a surrogate that is not folded, on the device; only the last one is kept."""
        if self._trained is None or self._trained[0] != surrogate:
            self._trained = None  # before the next is opened: both may not fit
            modality = surrogate.modality
            opened = open_trained(self._folder, surrogate, self._folder.samples(modality))
            self._trained = surrogate, opened.to(self._device)
        return self._trained[1]

    def _surrogate(self, surrogate: SurrogateSpec) -> nn.Module:
        members = self._models.pick([member.surrogate_key for member in self._folder.study.members_of(surrogate)])
        return Ensemble(members) if isinstance(surrogate, EnsembleSpec) else members[0]


def _opened(
    folder: StudyFolder, modality: str, names: Sequence[str], samples: Samples, device: str
) -> dict[str, nn.Module]:
    """Return the named networks of a modality by name. Raises RaygridError if one does not pass its checks."""
    models: dict[str, nn.Module] = {}
    for model in (m for m in folder.study.models_of(modality) if m.name in names):
        models[model.name] = load_frozen(folder, model, device)
        verify_card(folder, model, models[model.name], samples)
    for target in folder.study.external_targets(modality):
        if target.name in names:
            models[target.name] = open_external(folder, target, samples).eval()
        if target.surrogate_key in names:
            models[target.surrogate_key] = open_external_surrogate(folder, target, samples).eval()
    return models


def _positions_in_levels(study: StudySpec, file: ScoreFile) -> list[int]:
    """Return the positions, among a tile's targets, of those that receive whole grey levels."""
    in_levels = {target.name for target in study.external_targets(file.unit.modality) if target.in_levels}
    return [k for k, name in enumerate(file.tile.names) if name in in_levels]


def _crafted_before(file: ScoreFile, hashes: dict[str, str], device: str) -> set[AttackSpec]:
    """Return the attacks that another score file of the unit has, for other targets.

    Args:
        hashes: of the new adversarial images, by the attack's key.

    Raises StoreError if the images behind the other file had another hash: the two files would not be comparable.
    """
    known: set[AttackSpec] = set()
    (others,) = score_files([file.unit])
    for other in others:
        again = set(file.tile.attacks) & set(other.tile.attacks) - known
        stored = read_metadata(other.path) if again else {}
        for attack in again:
            key = attack.key
            if stored["adversarial_sha256"][key] != hashes[key]:
                raise StoreError(
                    f"{file.unit.label}: {key} gives other images than those behind {other.path.name}, crafted on "
                    f"{stored['device']} (now {device}), so their scores are not comparable; run on the same kind of "
                    f"device and versions as before, or delete {file.unit.folder} to score this surrogate again"
                )
        known |= again
    return known
