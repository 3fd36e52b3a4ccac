"""Small generated copies of the data sets' layouts, and ways to damage them."""

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from raygrid.data.datasets import Dataset, open_dataset
from raygrid.spec import DatasetSpec

RNG = np.random.default_rng(0)


def fundus(height: int, width: int, centre: tuple[float, float], radius: float, border: int = 4) -> np.ndarray:
    """Return a reddish, vignetted disc on a black border with sensor noise, uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - centre[0], x - centre[1]) / radius
    disc = np.array([180.0, 90.0, 40.0]) * (1 - 0.6 * distance[..., None].clip(0, 1)) * (distance <= 1)[..., None]
    return (disc + RNG.integers(0, border + 1, disc.shape)).clip(0, 255).astype(np.uint8)


def save(array: np.ndarray, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def make_kaggle(data_root: Path) -> Path:
    """Write six photographs of three patients, one label file with byte order mark and CRLF; return the folder."""
    root = data_root / "kaggle_dr"
    for part, patients in (("train", (10, 13)), ("test", (1,))):
        for patient in patients:
            for eye in ("left", "right"):
                save(fundus(60, 90, (30, 45), 28), root / part / f"{patient}_{eye}.jpeg", quality=95)
    (root / "trainLabels.csv").write_bytes(
        b"\xef\xbb\xbfimage,level\r\n10_left,0\r\n10_right,1\r\n13_left,2\r\n13_right,4\r\n"
    )
    (root / "retinopathy_solution.csv").write_text("image,level,Usage\n1_left,3,Private\n1_right,0,Public\n")
    return root


ENTRIES = [
    ("00000001_000.png", "Cardiomegaly", 1),
    ("00000001_001.png", "Cardiomegaly|Pleural_Thickening", 1),
    ("00000002_000.png", "No Finding", 2),
    ("00000003_000.png", "Hernia", 3),
]


def make_chest(data_root: Path) -> Path:
    """Write the first three radiographs of ENTRIES, a row for all four, and lists of the first three."""
    root = data_root / "chestxray14"
    for name, _, _ in ENTRIES[:3]:
        save(RNG.integers(0, 256, (64, 64)).astype(np.uint8), root / "images" / name)
    write_entries(root / "Data_Entry_2017.csv", ENTRIES)
    (root / "train_val_list.txt").write_bytes(b"\xef\xbb\xbf00000001_000.png\r\n00000001_001.png\r\n")
    (root / "test_list.txt").write_text("00000002_000.png")
    return root


def write_entries(path: Path, entries: list[tuple[str, str, int]]) -> None:
    """Write rows of (image, findings, patient) as `Data_Entry_2017.csv` has them."""
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age"]
    path.write_text("\n".join([*lines, *(f"{name},{found},0,{patient},50" for name, found, patient in entries)]) + "\n")


def make_pcam(data_root: Path) -> dict[str, np.ndarray]:
    """Write the six HDF5 files with 5, 3 and 4 patches; return the patches by part."""
    root = data_root / "pcam"
    root.mkdir()
    made = {}
    for part, count in (("train", 5), ("valid", 3), ("test", 4)):
        made[part] = RNG.integers(0, 256, (count, 96, 96, 3)).astype(np.uint8)
        labels = (np.arange(count) % 2).astype(np.uint8).reshape(-1, 1, 1, 1)
        for kind, array in (("x", made[part]), ("y", labels)):
            with h5py.File(root / f"camelyonpatch_level_2_split_{part}_{kind}.h5", "w") as file:
                file.create_dataset(kind, data=array, compression="gzip")
    return made


def make_table(data_root: Path, grey: np.ndarray) -> None:
    """Write `table.csv` with two images, of which `whole.png` is there and `image` is not."""
    save(grey, data_root / "whole.png")
    (data_root / "table.csv").write_text("image,patient,mass\nimage,1,0\nwhole.png,2,1\n")


def open_small(loader: str, data_root: Path, channels: int, **options: object) -> Dataset:
    """Return a data set with images of 32 x 32 pixels."""
    return open_dataset(DatasetSpec(loader=loader, image_size=32, channels=channels, options=options), data_root)


def cut(path: Path, share: float = 0.5) -> None:
    """Keep the first `share` of a file, as an aborted download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path, position: int) -> None:
    """Invert the bits of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
