"""What the generated test phantoms share: options, ids, index, label noise and vectorised drawing.

Phantoms are generated test pictures, not medical evidence: they exist so that a whole study can run, and be
tested, on a machine without patient data. A picture and its labels are pure functions of the image id and SEED.
"""

import re
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from raygrid.data.datasets.base import INDEX_COLUMNS, Index
from raygrid.errors import DataError, SpecError, unknown_name
from raygrid.hashing import keyed_generator
from raygrid.spec import DatasetSpec

SEED = 20260713  # of every phantom; independent of a study's seed, so that an image id means one picture
OPTIONS = ("patients",)

Plane = NDArray[np.float32]
Floats = NDArray[np.float64]


class Phantom(ABC):
    """A generator of test phantoms; subclasses say how truth and picture follow from an image id.

    Attributes:
        kind: name of the generator, part of every random key.
        labels: names of the label columns.
        channels: what the pictures have; `spec.channels` must agree.
        label_noise: share of labels in the index that differ from the drawn truth.
        version: raise when a picture or label would come out differently.
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
        """Take the options of `spec`; nothing is read from `data_root`. Raises SpecError for bad options."""
        del data_root
        if spec.channels != self.channels:
            raise SpecError(f"{spec.loader} has {self.channels} channel(s), got channels={spec.channels}")
        if spec.image_size < 32:
            raise SpecError(f"{spec.loader} cannot be drawn at {spec.image_size} pixels; at least 32 are needed")
        for name in spec.options:
            if name not in OPTIONS:
                raise SpecError(f"{spec.loader}: {unknown_name('option', name, OPTIONS)}")
        patients = spec.options.get("patients")
        if not isinstance(patients, int) or isinstance(patients, bool) or not 1 <= patients < 100_000:
            raise SpecError(f"{spec.loader} needs the option patients, an integer from 1 to 99999; got {patients!r}")
        self.size = spec.image_size
        self.patients = patients

    def missing(self) -> list[str]:
        """Return an empty list: phantoms need no files."""
        return []

    def index(self) -> Index:
        """Return the table of all images of all patients, labels with label noise."""
        rows = [
            (image_id, patient_id, "", image_id, f"{self.kind} phantom v{self.version}", *self.shown_labels(image_id))
            for patient_id in map(self.patient_id, range(self.patients))
            for image_id in self.image_ids(patient_id)
        ]
        table = pd.DataFrame(rows, columns=[*INDEX_COLUMNS, *self.labels])
        return Index(self.labels, table.astype(dict.fromkeys(self.labels, np.uint8)))

    def read(self, locator: str) -> NDArray[np.uint8]:
        """Return the picture of one image id, uint8 (size, size, channels). Raises DataError for no such id."""
        if not re.fullmatch(self.id_pattern, locator):
            raise DataError(f"{locator!r} is no image id of {self.title}; expected the pattern {self.id_pattern}")
        picture = self.draw(locator).reshape(self.size, self.size, self.channels)
        return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5, dtype=np.uint8)

    def source_size(self, locator: str) -> tuple[int, int]:
        """Return (height, width) of a picture: phantoms are drawn at the size of the study."""
        del locator
        return (self.size, self.size)

    def shown_labels(self, image_id: str) -> tuple[int, ...]:
        """Return the 0/1 labels of the index: the truth, some of it flipped."""
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
        """Return what is drawn, 0/1 per label."""

    @abstractmethod
    def draw(self, image_id: str) -> Plane:
        """Return the picture, (size, size) or (size, size, channels), 0 black to 1 white."""


@lru_cache(maxsize=8)
def pixel_grid(size: int) -> tuple[Plane, Plane]:
    """Return y (size, 1) and x (1, size) of the pixel centres, in [0, 1] over the picture."""
    line = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return line[:, None], line[None, :]


@lru_cache(maxsize=64)
def _spline_weights(size: int, cells: int) -> Floats:
    position = (np.arange(size) + 0.5) / size * cells
    distance = np.abs(position[:, None] + 1 - np.arange(cells + 3)[None, :])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    return np.asarray(np.where(distance < 1, near, far))


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Return Gaussian noise (size, size) of about unit variance, smooth over 1/`cells` of the picture."""
    weights = _spline_weights(size, cells)
    return (weights @ rng.standard_normal((cells + 3, cells + 3)) @ weights.T / 0.48).astype(np.float32)


def sensor_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Plane:
    """Return independent Gaussian noise of standard deviation `sigma` for every pixel and channel."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)


def soft_step(value: Plane, width: float) -> Plane:
    """Return 0 below zero and 1 above, blended linearly over `width`."""
    return np.asarray(np.clip(value / np.float32(width) + np.float32(0.5), 0, 1))


def bump(size: int, y: float, x: float, ry: float, rx: float) -> Plane:
    """Return a Gaussian hill (size, size) of height 1 with standard deviations `ry`, `rx`."""
    gy, gx = pixel_grid(size)
    return np.exp(-(((gy - y) / ry) ** 2) / 2) * np.exp(-(((gx - x) / rx) ** 2) / 2)


def blur(picture: Plane, sigma: float) -> Plane:
    """Return the picture smoothed over `sigma`, in shares of its side."""
    pixels = sigma * picture.shape[0]
    axes = (pixels, pixels, 0.0)[: picture.ndim]
    return np.asarray(gaussian_filter(picture, axes, mode="nearest", truncate=2.5), dtype=np.float32)


def paint_blobs(
    size: int,
    centres: Floats,
    radii: Floats,
    strengths: Floats | float = 1.0,
    *,
    angles: Floats | None = None,
    phases: Floats | None = None,
    wobble: float = 0.12,
    edge: float = 1.0,
) -> Plane:
    """Return ellipses on black (size, size), the strongest where they overlap.

    Args:
        centres: (n, 2) as y, x in [0, 1]; radii: (n, 2), along and across `angles` (radians), in shares of the side.
        strengths: (n,) grey value of each.
        phases: (n,) where the lobes of irregular outlines lie, radians; `wobble` is their depth.
        edge: width of the rim in pixels.
    """
    canvas = np.zeros((size + 2) ** 2, np.float32)
    count = len(centres)
    if count == 0:
        return np.zeros((size, size), np.float32)
    middle, pixel_radii = centres * size - 0.5, np.maximum(radii * size, 0.05).astype(np.float32)
    reach = int(np.ceil(pixel_radii.max() * (1 if phases is None else 1 + wobble) + edge / 2))
    spots = np.rint(middle).astype(np.int64)[:, :, None] + np.arange(-reach, reach + 1)
    away = (spots - middle[:, :, None]).astype(np.float32)
    dy, dx = away[:, 0, :, None], away[:, 1, None, :]
    if angles is not None:
        cos, sin = (f(angles).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
        dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
    ratio = np.sqrt((dx / pixel_radii[:, 0, None, None]) ** 2 + (dy / pixel_radii[:, 1, None, None]) ** 2)
    if phases is not None:
        lobes = phases.astype(np.float32)[:, None, None]
        ratio = ratio / (1 + np.float32(wobble) * np.cos(3 * np.arctan2(dy, dx) + lobes))
    grey = np.broadcast_to(strengths, count).astype(np.float32)[:, None, None]
    cover = np.clip((1 - ratio) * (pixel_radii.min(axis=1)[:, None, None] / np.float32(edge)) + 0.5, 0, 1) * grey
    inside = np.clip(spots + 1, 0, size + 1)  # what leaves the picture lands in a rim that is cut off below
    np.maximum.at(canvas, (inside[:, 0, :, None] * (size + 2) + inside[:, 1, None, :]).ravel(), cover.ravel())
    return canvas.reshape(size + 2, size + 2)[1:-1, 1:-1]


def wander(
    rng: np.random.Generator,
    starts: Floats,
    headings: Floats,
    lengths: Floats,
    bends: Floats,
    *,
    steps: int,
    shake: float,
) -> Floats:
    """Return curves (n, steps, 2) as y, x that leave `starts` (n, 2), turn by `bends` radians and tremble."""
    turns = bends[:, None] / steps + rng.normal(0, shake, (len(starts), steps))
    angle = headings[:, None] + np.cumsum(turns, axis=1)
    moves = np.stack([np.sin(angle), np.cos(angle)], axis=2) * (lengths / steps)[:, None, None]
    return np.asarray(starts[:, None] + np.cumsum(moves, axis=1))


def paint_curves(size: int, curves: Floats, widths: Floats) -> Plane:
    """Return curves (n, steps, 2) of half-widths (n, steps), in shares of the side, as white lines on black."""
    gap = np.abs(np.diff(curves, axis=1)).max(initial=0) * size
    fraction = np.linspace(0, 1, max(1, int(np.ceil(gap / 1.2))), endpoint=False)
    blend = fraction[None, None, :, None]
    points = curves[:, :-1, None] * (1 - blend) + curves[:, 1:, None] * blend
    radii = np.broadcast_to(widths[:, :-1, None, None], (*points.shape[:3], 2))
    return paint_blobs(size, points.reshape(-1, 2), radii.reshape(-1, 2))
