"""The transfer stage: one Ray Data pipeline per modality, units of work in, score files out.

A task reads a unit (a block of test images and a surrogate); one actor call attacks and scores it and returns one small
row. The study fixes the units, Ray's batching does not, so any number of workers, in any order, killed and resumed or
not, gives the same files (docs/explanation/design.md, invariant 4).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from raygrid.errors import ClusterError, RaygridError, StoreError, one_line
from raygrid.io.files import SPACE_REMEDY, require_space
from raygrid.io.mirror import from_portable, pull, to_portable
from raygrid.progress import Progress, tell
from raygrid.spec import ModalitySpec, StudySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import DEVELOPMENT_FILES, Samples
from raygrid.store.scores import expected_bytes
from raygrid.store.units import ScoreFile, Tile, Unit, missing_files
from raygrid.study.cluster import Resources, ray_data

READER_CPUS = 0.01  # fits into the rest that the actors of a CPU cluster leave of each CPU
_MOST_ACTORS = 256  # a pool grows with its cluster


def transfer_missing(folder: StudyFolder, modality: ModalitySpec, resources: Resources) -> int:
    """Write the missing score files of a modality; return how many were missing.

    Raises StoreError if units fail, ClusterError if files are still missing afterwards.
    """
    return _score_missing(folder, modality, resources, missing_files)


def score_external_clean(folder: StudyFolder, modality: ModalitySpec, resources: Resources) -> int:
    """Score the clean images with the external targets; return how many files were missing.

    This opens no model of the zoo, so it works before any is trained. Raises as `transfer_missing` does.
    """
    return _score_missing(folder, modality, resources, partial(missing_external_clean, folder.study))


def missing_external_clean(study: StudySpec, units: Sequence[Unit]) -> list[ScoreFile]:
    """Return the missing files of clean scores of the external targets."""
    clean = [unit for unit in units if unit.surrogate is None]
    own = {target.name for unit in clean for target in study.external_targets(unit.modality)}
    missing = [(file.unit, [t for t in file.tile.targets if t[0] in own]) for file in missing_files(clean)]
    return [ScoreFile(unit, Tile((), tuple(mine))) for unit, mine in missing if mine]


def _score_missing(
    folder: StudyFolder, modality: ModalitySpec, resources: Resources, lacking: Callable[[list[Unit]], list[ScoreFile]]
) -> int:
    samples = folder.samples(modality.name)
    units = folder.units(modality.name)
    missing = lacking(units)
    if not missing:
        return 0
    wanted_bytes = _bytes_of(missing, len(samples.labels))
    require_space(folder.path, wanted_bytes, f"the scores of {modality.name}", SPACE_REMEDY)
    kinds = {file.unit.surrogate for file in missing}  # only None while nothing is attacked yet
    done = sum(unit.surrogate in kinds for unit in units) - len({id(file.unit) for file in missing})
    progress = Progress(f"transfer {modality.name}: units", done + len(missing), done=done)
    num_models = len(_names_used(folder, missing))
    progress.note(f"{resources.num_actors} actors, each loads {num_models} model{'s'[: num_models > 1]}", always=True)
    failed: dict[str, str] = {}
    told: set[str] = set()
    number_of = {id(unit): number for number, unit in enumerate(units)}
    for row in with_cluster_errors(
        _scored(folder, modality, resources, samples, [(number_of[id(f.unit)], f) for f in missing])
    ):
        label = units[int(row["unit"])].label
        for note in row["notes"].split("\n") if row["notes"] else ():
            if note not in told:
                told.add(note)
                tell(f"transfer {modality.name}: {note}")
        if row["error"]:
            failed[label] = row["error"]
            progress.fail(label, *row["error"].split("\n"))
        else:
            progress.advance(f"{label} in {row['seconds']:.1f} s")
    if failed:
        reasons = [f"  {line}" for reason in dict.fromkeys(failed.values()) for line in reason.split("\n")]
        raise StoreError(f"{modality.name}: {len(failed)} of {len(units)} units could not be scored:", *reasons)
    for kind in ("scores", "perceptibility"):
        pull(folder.path / kind / f"modality={modality.name}")  # files of other nodes
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


def _names_used(folder: StudyFolder, files: Sequence[ScoreFile]) -> list[str]:
    """Return the names of the networks that score files need: surrogates and targets."""
    through = [m.surrogate_key for f in files if f.unit.surrogate for m in folder.study.members_of(f.unit.surrogate)]
    return sorted({*through, *(name for file in files for name in file.tile.names)})


def with_cluster_errors(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a pipeline. Raises ClusterError if Ray stops it: workers hang, or die again and again."""
    try:
        yield from rows
    except Exception as error:  # Ray raises many unrelated kinds of errors; the actors return the expected ones as text
        raise ClusterError(
            "the transfer stage stopped; finished scores are kept. Run the same command again to continue. Ray "
            "reports:",
            *(f"  {line}" for line in f"{type(error).__name__}: {error}".splitlines()),
        ) from error


def _scored(
    folder: StudyFolder,
    modality: ModalitySpec,
    resources: Resources,
    samples: Samples,
    numbered: Sequence[tuple[int, ScoreFile]],
) -> Iterator[dict[str, Any]]:
    """Run the pipeline over score files and the numbers of their units; yield one row of `Scorer` for each."""
    from raygrid.scoring.scorer import Scorer  # it imports PyTorch, which readers do without

    job = {
        "study": folder.study.to_dict(),
        "study_dir": to_portable(folder.path),
        "samples": dict(folder.sample_signatures),
        "modality": modality.name,
        "device": resources.device,
        "names": _names_used(folder, [file for _, file in numbered]),
    }
    wanted = [
        {"unit": number, "start": f.unit.start, "stop": f.unit.stop, "tile": json.dumps(f.tile.to_dict())}
        for number, f in numbered
    ]
    read = partial(read_unit, samples_folder=to_portable(samples.folder))
    return run_pipeline(wanted, read, Scorer, job, resources)


def run_pipeline(
    wanted: Sequence[dict[str, Any]],
    read: Callable[[dict[str, Any]], dict[str, Any]],
    scorer: type,
    job: dict[str, Any],
    resources: Resources,
) -> Iterator[dict[str, Any]]:
    """Read every row in a task and pass it to one of the actors `scorer(job)`; yield the rows that they return."""
    data = ray_data()
    # a reader takes milliseconds per unit but seconds to start: a few are enough
    readers = data.TaskPoolStrategy(size=max(1, resources.num_actors // 4))
    first = min(resources.num_actors, len(wanted))
    rows = (
        data.from_items(list(wanted), override_num_blocks=len(wanted))
        .map(read, num_cpus=READER_CPUS, compute=readers)
        .map_batches(
            scorer,
            fn_constructor_args=(job,),
            batch_size=1,
            # at least as many actors as the cluster had room for at the start, more once nodes join
            compute=data.ActorPoolStrategy(min_size=first, max_size=max(first, min(_MOST_ACTORS, len(wanted)))),
            num_cpus=resources.actor_cpus,
            num_gpus=resources.actor_gpus,
        )
        .iter_rows()
    )
    return iter(rows)


def read_unit(row: dict[str, Any], samples_folder: str) -> dict[str, Any]:
    """Read the images of one unit in a task of its own; a read error fails only this unit."""
    block, error = b"", ""
    try:
        samples_dir = from_portable(samples_folder)
        pull(samples_dir, without=DEVELOPMENT_FILES)
        block = Samples(samples_dir).test_block(int(row["start"]), int(row["stop"])).to_bytes()
    except RaygridError as failure:
        error = str(failure)
    except Exception as failure:
        error = one_line(f"{type(failure).__name__}: {failure}")
    return {"unit": row["unit"], "tile": row["tile"], "block": block, "error": error}
