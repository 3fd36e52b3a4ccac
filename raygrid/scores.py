"""The scores of a study: one Parquet file per finished unit of work, and which units are missing.

STUDY/scores/modality=<m>/surrogate=<name, or clean>/plan-<signature>/block-00000.parquet

STUDY/perceptibility/...                   the same below: how visible each change is, a row per image, no targets

One row per image, target, attack, epsilon and condition. Columns: image_id, target, attack, epsilon, condition (all
dictionary-encoded but epsilon), logits (one float32 per output); modality and surrogate stand in the path, as hive
partitions. The file's metadata (key `raygrid`, JSON) holds what made it: signatures, hashes of the adversarial batches,
gradient counts, seconds. A unit is a block of test images, in the order of their ids, through one surrogate.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raygrid.errors import StoreError
from raygrid.files import atomic_path
from raygrid.signatures import transfer_signature
from raygrid.spec import MEASURES, Case, StudySpec, SurrogateSpec
from raygrid.zoo import Zoo

CLEAN = "clean"
_METADATA_KEY = b"raygrid"


@dataclass(frozen=True)
class Unit:
    """One block of test images through one surrogate (None: clean images) to all targets.

    `start` and `stop` are positions in the test images sorted by id.
    """

    modality: str
    surrogate: SurrogateSpec | None
    block: int
    start: int
    stop: int
    signature: str
    path: Path

    @property
    def perceptibility_path(self) -> Path:
        """Where the visibility of the unit's changes lies; it is written before the scores, which end the unit."""
        scores_dir = self.path.parents[3]
        return scores_dir.with_name("perceptibility") / self.path.relative_to(scores_dir)


def plan_units(zoo: Zoo, modality: str, num_test: int) -> list[Unit]:
    """Return every unit of a modality, finished or not: clean first, then surrogate by surrogate."""
    models = zoo.study.models_of(modality)
    identities = {m: zoo.identity(m) for m in models}
    size = zoo.study.transfer.block_size
    units = []
    for surrogate in (None, *zoo.study.surrogates_of(modality)):
        members = () if surrogate is None else zoo.study.members_of(surrogate)
        signature = transfer_signature(
            zoo.study,
            samples=zoo.samples[modality],
            surrogate="+".join(identities[model] for model in members),
            targets=list(identities.values()),
        )
        name = CLEAN if surrogate is None else surrogate.name
        folder = zoo.study_dir / "scores" / f"modality={modality}" / f"surrogate={name}" / f"plan-{signature[:12]}"
        for block, start in enumerate(range(0, num_test, size)):
            path = folder / f"block-{block:05d}.parquet"
            units.append(Unit(modality, surrogate, block, start, min(start + size, num_test), signature, path))
    return units


def missing_units(units: Sequence[Unit]) -> list[Unit]:
    """Return the units that have no score file yet."""
    return [unit for unit in units if not unit.path.exists()]


def write_scores(
    path: Path,
    *,
    image_ids: Sequence[str],
    targets: Sequence[str],
    cases: Sequence[Case],
    logits: NDArray[np.float32],
    metadata: Mapping[str, Any],
) -> None:
    """Write the scores of one unit atomically.

    Args:
        logits: (targets, cases, images, outputs) float32.
    """
    num_targets, num_cases, num_images, num_outputs = logits.shape
    target, case, image = (i.reshape(-1) for i in np.indices((num_targets, num_cases, num_images), dtype=np.int32))

    table = pa.table(
        {
            "image_id": _words(image, list(image_ids)),
            "target": _words(target, list(targets)),
            **_case_columns(cases, case),
            "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), num_outputs),
        }
    ).replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_perceptibility(
    path: Path, *, image_ids: Sequence[str], cases: Sequence[Case], values: NDArray[np.float32]
) -> None:
    """Write how visible the changes of one unit are, atomically.

    Args:
        values: (cases, images, measures) float32, as `raygrid.perceptibility` orders the measures.
    """
    case, image = (i.reshape(-1) for i in np.indices(values.shape[:2], dtype=np.int32))
    columns = {name: pa.array(values[:, :, i].reshape(-1)) for i, name in enumerate(MEASURES)}
    table = pa.table({"image_id": _words(image, list(image_ids)), **_case_columns(cases, case), **columns})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _words(codes: NDArray[np.int32], values: Sequence[str]) -> Any:
    """Return a dictionary-encoded column."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values))


def _case_columns(cases: Sequence[Case], case: NDArray[np.int32]) -> dict[str, Any]:
    """Return the columns that say what was done to the image of each row."""

    def words(values: Sequence[str]) -> Any:
        names = sorted(set(values))
        return _words(np.array([names.index(v) for v in values], dtype=np.int32)[case], names)

    return {
        "attack": words([c.attack_name for c in cases]),
        "epsilon": pa.array(np.array([c.epsilon for c in cases])[case]),
        "condition": words([c.condition for c in cases]),
    }


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what made a score file. Raises StoreError if the file is damaged."""
    try:
        metadata: dict[str, Any] = json.loads(pq.read_schema(path).metadata[_METADATA_KEY])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a score file of raygrid ({error}); delete it and run the study again"
        ) from error
    return metadata


def read_logits(
    units: Sequence[Unit], image_ids: Sequence[str], targets: Sequence[str], cases: Sequence[Case], num_outputs: int
) -> NDArray[np.float32]:
    """Return the logits of one surrogate's units, (targets, cases, images, outputs).

    Raises StoreError if a file is damaged or a score is missing or not asked for.
    """
    target_of = {name: i for i, name in enumerate(targets)}
    case_of = {(c.condition, c.attack_name, c.epsilon): i for i, c in enumerate(cases)}
    image_of = {name: i for i, name in enumerate(image_ids)}
    logits = np.full((len(targets), len(cases), len(image_ids), num_outputs), np.nan, dtype=np.float32)
    for unit in units:
        try:
            table = pq.read_table(unit.path, partitioning=None)
            frame = table.drop_columns(["logits"]).to_pandas()
            keys = frame[["condition", "attack", "epsilon"]].astype({"condition": str, "attack": str})
            case = [case_of[key] for key in keys.itertuples(index=False, name=None)]
            target = frame["target"].astype(str).map(target_of).to_numpy()
            image = frame["image_id"].astype(str).map(image_of).to_numpy()
            values = table["logits"].combine_chunks()
            logits[target, case, image] = values.flatten().to_numpy().reshape(-1, num_outputs)
        except (pa.ArrowInvalid, OSError, KeyError, IndexError, ValueError) as error:
            raise StoreError(
                f"{unit.path} is not the score file this study needs ({type(error).__name__}: {error}); "
                "delete it and run the study again"
            ) from error
    if np.isnan(logits).any():
        missing = int(np.isnan(logits).any(axis=-1).sum())
        raise StoreError(
            f"{missing} scores are missing from {units[0].path.parent}; delete that folder and run the study again"
        )
    return logits


def cases_of(study: StudySpec, surrogate: SurrogateSpec | None) -> list[Case]:
    """Return what a unit with this surrogate does to its images."""
    if surrogate is None:
        return [Case("clean", None)]
    return [Case(condition, attack) for attack in study.transfer.attacks for condition in ("adversarial", "control")]
