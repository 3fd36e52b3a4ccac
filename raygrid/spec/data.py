"""The images of a study and the division of its patients."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from raygrid.errors import unknown_name
from raygrid.hashing import Json
from raygrid.spec._require import require
from raygrid.spec.serialization import ABSENT_BY_DEFAULT

SPLITS = ("d1", "d2", "d2_half", "d1_tenth", "development")
SPLIT_FILES = ("all", "test", *(s + role for s in SPLITS[:4] for role in ("", "/train", "/validation")))
MAX_REJECTED_SHARE = 0.001  # of a modality's images; a larger share stops the study
DIFFERENT_PATIENTS = "different_patients"  # the one option of loaders that permits data and changes none


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The images of a modality and the size at which raygrid prepares them.

    Attributes:
        loader: `kaggle_dr`, `chestxray14`, `pcam`, `medmnist`, `table` (your own images), `phantom_fundus`,
            `phantom_xray`, `phantom_tissue` or `phantom_textures` (`raygrid.data.datasets.DATASETS`).
        image_size: side of the square prepared image, pixels, at least 16 (phantoms: 32).
        channels: 1 (grey) or 3 (RGB). The perturbation of a grey image is grey.
        options: options of the loader, such as the number of phantom patients or the labels to use.

    Raises SpecError if `image_size` or `channels` is not allowed. The loader and its options are checked when the data
    set is opened.
    """

    loader: str
    image_size: int
    channels: int
    options: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.image_size >= 16, f"image_size is {self.image_size}; expected at least 16 pixels")
        require(self.channels in (1, 3), f"channels is {self.channels}; expected 1 or 3")


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """The division of the patients into test, d1 and d2, and of d1 and d2 into training and validation.

    All images of a patient stay together. `SplitSpec()` keeps the official test patients of the data set and draws the
    rest. Examples:

        SplitSpec(test_fraction=0.2)  # no official division: draw a fifth of the patients for testing
        SplitSpec(files={"d1": "my_clinic/d1.yml", "d2": "my_clinic/d2.yml"})

    Attributes:
        test_fraction: share of the patients that are drawn for testing, between 0 and 1; None keeps the official
            division of the data set, or the test images of `files`.
        validation_fraction: share of the patients of d1 and of d2 that choose the best epoch, between 0 and 1.
        files: name in `SPLIT_FILES` -> path, relative to the data root, of a file that gives the split instead of a
            draw (formats: `raygrid.data.splits.resolve`). The content of the files enters the signature, not the paths.

    Raises SpecError if a fraction is out of its range, a name of `files` is unknown, or `test_fraction` is set together
    with `files`.
    """

    test_fraction: float | None = None
    validation_fraction: float = 0.1
    files: Mapping[str, str] = field(default_factory=dict, metadata=ABSENT_BY_DEFAULT)

    def __post_init__(self) -> None:
        test = self.test_fraction
        require(test is None or 0 < test < 1, f"test_fraction is {test}; expected between 0 and 1, or None")
        require(
            0 < self.validation_fraction < 1,
            f"validation_fraction is {self.validation_fraction}; expected between 0 and 1",
        )
        for name in self.files:
            require(name in SPLIT_FILES, unknown_name("split file", name, SPLIT_FILES))
        require(
            test is None or not self.files,
            f"test_fraction is {test} beside split files; the test patients come from the files or from the official "
            "division: remove test_fraction",
        )
