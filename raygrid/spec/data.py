"""Which images a study uses, and how its patients are divided."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raygrid.errors import unknown_name
from raygrid.hashing import Json
from raygrid.spec._require import require
from raygrid.spec.serialization import ABSENT_BY_DEFAULT

SPLITS = ("d1", "d2", "d2_half", "d1_tenth", "development")
SPLIT_FILES = ("all", "test", *(s + role for s in SPLITS[:4] for role in ("", "/train", "/validation")))
MAX_REJECTED_SHARE = 0.001  # of a modality's images; more stop a study


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Which images, and at what size they are prepared.

    Attributes:
        loader: name in `raygrid.data.datasets.DATASETS`.
        image_size: side of the square prepared image, pixels.
        channels: 1 (grey) or 3 (RGB); a perturbation of a grey image stays grey.
        options: what the loader accepts beyond that (number of phantom patients, the labels to use, ...).
    """

    loader: str
    image_size: int
    channels: int
    options: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.image_size >= 16, f"image_size is {self.image_size}; at least 16 pixels are needed")
        require(self.channels in (1, 3), f"channels is {self.channels}; expected 1 or 3")


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """How patients are divided.

    Attributes:
        test_fraction: share of patients kept for testing; None uses the data set's official division.
        validation_fraction: share of each development split's patients that choose the best epoch.
        files: name in `SPLIT_FILES` -> path, relative to the data root, of a file that gives the split in place of a
            draw (see `raygrid.data.splits.resolve`). What the files say enters the signature, not their paths.
    """

    test_fraction: float | None = None
    validation_fraction: float = 0.1
    files: Mapping[str, str] = field(default_factory=dict, metadata=ABSENT_BY_DEFAULT)

    def __post_init__(self) -> None:
        test = self.test_fraction
        require(test is None or 0 < test < 1, f"test_fraction is {test}; expected between 0 and 1, or None")
        require(0 < self.validation_fraction < 1, f"validation_fraction is {self.validation_fraction}; expected 0 to 1")
        for name in self.files:
            require(name in SPLIT_FILES, unknown_name("split file", name, SPLIT_FILES))
        require(
            test is None or not self.files,
            f"test_fraction is {test} beside split files; the files, or the official division, say who is tested: "
            "leave it out",
        )
