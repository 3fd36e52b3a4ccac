"""The scores of a study: one Parquet file per unit and tile (paths: raygrid.store.units).

One row per image, target, attack, epsilon and condition. Columns: image_id, target, attack, epsilon, condition (all
dictionary-encoded but epsilon), logits (one float32 per output); modality and surrogate are part of the path, as hive
partitions. The file's metadata (key `raygrid`, JSON) records its origin: signature, hashes of the adversarial batches,
counts of gradients and of images left unmoved, seconds. Every page has a checksum.

STUDY/perceptibility/ has the same folders: the perceptibility of each change, one row per image and case, no targets.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raygrid.errors import StoreError
from raygrid.io.files import atomic_path
from raygrid.spec import MEASURES, Case, StudySpec, SurrogateSpec
from raygrid.store.units import ScoreFile, Unit, score_files

_METADATA_KEY = b"raygrid"
_ROW_BYTES = (2, 4)  # of a score on disk, fixed and per output; measured on the demo: 5.8 with one output
_UNMOVED = ("images", "zero_gradient", "not_finite_gradient", "in_levels")
_PERCEPTIBILITY_BYTES = 16  # of one row on disk; measured on the demo: 15.9


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
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def write_perceptibility(
    path: Path, *, image_ids: Sequence[str], cases: Sequence[Case], values: NDArray[np.float32]
) -> None:
    """Write the perceptibility of the changes of one unit atomically.

    Args:
        values: (cases, images, measures) float32, as `raygrid.attacks.perceptibility` orders the measures.
    """
    case, image = (i.reshape(-1) for i in np.indices(values.shape[:2], dtype=np.int32))
    columns = {name: pa.array(values[:, :, i].reshape(-1)) for i, name in enumerate(MEASURES)}
    table = pa.table({"image_id": _words(image, list(image_ids)), **_case_columns(cases, case), **columns})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _words(codes: NDArray[np.int32], values: Sequence[str]) -> Any:
    """Return a dictionary-encoded column of text."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(values))


def _case_columns(cases: Sequence[Case], case: NDArray[np.int32]) -> dict[str, Any]:
    """Return the columns attack, epsilon and condition of each row."""

    def words(values: Sequence[str]) -> Any:
        names = sorted(set(values))
        return _words(np.array([names.index(v) for v in values], dtype=np.int32)[case], names)

    return {
        "attack": words([c.attack_name for c in cases]),
        "epsilon": pa.array(np.array([c.epsilon for c in cases])[case]),
        "condition": words([c.condition for c in cases]),
    }


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a score file, its origin. Raises StoreError if the file is damaged."""
    try:
        metadata: dict[str, Any] = json.loads(pq.read_schema(path).metadata[_METADATA_KEY])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a score file of raygrid ({error}); delete it and run the study again"
        ) from error
    return metadata


def read_perceptibility(path: Path) -> pd.DataFrame:
    """Return the perceptibility of one unit, a row per image and case. Raises StoreError if the file is damaged."""
    try:
        frame: pd.DataFrame = pq.read_table(path, partitioning=None, page_checksum_verification=True).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); delete it and the score file of the same name, and run the study again"
        ) from error
    return frame.astype(dict.fromkeys(("image_id", "attack", "condition"), str))


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sigmoid of logits, any shape; the clip keeps exp from overflowing."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64).clip(-700, 700))))


def read_logits(
    units: Sequence[Unit],
    image_ids: Sequence[str],
    cases: Sequence[Case],
    num_outputs: int,
    expected: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Return the logits of one surrogate's units, (targets, cases, images, outputs); targets in the units' order.

    Args:
        expected: (targets, cases), True where a score is required; elsewhere it may be NaN. None requires all scores.

    Raises StoreError if a file is damaged or a score is missing.
    """
    image_of = {name: i for i, name in enumerate(image_ids)}
    shape = (len(units[0].wanted.targets), len(cases), len(image_ids), num_outputs)
    logits = np.full(shape, np.nan, dtype=np.float32)
    for file in (file for files in score_files(units) for file in files):
        try:
            _read_into(logits, file, image_of, cases)
        except (pa.ArrowInvalid, OSError, KeyError, IndexError, ValueError) as error:
            raise StoreError(
                f"{file.path} is not the score file this study needs ({type(error).__name__}: {error}); "
                "delete it and run the study again"
            ) from error
    absent = np.asarray(np.isnan(logits).any(axis=-1))
    missing = int((absent if expected is None else absent[expected]).sum())
    if missing:
        raise StoreError(
            f"{missing} scores are missing from {units[0].folder}; delete that folder and run the study again"
        )
    return logits


def _read_into(
    logits: NDArray[np.float32], file: ScoreFile, image_of: Mapping[str, int], cases: Sequence[Case]
) -> None:
    """Copy a file's scores of the wanted attacks and targets into `logits`; skip all others."""
    wanted = file.unit.wanted.targets
    target_of = {
        name: wanted.index((name, identity)) for name, identity in file.tile.targets if (name, identity) in wanted
    }
    attacks = file.tile.attacks or (None,)
    case_of = {(c.condition, c.attack_name, c.epsilon): i for i, c in enumerate(cases) if c.attack in attacks}
    if not target_of or not case_of:
        return
    table = pq.read_table(file.path, partitioning=None, page_checksum_verification=True)
    frame = table.drop_columns(["logits"]).to_pandas()
    keys = frame[["condition", "attack", "epsilon"]].astype({"condition": str, "attack": str})
    case = np.array([case_of.get(key, -1) for key in keys.itertuples(index=False, name=None)])
    target = frame["target"].astype(str).map(target_of).fillna(-1).to_numpy(dtype=int)
    image = np.array([image_of[name] for name in frame["image_id"].astype(str)])
    asked = (case >= 0) & (target >= 0)
    values = table["logits"].combine_chunks().flatten().to_numpy().reshape(-1, logits.shape[-1])
    logits[target[asked], case[asked], image[asked]] = values[asked]


def expected_bytes(num_scores: int, num_outputs: int, num_changed: int) -> int:
    """Return the approximate size of scores on disk.

    Args:
        num_scores: rows of scores, one per image, target and case.
        num_changed: rows of perceptibility, one per changed image.
    """
    return num_scores * (_ROW_BYTES[0] + _ROW_BYTES[1] * num_outputs) + num_changed * _PERCEPTIBILITY_BYTES


def cases_of(study: StudySpec, surrogate: SurrogateSpec | None) -> list[Case]:
    """Return the cases of a unit with this surrogate (None: clean images)."""
    if surrogate is None:
        return [Case("clean", None)]
    return [Case(condition, attack) for attack in study.transfer.attacks for condition in ("adversarial", "control")]


def transfer_facts(units: Sequence[Unit]) -> dict[str, Any]:
    """Return counts over the score files of these units: gradients, images that attacks left unmoved, seconds.

    A unit crafted again for a new target counts its images once, but all its gradients and seconds. `unmoved` has the
    counts by attack, as `unmoved_by_attack` returns them.
    """
    done = [files for files in score_files(units) if files]
    facts = [[read_metadata(file.path) for file in files] for files in done]
    attacked = [f for files, f in zip(done, facts, strict=True) if files[0].unit.surrogate is not None]
    return {
        "num_units": len(done),
        "num_attacked": sum(int(f[0]["num_images"]) for f in attacked),
        "gradients_per_image": sum(int(f["num_gradients"]) for f in attacked[0]) if attacked else 0,
        "num_zero_gradients": sum(max(int(f["num_zero_gradients"]) for f in files) for files in attacked),
        "unmoved": unmoved_by_attack(attacked),
        "seconds": sum(float(f["seconds"]) for files in facts for f in files),
    }


def unmoved_by_attack(units: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, int]]:
    """Return, by the attack's key, how many images the attack left as they were, and why.

    Counts: `attacked` images in all; `images` that equal the clean ones, those among them whose gradient was zero
    everywhere (`zero_gradient`) or not finite (`not_finite_gradient`); images that reach targets of whole grey levels
    unchanged (`in_levels`); all images with a non-finite gradient, moved or not (`any_not_finite_gradient`).

    Args:
        units: metadata of the score files of each unit. Files of older versions lack these counts and are left out.
    """
    found: dict[str, dict[str, int]] = {}
    for files in units:
        for key in dict.fromkeys(key for file in files for key in file.get("unmoved", {})):
            of_key = [file for file in files if key in file.get("unmoved", {})]
            counts = found.setdefault(key, {"attacked": 0, **dict.fromkeys(_UNMOVED, 0), "any_not_finite_gradient": 0})
            counts["attacked"] += int(of_key[0]["num_images"])
            for name in _UNMOVED:  # files of one unit hold the same images, so their counts are not added
                counts[name] += max(int(file["unmoved"][key].get(name, 0)) for file in of_key)
            counts["any_not_finite_gradient"] += max(int(file["not_finite_gradients"][key]) for file in of_key)
    return found
