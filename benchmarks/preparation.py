"""Images prepared per second and core: raygrid on one Ray CPU against plain loops over images in one process.

Enlarged phantoms fill the three official layouts, at the sizes and in the formats of the originals: fundus JPEG of 2592
x 3888, radiographs PNG of 1024 x 1024, patches in uncompressed HDF5. The plain loops read, crop at a threshold and
resize with Pillow and NumPy, image after image. One loop stores the same files as raygrid, Parquet with zstd in shards
of the same size; the other stores one uncompressed .npy. raygrid also writes ids, labels, checksums and done-markers.
Before the measurement Ray starts, one unmeasured run makes its workers import their modules, and labels and splits are
read. `raygrid, start-up excluded` subtracts the time of preparing two images.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import compare, write_result
from numpy.typing import NDArray
from PIL import Image

from raygrid.data.datasets import open_dataset
from raygrid.spec import DatasetSpec, ModalitySpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid
from raygrid.store.samples import shard_rows
from raygrid.study.cluster import connected
from raygrid.study.prepare import PreparedModality, prepare_missing, survey

Images = NDArray[np.uint8]

NUM_FUNDUS, NUM_XRAYS, NUM_PATCHES = 24, 600, 20_000
ROUNDS = 5
FUNDUS = DatasetSpec(loader="kaggle_dr", image_size=512, channels=3)
XRAY = DatasetSpec(loader="chestxray14", image_size=256, channels=1)
_MANY = 10**6  # images of the whole data set, of which these are a sample
PATCH = DatasetSpec(loader="pcam", image_size=96, channels=3)


def main() -> None:
    """Lay the data out, measure every modality, and write the result."""
    result = {}
    with tempfile.TemporaryDirectory() as name, connected(None, num_cpus=1):
        root = Path(name)
        for title, spec, lay_out, plain in (
            ("ophthalmology", FUNDUS, _lay_out_fundus, _plain_fundus),
            ("radiology", XRAY, _lay_out_xrays, _plain_xrays),
            ("pathology", PATCH, lay_out_patches, _plain_patches),
        ):
            lay_out(root)
            print(title)
            result[title] = _measured(root, surveyed(spec, root), plain)
    write_result("preparation", __doc__ or "", result)


def _measured(root: Path, whole: list[PreparedModality], plain: Callable[[Path], Iterator[Images]]) -> dict[str, Any]:
    """Return the rates of one modality."""
    few = [replace(one, table=one.table.groupby("part").head(1)) for one in whole]
    result = compare(
        {
            "plain loop to Parquet": partial(_to_parquet, plain, root),
            "plain loop to .npy": partial(_to_npy, plain, root),
            "raygrid": partial(prepare_surveyed, whole, root),
            "raygrid, two images": partial(prepare_surveyed, few, root),
        },
        rounds=ROUNDS,
        reference="plain loop to Parquet",
        unit="images",
    )
    median = {name: result[name]["images per second"]["median"] for name in result if name != "rounds"}
    count = len(whole[0].table)
    start_up = 2 / median["raygrid, two images"]
    rate = count / (count / median["raygrid"] - start_up)
    result["raygrid, start-up excluded"] = {
        "start-up, s": round(start_up, 3),
        "images per second": round(rate, 4),
        "ratio to plain loop to Parquet": round(rate / median["plain loop to Parquet"], 4),
    }
    print(f"  raygrid, start-up excluded: {result['raygrid, start-up excluded']}", flush=True)
    return result


def prepare(spec: DatasetSpec, root: Path) -> int:
    """Prepare one modality in a fresh study folder; return the number of images."""
    return prepare_surveyed(surveyed(spec, root), root)


def prepare_surveyed(surveyed: list[PreparedModality], root: Path) -> int:
    """Prepare what was surveyed, from the start; return the number of images."""
    shutil.rmtree(root / "study", ignore_errors=True)
    prepare_missing(surveyed, root)
    return len(surveyed[0].table)


def surveyed(spec: DatasetSpec, root: Path) -> list[PreparedModality]:
    """Return one modality's index and splits: what the plain loops do without, and what is not measured."""
    splits = SplitSpec(test_fraction=0.2 if spec.loader == "kaggle_dr" else None)  # the others come divided
    modality = ModalitySpec(name="measured", dataset=spec, splits=splits, recipe=Recipe(epochs=1))
    study = StudySpec(
        name="measured", seed=0, modalities=(modality,), models=(), transfer=TransferSpec(attacks=attack_grid((0.02,)))
    )
    return survey(study, root / "study", root)


def _to_parquet(plain: Callable[[Path], Iterator[Images]], root: Path) -> int:
    images, count = plain(root), 0
    first = next(images)
    images = chain([first], images)
    while shard := list(islice(images, shard_rows(first.nbytes, _MANY))):
        table = pa.table({"image": [image.tobytes() for image in shard]})
        pq.write_table(table, root / f"plain-{count}.parquet", compression="zstd", use_dictionary=False)
        count += len(shard)
    return count


def _to_npy(plain: Callable[[Path], Iterator[Images]], root: Path) -> int:
    images = np.stack(list(plain(root)))
    np.save(root / "plain.npy", images)
    return len(images)


def _plain_fundus(root: Path) -> Iterator[Images]:
    for path in sorted((root / "kaggle_dr").glob("t*/*.jpeg")):
        image = np.asarray(Image.open(path).convert("RGB"))
        bright = image.max(axis=2) > 20
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        side = max(image.shape[:2])
        square = np.zeros((side, side, 3), np.uint8)
        top, left = ((side - length) // 2 for length in image.shape[:2])
        square[top : top + image.shape[0], left : left + image.shape[1]] = image
        yield np.asarray(Image.fromarray(square).resize((512, 512), Image.Resampling.BICUBIC))


def _plain_xrays(root: Path) -> Iterator[Images]:
    for path in sorted((root / "chestxray14" / "images").glob("*.png")):
        yield np.asarray(Image.open(path).convert("L").resize((256, 256), Image.Resampling.BICUBIC))


def _plain_patches(root: Path) -> Iterator[Images]:
    for part in ("train", "valid", "test"):
        with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{part}_x.h5", "r") as file:
            for number in range(len(file["x"])):
                yield file["x"][number]


def _phantoms(loader: str, size: int, channels: int, count: int) -> Iterator[Images]:
    """Yield `count` phantoms, going round a few that were drawn once: drawing takes longer than what is measured."""
    spec = DatasetSpec(loader=loader, image_size=size, channels=channels, options={"patients": 40})
    dataset = open_dataset(spec, Path())
    drawn = [dataset.read(str(locator)) for locator in dataset.index().table["locator"][:40]]
    for number in range(count):
        yield drawn[number % len(drawn)]


def _lay_out_fundus(root: Path) -> None:
    folder = root / "kaggle_dr"
    rows: dict[str, list[str]] = {"train": ["image,level"], "test": ["image,level"]}
    for number, drawn in enumerate(_phantoms("phantom_fundus", 256, 3, NUM_FUNDUS)):
        part = "train" if number < NUM_FUNDUS // 2 else "test"
        name = f"{number // 2}_{('left', 'right')[number % 2]}"
        canvas = Image.new("RGB", (3888, 2592))
        canvas.paste(Image.fromarray(drawn).resize((2592, 2592), Image.Resampling.BICUBIC), (648, 0))
        (folder / part).mkdir(parents=True, exist_ok=True)
        canvas.save(folder / part / f"{name}.jpeg", quality=92)
        rows[part].append(f"{name},{number % 5}")
    (folder / "trainLabels.csv").write_text("\n".join(rows["train"]))
    (folder / "retinopathy_solution.csv").write_text("\n".join(rows["test"]))


def _lay_out_xrays(root: Path) -> None:
    folder = root / "chestxray14"
    (folder / "images").mkdir(parents=True)
    names = [f"{number:08d}_000.png" for number in range(NUM_XRAYS)]
    for name, drawn in zip(names, _phantoms("phantom_xray", 256, 1, NUM_XRAYS), strict=True):
        large = Image.fromarray(drawn[..., 0]).resize((1024, 1024), Image.Resampling.BICUBIC)
        large.save(folder / "images" / name)
    entries = [f"{name},{'Edema' if k % 3 else 'No Finding'},{k}" for k, name in enumerate(names)]
    (folder / "Data_Entry_2017.csv").write_text("\n".join(["Image Index,Finding Labels,Patient ID", *entries]))
    (folder / "train_val_list.txt").write_text("\n".join(names[: NUM_XRAYS // 2]))
    (folder / "test_list.txt").write_text("\n".join(names[NUM_XRAYS // 2 :]))


def lay_out_patches(root: Path, count: int = NUM_PATCHES) -> None:
    """Write six HDF5 files with `count` patches, two thirds of them for training."""
    images = np.stack(list(_phantoms("phantom_tissue", 96, 3, count)))
    labels = (np.arange(count) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
    (root / "pcam").mkdir()
    cuts = {"train": slice(0, 4 * count // 6), "valid": slice(4 * count // 6, 5 * count // 6)}
    cuts["test"] = slice(5 * count // 6, count)
    arrays: dict[str, Any] = {"x": images, "y": labels}
    for part, cut in cuts.items():
        for kind, array in arrays.items():
            path = root / "pcam" / f"camelyonpatch_level_2_split_{part}_{kind}.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset(kind, data=array[cut])


if __name__ == "__main__":
    main()
