"""A study of one small model on small noisy images, without Ray."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raygrid.data.splits.draw import assign_splits
from raygrid.io.files import write_json, write_text
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
from raygrid.store.samples import SampleBatch, Samples, write_shard

MODEL = ModelSpec(modality="toy", arch="test_resnet", init="random", split="d1")
RECIPE = Recipe(epochs=3, batch_size=8, augmentations=("flip_horizontal", "rotate", "translate", "colour"))


def make_zoo(folder: Path, recipe: Recipe = RECIPE, **changes: Any) -> StudyFolder:
    """Return the folder of a study of `MODEL`, with `changes` to the study's fields."""
    modality = ModalitySpec(
        name="toy",
        dataset=DatasetSpec(loader="phantom_fundus", image_size=32, channels=3),
        splits=SplitSpec(test_fraction=0.2, validation_fraction=0.3),
        recipe=recipe,
    )
    transfer = TransferSpec(attacks=attack_grid((0.02,)))
    study = StudySpec(name="toy", seed=3, modalities=(modality,), models=(MODEL,), transfer=transfer)
    return StudyFolder(folder, replace(study, **changes), {"toy": "0" * 64})


def make_samples(folder: Path) -> Samples:
    """Write prepared samples: 120 noisy images of 32 pixels, positives brighter."""
    generator = np.random.default_rng(1)
    ids = [f"i{k:03d}" for k in range(120)]
    labels = generator.integers(0, 2, (120, 1), dtype=np.uint8)
    images = generator.integers(0, 200, (120, 32, 32, 3), dtype=np.uint8) + labels[:, :, None, None] * 40
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "part": "", "finding": labels[:, 0]})
    splits = assign_splits(table, ("finding",), SplitSpec(test_fraction=0.2, validation_fraction=0.3), 3)
    in_test = np.isin(ids, splits.loc[splits["part"] == "test", "patient_id"])
    shards, counts = [], {}
    for part, chosen in (("development", ~in_test), ("test", in_test)):
        names = tuple(np.array(ids)[chosen].tolist())
        batch = SampleBatch(names, names, labels[chosen], images[chosen])
        write_shard(folder / f"{part}.parquet", ["finding"], batch)
        shards.append({"file": f"{part}.parquet", "part": part, "rows": len(batch)})
        positives = int(batch.labels.sum())
        counts[part] = {"images": len(batch), "patients": len(batch), "positive_finding": positives}
    write_text(folder / "splits.csv", splits.to_csv(index=False))
    manifest = {"title": "toy", "phantom": True, "labels": ["finding"], "counts": counts}
    write_json(folder / "manifest.json", {**manifest, "shards": shards})
    return Samples(folder)
