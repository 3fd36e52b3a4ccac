"""The rate of training batches: raygrid's mapped images against ImageFolder with a DataLoader, same decoding.

2,000 prepared images of random texture are stored twice: as raygrid's Parquet shards, mapped through the node's cache,
and as PNG files in one folder per class. Each contender delivers one epoch of random batches of 32 as uint8 tensors.
Decoding into the cache happens once per node and is measured apart, as `first use`.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import compare, write_result
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from raygrid.data.splits.draw import assign_splits
from raygrid.io.files import write_json, write_text
from raygrid.io.paths import CACHE_VARIABLE
from raygrid.spec import SplitSpec
from raygrid.store.samples import SampleBatch, Samples, TrainingSet, shard_rows, write_shard

SIDES = (96, 256)  # pixels: patches, radiographs
NUM_IMAGES = 2000
BATCH = 32


def main() -> None:
    """Measure every side and write the result."""
    torch.set_num_threads(1)
    result = {}
    for side in SIDES:
        print(f"{NUM_IMAGES} images of {side} px")
        with tempfile.TemporaryDirectory() as folder:
            os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
            samples, files = _store(Path(folder), side)
            begun = time.perf_counter()
            training = samples.training_set("development", "train")
            first_use = round(time.perf_counter() - begun, 3)
            contenders = {
                f"ImageFolder, {workers} workers": partial(_epoch_of_files, files, workers) for workers in (0, 2)
            }
            measured = compare(
                contenders | {"mapped (raygrid)": partial(_epoch_of_mapped, training)},
                rounds=5,
                reference="ImageFolder, 0 workers",
                unit="batches",
            )
            result[f"{side} px"] = {"first use, seconds": first_use, **measured}
    write_result("training_images", __doc__ or "", result)


def _store(folder: Path, side: int) -> tuple[Samples, ImageFolder]:
    """Write the same images as samples and as PNG files."""
    ids = [f"i{k:05d}" for k in range(NUM_IMAGES)]
    labels = (np.arange(NUM_IMAGES) % 2).astype(np.uint8)
    images = np.stack(list(_textures(side)))
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "part": "", "label": labels})
    splits = assign_splits(table, ("label",), SplitSpec(test_fraction=0.01, validation_fraction=0.01), 0)
    shards, step = [], shard_rows(images[0].nbytes, NUM_IMAGES)
    for number, first in enumerate(range(0, NUM_IMAGES, step)):
        some = slice(first, first + step)
        batch = SampleBatch(tuple(ids[some]), tuple(ids[some]), labels[some, None], images[some])
        write_shard(folder / "samples" / f"{number}.parquet", ["label"], batch)
        shards.append({"file": f"{number}.parquet", "part": "development", "rows": len(batch)})
    write_text(folder / "samples" / "splits.csv", splits.to_csv(index=False))
    write_json(folder / "samples" / "manifest.json", {"labels": ["label"], "shards": shards})
    for name, label, image in zip(ids, labels, images, strict=True):
        path = folder / "files" / str(label) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return Samples(folder / "samples"), ImageFolder(str(folder / "files"), transform=pil_to_tensor)


def _textures(side: int) -> Iterator[NDArray[np.uint8]]:
    """Smooth noise, since PNG of pure noise or of flat colour would cost what no photograph does."""
    generator = np.random.default_rng(0)
    for _ in range(NUM_IMAGES):
        noise = gaussian_filter(generator.normal(size=(side, side, 3)), (2, 2, 0)) * 250 + 128
        yield (noise + generator.normal(size=noise.shape) * 2).clip(0, 255).astype(np.uint8)


def _epoch_of_files(files: ImageFolder, workers: int) -> int:
    loader = DataLoader(files, batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True)
    return sum(1 for images, _ in loader if images.shape[0] == BATCH)


def _epoch_of_mapped(training: TrainingSet) -> int:
    order = np.random.default_rng().permutation(len(training))
    count = 0
    for start in range(0, len(order) - BATCH + 1, BATCH):
        images = torch.from_numpy(training.images[order[start : start + BATCH]]).permute(0, 3, 1, 2).contiguous()
        count += int(images.shape[0] == BATCH)
    return count


if __name__ == "__main__":
    main()
