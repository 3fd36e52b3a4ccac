"""Hashes of everything that a result depends on: data, recipe of the code, study. Resources are not among it."""

from collections.abc import Mapping
from typing import cast

from raygrid.hashing import Json, digest
from raygrid.spec import DatasetSpec, ModelSpec, SplitSpec, StudySpec
from raygrid.spec.serialization import to_plain

SAMPLES_VERSION = 3  # raise when prepared images or splits would come out, or be stored, differently
TRAINING_VERSION = 2  # raise when the same recipe would give other weights
CRAFTING_VERSION = 3  # raise when the same attack would give other scores


def samples_signature(
    dataset: DatasetSpec,
    splits: SplitSpec,
    seed: int,
    index_fingerprint: str,
    split_files: Mapping[str, str] | None = None,
) -> str:
    """Return the signature of prepared samples: inputs, preparation recipe, splits and seed.

    `split_files`, where the splits are read: a hash of each file's content
    (`raygrid.data.splits.resolve.content_hashes`). It stands in place of the whole `splits`: neither the paths nor the
    fractions, which nothing is drawn by, matter then.
    """
    return digest(
        {
            "version": SAMPLES_VERSION,
            "dataset": to_plain(dataset),
            "splits": {"files": split_files} if split_files else to_plain(splits),
            "seed": seed,
            "index": index_fingerprint,
        }
    )


def model_signature(study: StudySpec, model: ModelSpec, *, samples: str, start: str) -> str:
    """Return the signature of a trained model.

    Args:
        samples: signature of the modality's samples.
        start: what the weights start from: `random`, a checksum of a weights file, or the source model's signature.
    """
    return digest(
        {
            "version": TRAINING_VERSION,
            "model": to_plain(model),
            "recipe": to_plain(study.recipe_of(model)),
            "seed": study.seed,
            "samples": samples,
            "start": start,
        }
    )


def transfer_signature(study: StudySpec, *, samples: str, surrogate: str) -> str:
    """Return the signature of what one surrogate (empty for clean images) is attacked on and how.

    Neither the attacks nor the targets are in it: each attack gives the same images alone and beside others, and each
    target answers for itself. `raygrid.store.units` keeps them apart.
    """
    transfer = {
        name: value for name, value in cast(dict[str, Json], to_plain(study.transfer)).items() if name != "attacks"
    }
    return digest(
        {
            "version": CRAFTING_VERSION,
            "transfer": transfer,
            "seed": study.seed,
            "samples": samples,
            "surrogate": surrogate,
        }
    )
