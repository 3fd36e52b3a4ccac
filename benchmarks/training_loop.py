"""Training steps per second: raygrid's loop against a plain textbook PyTorch loop on the same network and images.

The textbook loop is that of tutorials: a Dataset that decodes nothing (its images lie in memory, which favours it), CPU
augmentation image by image with torchvision, a DataLoader with workers, NCHW, float32, Adam. raygrid reads the same
images from its mapped file, augments the batch on the device by keyed draws, computes channels-last and checks every
loss and gradient. Both may use two CPU threads; the workers of the DataLoader come on top, as they do in practice.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import compare, write_result
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raygrid.data.splits.draw import assign_splits
from raygrid.io.files import write_json, write_text
from raygrid.io.paths import CACHE_VARIABLE
from raygrid.models.architectures import build_classifier
from raygrid.models.epoch import start, train_epoch
from raygrid.models.numerics import set_numerics
from raygrid.spec import Recipe, SplitSpec
from raygrid.store.samples import SampleBatch, Samples, TrainingSet, write_shard

BATCH, STEPS, THREADS = 16, 12, 2
NETWORKS = (("densenet121", 96), ("inception_v3", 96), ("tf_efficientnet_lite0", 64))
RECIPE = Recipe(
    epochs=1000,
    batch_size=BATCH,
    augmentations=("flip_horizontal", "flip_vertical", "rotate", "colour"),
    threads=THREADS,
)


class TextbookImages(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory, augmented one by one."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        self._images, self._labels = images, labels
        self._transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomRotation(180, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.ColorJitter(brightness=0.15, contrast=0.15),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._transform(self._images[index]), torch.tensor(self._labels[index], dtype=torch.float32)


def main() -> None:
    """Measure every network and write the result."""
    set_numerics(threads=THREADS)
    result = {}
    for arch, side in NETWORKS:
        print(f"{arch}, {side} px, batch {BATCH}")
        with tempfile.TemporaryDirectory() as folder:
            os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
            training = _store(Path(folder), side)
            contenders = {f"textbook, {n} workers": _textbook(arch, training, n) for n in (0, 2)}
            result[f"{arch}, {side} px"] = compare(
                contenders | {"raygrid": _raygrid(arch, training)},
                rounds=5,
                reference="textbook, 2 workers",
                unit="steps",
            )
    write_result("training_loop", __doc__ or "", result)


def _textbook(arch: str, training: TrainingSet, workers: int) -> Callable[[], int]:
    network = build_classifier(arch, channels=3, num_outputs=1, seed=0).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    data = TextbookImages(training.images[slice(None)], training.labels)
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0)
    return partial(_textbook_epoch, network, optimizer, loader)


def _textbook_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, loader: "DataLoader[tuple[Tensor, Tensor]]"
) -> int:
    network.train()
    loss_function, count = nn.BCEWithLogitsLoss(), 0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_function(network(images), labels)
        loss.backward()
        optimizer.step()
        count += 1
    return count


def _raygrid(arch: str, training: TrainingSet) -> Callable[[], int]:
    state = start(build_classifier(arch, channels=3, num_outputs=1, seed=0), RECIPE)

    def epoch() -> int:
        train_epoch(state, training, RECIPE, 1, 0, "cpu")
        return len(training) // BATCH

    return epoch


def _store(folder: Path, side: int) -> TrainingSet:
    """Write random images as prepared samples and open those of one split: STEPS batches."""
    count = 2 * (BATCH * STEPS + 6)
    ids = [f"i{k:05d}" for k in range(count)]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = (np.arange(count) % 2).astype(np.uint8)
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "part": "", "label": labels})
    splits = assign_splits(table, ("label",), SplitSpec(test_fraction=0.01, validation_fraction=0.01), 0)
    write_shard(folder / "0.parquet", ["label"], SampleBatch(tuple(ids), tuple(ids), labels[:, None], images))
    write_text(folder / "splits.csv", splits.to_csv(index=False))
    shards = [{"file": "0.parquet", "part": "development", "rows": count}]
    write_json(folder / "manifest.json", {"labels": ["label"], "shards": shards})
    return Samples(folder).training_set("d1", "train")


if __name__ == "__main__":
    main()
