"""Signatures: hashes of everything that a result depends on (data, code version, study), but not of resources."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from raygrid.hashing import Json, digest
from raygrid.spec import DatasetSpec, ModelSpec, SplitSpec, StudySpec
from raygrid.spec.data import DIFFERENT_PATIENTS
from raygrid.spec.serialization import to_plain

SAMPLES_VERSION = 3  # raise when prepared images or splits, or their storage, change
TRAINING_VERSION = 2  # raise when the same recipe gives other weights
CRAFTING_VERSION = 3  # raise when the same attack gives other scores


def samples_signature(
    dataset: DatasetSpec,
    splits: SplitSpec,
    seed: int,
    index_fingerprint: str,
    split_files: Mapping[str, str] | None = None,
) -> str:
    """Return the signature of prepared samples: inputs, preparation recipe, splits and seed.

    Args:
        index_fingerprint: hash of the data set's index: images, patients and labels.
        split_files: for splits read from files, a hash of each file's content
            (`raygrid.data.splits.resolve.content_hashes`). It replaces `splits` in the hash, since neither paths nor
            fractions have an effect then.
    """
    return digest(
        {
            "version": SAMPLES_VERSION,
            "dataset": _without_declaration(dataset),
            "splits": {"files": split_files} if split_files else to_plain(splits),
            "seed": seed,
            "index": index_fingerprint,
        }
    )


def _without_declaration(dataset: DatasetSpec) -> Json:
    """Return the data set without `different_patients`, which permits ids and changes none."""
    options = {name: value for name, value in dataset.options.items() if name != DIFFERENT_PATIENTS}
    return to_plain(replace(dataset, options=options))


def model_signature(study: StudySpec, model: ModelSpec, *, samples: str, start: str) -> str:
    """Return the signature of a trained model.

    Args:
        samples: signature of the modality's samples.
        start: identity of the initial weights: `random`, a checksum of a weights file, or the source model's signature.
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
    """Return the signature of the units of one surrogate: its images, settings and identity.

    Attacks and targets are not part of it: an attack gives the same images with or without others, and each target is
    scored independently. `raygrid.store.units` tracks both per score file.

    Args:
        surrogate: identities of the surrogate's models, joined by "+"; empty for clean images.
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
