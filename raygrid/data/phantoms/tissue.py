"""Generated H&E-stained lymph node patches with and without metastasis: test phantoms, not medical evidence."""

from dataclasses import dataclass

import numpy as np

from raygrid.data.phantoms.base import Phantom
from raygrid.data.phantoms.drawing import Floats, Plane, blur, paint_blobs, pixel_grid, sensor_noise, smooth_noise

CENTRE = 1 / 6  # half side of the central square that decides the label
PATCHES = 8
PITCH = 0.095  # between tumour nuclei


@dataclass(frozen=True)
class Cells:
    """The nuclei of one patch.

    Attributes:
        normal, tumour: positions (n, 2) as y, x in [0, 1].
        atypia: atypia of the tumour nuclei, 0 to 1.
    """

    normal: Floats
    tumour: Floats
    atypia: float


class PhantomTissue(Phantom):
    """Tissue patches, eight per slide; positive if a tumour nucleus lies in the central square, as in PatchCamelyon.

    Patches with a nest of tumour (larger, darker, irregular, crowded nuclei) only at the border are negative.
    """

    title = "Tissue phantom (generated, not medical evidence)"
    kind = "tissue"
    labels = ("metastasis",)

    def image_ids(self, patient_id: str) -> list[str]:
        """Return the patches of one slide."""
        return [f"{patient_id}-{number}" for number in range(PATCHES)]

    def truth(self, image_id: str) -> tuple[int, ...]:
        """Return 1 if a tumour nucleus lies in the central square."""
        return (int(bool((_from_centre(self._tumour(image_id)) < CENTRE).any())),)

    def cells(self, image_id: str) -> Cells:
        """Return the nuclei of one patch."""
        rng, tumour = self.generator(image_id, "cells"), self._tumour(image_id)
        normal = _lattice(rng, rng.uniform(0.07, 0.1))
        # Lymphocytes crowd in follicles too: crowding alone must not reveal a tumour.
        follicle, wide = rng.uniform(0.2, 0.8, 2), rng.uniform(0.12, 0.4) * (rng.random() < 0.5)
        crowded = np.hypot(*(normal - follicle).T) < wide
        normal = normal[rng.random(len(normal)) < np.where(crowded, 1.0, rng.uniform(0.25, 0.85))]
        gaps = np.abs(normal[:, None] - tumour[None]).max(axis=2).min(axis=1, initial=1)
        return Cells(normal[gaps > 0.06], tumour, float(rng.uniform(0, 1)))

    def _tumour(self, image_id: str) -> Floats:
        """Return the positions of the tumour nuclei (n, 2): a nest near the centre, one at the border, or none."""
        share = self.generator(image_id[:-2], "tumour").uniform(0.2, 0.65)
        rng = self.generator(image_id, "tumour")
        draw, places, angle = rng.random(), _lattice(rng, PITCH), rng.uniform(0, 2 * np.pi)
        if draw < share:
            nest = 0.5 + rng.normal(0, 0.06, 2)
            return np.asarray(places[np.hypot(*(places - nest).T) < rng.uniform(0.16, 0.5)])
        nest = 0.5 + 0.55 * np.array([np.sin(angle), np.cos(angle)])
        nested = np.hypot(*(places - nest).T) < rng.uniform(0.15, 0.3)
        return np.asarray(places[nested & (_from_centre(places) > CENTRE + 0.05) & (draw < share + 0.2)])

    def draw(self, image_id: str) -> Plane:
        """Return the patch (size, size, 3)."""
        slide, rng, cells = self.generator(image_id[:-2]), self.generator(image_id), self.cells(image_id)
        nuclei = np.maximum(self._normal_nuclei(rng, cells.normal), self._tumour_nuclei(rng, cells))
        eosin = self._stroma(rng) * slide.uniform(0.75, 1.25)
        haematoxylin = nuclei + 0.1 * paint_blobs(self.size, cells.tumour, np.full((len(cells.tumour), 2), 0.075))
        haematoxylin = (haematoxylin + rng.uniform(0, 0.08)) * slide.uniform(0.85, 1.2)
        blue = np.array([0.95, 1.15, 0.45]) * (1 + slide.normal(0, 0.07, 3))
        pink = np.array([0.12, 0.62, 0.28]) * (1 + slide.normal(0, 0.1, 3))
        density = haematoxylin[:, :, None] * blue + (eosin * (1 - 0.6 * nuclei))[:, :, None] * pink
        picture = blur(np.exp(-density).astype(np.float32) * 0.97, rng.uniform(0.003, 0.011))
        return picture + sensor_noise(rng, picture.shape, rng.uniform(0.01, 0.025))

    def _stroma(self, rng: np.random.Generator) -> Plane:
        """Return the eosin of connective tissue: wavy fibres, gaps and uneven thickness."""
        y, x = pixel_grid(self.size)
        angle = rng.uniform(0, np.pi)
        bend = 0.05 * smooth_noise(rng, self.size, 3)
        fibres = np.sin(rng.uniform(50, 80) * (x * np.cos(angle) + y * np.sin(angle) + bend))
        gaps = np.clip(smooth_noise(rng, self.size, 5) - 1.1, 0, 0.7)
        return np.asarray(np.clip(0.75 + 0.13 * fibres + 0.16 * smooth_noise(rng, self.size, 5) - gaps, 0.05, 2))

    def _normal_nuclei(self, rng: np.random.Generator, places: Floats) -> Plane:
        """Return lymphocytes (small, round, dark) and some fibroblasts (long, thin)."""
        count = len(places)
        radius = rng.uniform(0.02, 0.034, count)
        longer = np.where(rng.random(count) < rng.uniform(0, 0.5), 1.9, 1.1)
        radii = np.stack([radius * longer, radius / np.sqrt(longer)], axis=1)
        return paint_blobs(self.size, places, radii, rng.uniform(0.65, 1.1, count), angles=rng.uniform(0, np.pi, count))

    def _tumour_nuclei(self, rng: np.random.Generator, cells: Cells) -> Plane:
        """Return large, lobed nuclei of uneven size, with clumped chromatin."""
        count, growth = len(cells.tumour), 0.027 + 0.02 * cells.atypia
        radii = growth * rng.uniform(0.8, 1.25, (count, 2))
        turns, lobes = rng.uniform(0, 2 * np.pi, (2, count))
        dark = rng.uniform(0.65, 1.0, count) + 0.25 * cells.atypia
        nuclei = paint_blobs(self.size, cells.tumour, radii, dark, angles=turns, phases=lobes)
        return nuclei * (1 + 0.2 * smooth_noise(rng, self.size, 20))


def _lattice(rng: np.random.Generator, pitch: float) -> Floats:
    """Return positions (n, 2) on a jittered grid of spacing `pitch`, which reaches a little beyond the patch."""
    line = np.arange(-0.05, 1.05, pitch)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=2).reshape(-1, 2)
    return np.asarray(grid + rng.uniform(0, pitch, 2) + rng.uniform(-0.33, 0.33, grid.shape) * pitch)


def _from_centre(places: Floats) -> Floats:
    """Return the Chebyshev distance (n,) of positions from the centre of the patch."""
    return np.asarray(np.abs(places - 0.5).max(axis=1))
