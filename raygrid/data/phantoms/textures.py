"""Generated natural-looking textures, a task for pre-training: test phantoms, not medical evidence."""

from collections.abc import Callable

import numpy as np

from raygrid.data.phantoms.base import Phantom
from raygrid.data.phantoms.drawing import (
    Plane,
    blur,
    paint_blobs,
    paint_curves,
    pixel_grid,
    sensor_noise,
    smooth_noise,
    wander,
)

Rng = np.random.Generator


class PhantomTextures(Phantom):
    """Colour textures in eight classes, one-hot labels without noise, each image its own patient."""

    title = "Texture phantom (generated, for pre-training)"
    kind = "textures"
    label_noise = 0.0
    id_pattern = r"t\d{6}"
    labels = ("stripes", "checks", "spots", "branches", "rings", "cells", "clouds", "dots")

    def patient_id(self, number: int) -> str:
        """Return the id of one patient, which is also the id of the image."""
        return f"t{number:06d}"

    def image_ids(self, patient_id: str) -> list[str]:
        """Return the single image of a patient."""
        return [patient_id]

    def truth(self, image_id: str) -> tuple[int, ...]:
        """Return the class, one-hot over `labels`."""
        chosen = int(self.generator(image_id, "class").integers(len(self.labels)))
        return tuple(int(number == chosen) for number in range(len(self.labels)))

    def draw(self, image_id: str) -> Plane:
        """Return the texture (size, size, 3) in two random colours that differ in brightness."""
        rng = self.generator(image_id)
        pattern = PATTERNS[self.truth(image_id).index(1)](rng, self.size)
        light, dark = rng.uniform(0.45, 1.0, 3), rng.uniform(0.0, 0.5, 3)
        if rng.random() < 0.5:
            light, dark = dark, light
        shade = 1 + 0.1 * smooth_noise(rng, self.size, 3)
        picture = (dark + (light - dark) * pattern[:, :, None]) * shade[:, :, None]
        picture = blur(picture.astype(np.float32), rng.uniform(0.002, 0.012))
        return picture + sensor_noise(rng, picture.shape, rng.uniform(0.01, 0.05))


def _turned(rng: Rng, size: int) -> tuple[Plane, Plane]:
    """Return rotated and slightly warped coordinates (size, size)."""
    y, x = pixel_grid(size)
    angle = np.float32(rng.uniform(0, 2 * np.pi))
    warp = [0.015 * smooth_noise(rng, size, 3) for _ in range(2)]
    return y * np.cos(angle) - x * np.sin(angle) + warp[0], x * np.cos(angle) + y * np.sin(angle) + warp[1]


def _stripes(rng: Rng, size: int) -> Plane:
    along, _ = _turned(rng, size)
    return np.asarray(0.5 + 0.5 * np.tanh(rng.uniform(0.8, 4) * np.sin(rng.uniform(25, 80) * along)))


def _checks(rng: Rng, size: int) -> Plane:
    along, across = _turned(rng, size)
    pitch = rng.uniform(18, 50)
    return np.asarray(0.5 + 0.5 * np.tanh(4 * np.sin(pitch * along) * np.sin(pitch * across)))


def _spots(rng: Rng, size: int) -> Plane:
    noise = smooth_noise(rng, size, int(rng.integers(5, 11)))
    return np.asarray(0.5 + 0.5 * np.tanh(6 * (noise - 0.5)))


def _branches(rng: Rng, size: int) -> Plane:
    heading = rng.uniform(0, 2 * np.pi)
    count = 26
    curves = wander(
        rng,
        rng.uniform(-0.1, 1.1, (count, 2)),
        heading + rng.normal(0, 0.9, count),
        rng.uniform(0.5, 1.2, count),
        rng.normal(0, 0.8, count),
        steps=20,
        shake=0.15,
    )
    return paint_curves(size, curves, rng.uniform(0.006, 0.018, (count, 1)) * np.linspace(1.2, 0.4, 20))


def _rings(rng: Rng, size: int) -> Plane:
    y, x = pixel_grid(size)
    centre = rng.uniform(0.1, 0.9, 2)
    radius = np.hypot(y - centre[0], x - centre[1]) + 0.012 * smooth_noise(rng, size, 3)
    return np.asarray(0.5 + 0.5 * np.tanh(rng.uniform(0.8, 4) * np.sin(rng.uniform(30, 80) * radius)))


def _cells(rng: Rng, size: int) -> Plane:
    y, x = pixel_grid(size)
    seeds = rng.uniform(-0.05, 1.05, (int(rng.integers(20, 50)), 2)).astype(np.float32)
    distance = (y[None] - seeds[:, 0, None, None]) ** 2 + (x[None] - seeds[:, 1, None, None]) ** 2
    nearest = np.sqrt(np.partition(distance, 1, axis=0)[:2])
    return np.asarray(np.clip((nearest[1] - nearest[0]) * rng.uniform(10, 30), 0, 1))


def _clouds(rng: Rng, size: int) -> Plane:
    first = int(rng.integers(2, 4))
    octaves = [smooth_noise(rng, size, first * 2**k) * 0.6**k for k in range(4)]
    return np.asarray(np.clip(0.5 + 0.28 * np.sum(octaves, axis=0), 0, 1))


def _dots(rng: Rng, size: int) -> Plane:
    along, _ = _turned(rng, size)
    count = int(rng.integers(15, 60))
    radii = np.full((count, 2), rng.uniform(0.012, 0.03))
    ramp = np.clip(0.1 + 0.5 * (along - along.min()) / (np.ptp(along) + 1e-6), 0, 1)
    return np.asarray(np.maximum(ramp, paint_blobs(size, rng.uniform(0, 1, (count, 2)), radii)))


PATTERNS: tuple[Callable[[Rng, int], Plane], ...] = (
    _stripes,
    _checks,
    _spots,
    _branches,
    _rings,
    _cells,
    _clouds,
    _dots,
)
