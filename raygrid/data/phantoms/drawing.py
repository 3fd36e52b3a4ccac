"""Vectorised drawing for the phantoms: noise, edges, blobs and curves.

Coordinates, radii and widths are shares of the side of the picture, so that a scene looks alike at every size.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Plane = NDArray[np.float32]
Floats = NDArray[np.float64]


@lru_cache(maxsize=8)
def pixel_grid(size: int) -> tuple[Plane, Plane]:
    """Return the coordinates of the pixel centres, y (size, 1) and x (1, size), in [0, 1]."""
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
    """Return 0 where `value` is negative and 1 where it is positive, with a linear ramp of `width` around zero."""
    return np.asarray(np.clip(value / np.float32(width) + np.float32(0.5), 0, 1))


def bump(size: int, y: float, x: float, ry: float, rx: float) -> Plane:
    """Return a Gaussian hill (size, size) of height 1 with standard deviations `ry`, `rx`."""
    gy, gx = pixel_grid(size)
    return np.exp(-(((gy - y) / ry) ** 2) / 2) * np.exp(-(((gx - x) / rx) ** 2) / 2)


def blur(picture: Plane, sigma: float) -> Plane:
    """Return the picture smoothed by a Gaussian of standard deviation `sigma`, a share of its side."""
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
    """Return ellipses on black (size, size); where ellipses overlap, the brightest counts.

    Args:
        size: side of the picture, pixels.
        centres: (n, 2), y and x in [0, 1].
        radii: (n, 2), along and across `angles`, in shares of the side.
        strengths: grey value of each ellipse, (n,), or one for all.
        angles: (n,), radians; None for axes along x and y.
        phases: (n,), radians, directions of the lobes of irregular outlines; None for smooth outlines.
        wobble: depth of the lobes, a share of the radius.
        edge: width of the rim, pixels.
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
    inside = np.clip(spots + 1, 0, size + 1)  # pixels outside the picture land in a rim that the last line cuts off
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
    """Return random curves (n, steps, 2) as y, x.

    Curve k starts at `starts[k]` in direction `headings[k]` (radians), has the length `lengths[k]` and turns by
    `bends[k]` radians in all; `shake` is the standard deviation of an extra turn at each step, radians.
    """
    turns = bends[:, None] / steps + rng.normal(0, shake, (len(starts), steps))
    angle = headings[:, None] + np.cumsum(turns, axis=1)
    moves = np.stack([np.sin(angle), np.cos(angle)], axis=2) * (lengths / steps)[:, None, None]
    return np.asarray(starts[:, None] + np.cumsum(moves, axis=1))


def paint_curves(size: int, curves: Floats, widths: Floats) -> Plane:
    """Return white lines on black (size, size) along curves (n, steps, 2), with half-widths `widths` (n, steps)."""
    gap = np.abs(np.diff(curves, axis=1)).max(initial=0) * size
    fraction = np.linspace(0, 1, max(1, int(np.ceil(gap / 1.2))), endpoint=False)
    blend = fraction[None, None, :, None]
    points = curves[:, :-1, None] * (1 - blend) + curves[:, 1:, None] * blend
    radii = np.broadcast_to(widths[:, :-1, None, None], (*points.shape[:3], 2))
    return paint_blobs(size, points.reshape(-1, 2), radii.reshape(-1, 2))
