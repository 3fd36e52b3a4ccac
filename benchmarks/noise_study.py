"""A study on images of noise, for benchmarks of everything but the models: it is ready in seconds."""

from pathlib import Path

import numpy as np
import pandas as pd

from raygrid.data.splits.draw import assign_splits
from raygrid.io.files import write_json, write_text
from raygrid.models.training import train
from raygrid.spec import (
    DatasetSpec,
    ModalitySpec,
    ModelSpec,
    Recipe,
    SplitSpec,
    StudySpec,
    TransferSpec,
    attack_grid,
)
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import SampleBatch, Samples, samples_dir, write_shard

MODALITY = "noise"
NUM_DEVELOPMENT = 200
_SIGNATURE = "0" * 64
_SHARD_ROWS = 1000


def make_noise_study(folder: Path, *, archs: tuple[str, ...], side: int, num_test: int, block_size: int) -> StudyFolder:
    """Return a study of each architecture on d1 and d2 with trained models, its test images uint8 noise."""
    modality = ModalitySpec(
        name=MODALITY,
        dataset=DatasetSpec(loader="phantom_fundus", image_size=side, channels=3),
        splits=SplitSpec(test_fraction=None, validation_fraction=0.3),
        recipe=Recipe(epochs=1, batch_size=16),
    )
    models = tuple(
        ModelSpec(modality=MODALITY, arch=arch, init="random", split=split) for arch in archs for split in ("d1", "d2")
    )
    transfer = TransferSpec(attacks=attack_grid((0.02, 0.04, 0.06)), block_size=block_size)
    study = StudySpec(name="noise", seed=1, modalities=(modality,), models=models, transfer=transfer)
    zoo = StudyFolder(folder, study, {MODALITY: _SIGNATURE})
    samples = _write_samples(samples_dir(folder, MODALITY, _SIGNATURE), modality, num_test)
    write_json(folder / "study.json", {"study": study.to_dict(), "samples": dict(zoo.sample_signatures)})
    for model in models:
        train(zoo, model, samples)
    return zoo


def _write_samples(folder: Path, modality: ModalitySpec, num_test: int) -> Samples:
    generator = np.random.default_rng(1)
    shards, tables = [], []
    for part, count in (("development", NUM_DEVELOPMENT), ("test", num_test)):
        for number, start in enumerate(range(0, count, _SHARD_ROWS)):
            rows = min(_SHARD_ROWS, count - start)
            ids = tuple(f"{part}-{start + k:06d}" for k in range(rows))
            labels = generator.integers(0, 2, (rows, 1), dtype=np.uint8)
            side = modality.dataset.image_size
            images = generator.integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
            name = f"{part}-{number:05d}.parquet"
            write_shard(folder / name, ["finding"], SampleBatch(ids, ids, labels, images))
            shards.append({"file": name, "part": part, "rows": rows})
            tables.append(pd.DataFrame({"image_id": ids, "patient_id": ids, "part": part, "finding": labels[:, 0]}))
    splits = assign_splits(pd.concat(tables, ignore_index=True), ("finding",), modality.splits, seed=1)
    write_text(folder / "splits.csv", splits.to_csv(index=False))
    manifest = {"title": "noise", "phantom": True, "labels": ["finding"], "shards": shards}
    write_json(folder / "manifest.json", manifest)
    return Samples(folder)
