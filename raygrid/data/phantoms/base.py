"""The base class of generated test phantoms: options, ids, index and label noise.

Phantoms are generated test pictures, not medical evidence. With them a whole study can run, and be tested, on a
machine without patient data. A picture and its labels are pure functions of the image id and SEED.
"""

import re
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.data.datasets.base import INDEX_COLUMNS, Index
from raygrid.data.phantoms.drawing import Plane
from raygrid.errors import DataError, SpecError, unknown_name
from raygrid.hashing import keyed_generator
from raygrid.spec import DatasetSpec

SEED = 20260713  # of every phantom; independent of the study's seed, so that an image id always means the same picture
OPTIONS = ("patients",)


class Phantom(ABC):
    """A generator of test phantoms; subclasses derive the true labels and the picture from an image id.

    Attributes:
        kind: name of the generator, part of every random key.
        labels: names of the label columns.
        channels: number of channels of a picture; `spec.channels` must be equal.
        label_noise: share of labels in the index that differ from the true labels.
        version: number to increase with every change of a picture or label.
        id_pattern: regular expression that every image id matches.
    """

    title: str
    phantom: bool = True
    published: tuple[int, int | None, int] | None = None
    kind: str
    labels: tuple[str, ...]
    channels: int = 3
    label_noise: float = 0.045
    version: int = 1
    id_pattern: str = r"p\d{5}-\d"

    def __init__(self, spec: DatasetSpec, data_root: Path) -> None:
        """Read the options of `spec`; `data_root` is not used.

        Raises SpecError if the channels, the image size or an option is not valid for this phantom.
        """
        del data_root
        if spec.channels != self.channels:
            raise SpecError(
                f"{spec.loader}: expected channels={self.channels}, got channels={spec.channels}; "
                f"set channels={self.channels}"
            )
        if spec.image_size < 32:
            raise SpecError(
                f"{spec.loader}: image_size is {spec.image_size}, expected at least 32 pixels; set a larger image_size"
            )
        for name in spec.options:
            if name not in OPTIONS:
                raise SpecError(f"{spec.loader}: {unknown_name('option', name, OPTIONS)}")
        patients = spec.options.get("patients")
        if not isinstance(patients, int) or isinstance(patients, bool) or not 1 <= patients < 100_000:
            raise SpecError(
                f"{spec.loader} needs the option patients, an integer from 1 to 99999; got {patients!r}; "
                "set options={'patients': ...}"
            )
        self.size = spec.image_size
        self.patients = patients

    def missing(self) -> list[str]:
        """Return an empty list: phantoms need no files."""
        return []

    def index(self) -> Index:
        """Return the index of all images of all patients; its labels contain label noise."""
        rows = [
            (image_id, patient_id, "", image_id, f"{self.kind} phantom v{self.version}", *self.shown_labels(image_id))
            for patient_id in map(self.patient_id, range(self.patients))
            for image_id in self.image_ids(patient_id)
        ]
        table = pd.DataFrame(rows, columns=[*INDEX_COLUMNS, *self.labels])
        return Index(self.labels, table.astype(dict.fromkeys(self.labels, np.uint8)))

    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return the picture of one image id, uint8 (size, size, channels). Raises DataError if the id is not valid."""
        if not re.fullmatch(self.id_pattern, locator):
            raise DataError(f"{self.title}: image id is {locator!r}, expected the pattern {self.id_pattern}")
        picture = self.draw(locator).reshape(self.size, self.size, self.channels)
        return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5, dtype=np.uint8)

    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) of a picture, in pixels: phantoms are drawn at the size of the study."""
        del locator
        return (self.size, self.size)

    def shown_labels(self, image_id: str) -> tuple[int, ...]:
        """Return the labels in the index, 0 or 1 each: the true labels, of which a share `label_noise` is flipped."""
        flips = self.generator(image_id, "label noise").random(len(self.labels)) < self.label_noise
        return tuple(int(true) ^ int(flip) for true, flip in zip(self.truth(image_id), flips, strict=True))

    def generator(self, *key: str) -> np.random.Generator:
        """Return a fresh generator for this kind of phantom and `key` (an image or patient id, a purpose)."""
        return keyed_generator(SEED, self.kind, *key)

    def patient_id(self, number: int) -> str:
        """Return the id of one patient."""
        return f"p{number:05d}"

    @abstractmethod
    def image_ids(self, patient_id: str) -> list[str]:
        """Return the ids of one patient's images."""

    @abstractmethod
    def truth(self, image_id: str) -> tuple[int, ...]:
        """Return the true labels of the picture, 0 or 1 each."""

    @abstractmethod
    def draw(self, image_id: str) -> Plane:
        """Return the picture, (size, size) or (size, size, channels), from 0 (black) to 1 (white)."""
