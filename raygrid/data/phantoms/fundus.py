"""Generated colour fundus photographs with and without referable retinopathy: test phantoms, not medical evidence."""

import numpy as np

from raygrid.data.phantoms.base import Phantom
from raygrid.data.phantoms.drawing import (
    Floats,
    Plane,
    blur,
    bump,
    paint_blobs,
    paint_curves,
    pixel_grid,
    sensor_noise,
    smooth_noise,
    soft_step,
    wander,
)

PREVALENCE_CUT = 0.2  # of a standard normal disease state: 42 % of the eyes lie above
RADIUS = 0.475  # of the field of view
STEPS = 14  # of a vessel


class PhantomFundus(Phantom):
    """Fundus photographs, both eyes of each patient; the label is referable retinopathy.

    Lesions (microaneurysms, haemorrhages, exudates) grow in number with a disease state, which both eyes mostly share.
    Below the cut a few microaneurysms are possible, so that mild and referable disease overlap.
    """

    title = "Fundus phantom (generated, not medical evidence)"
    kind = "fundus"
    labels = ("referable",)

    def image_ids(self, patient_id: str) -> list[str]:
        """Return the right (0) and the left eye (1)."""
        return [f"{patient_id}-0", f"{patient_id}-1"]

    def truth(self, image_id: str) -> tuple[int, ...]:
        """Return 1 if the disease state is above the cut."""
        return (int(self._state(image_id) > PREVALENCE_CUT),)

    def draw(self, image_id: str) -> Plane:
        """Return the photograph (size, size, 3), exactly black outside the field of view."""
        patient, rng = self.generator(image_id[:-2]), self.generator(image_id)
        nasal = 1.0 if image_id.endswith("0") else -1.0
        pigment, quality = patient.uniform(0, 1), patient.uniform(0, 1)
        disc = np.array([0.5 + rng.normal(0, 0.015), 0.5 + nasal * rng.uniform(0.24, 0.29)])
        fovea = np.array([disc[0] + rng.uniform(0.01, 0.04), disc[1] - nasal * 0.31])
        picture = self._background(patient, rng, pigment)
        picture = _darken(picture, bump(self.size, fovea[0], fovea[1], 0.065, 0.065), (0.3, 0.42, 0.3))
        picture = self._add_disc(picture, rng, disc)
        picture = _darken(picture, self._vessels(rng, disc, nasal), (0.28, 0.5, 0.4))
        picture = self._add_lesions(picture, rng, disc, self._state(image_id))
        picture = self._add_confusers(picture, rng)
        picture = blur(picture, 0.004 + 0.007 * quality**2)
        picture = picture + sensor_noise(rng, picture.shape, rng.uniform(0.008, 0.022))
        return picture * self._field_of_view()

    def _state(self, image_id: str) -> float:
        shared = self.generator(image_id[:-2], "state").normal()
        return float(np.sqrt(0.75) * shared + 0.5 * self.generator(image_id, "state").normal())

    def _field_of_view(self) -> Plane:
        y, x = pixel_grid(self.size)
        return soft_step(RADIUS - np.hypot(y - 0.5, x - 0.5), 1 / self.size)[:, :, None]

    def _background(self, patient: np.random.Generator, rng: np.random.Generator, pigment: float) -> Plane:
        y, x = pixel_grid(self.size)
        pale, dark = np.array([0.8, 0.42, 0.22]), np.array([0.64, 0.29, 0.13])
        colour = pale + (dark - pale) * pigment + patient.normal(0, 0.02, 3)
        slope = rng.normal(0, 0.18, 2)
        light = 1 + slope[0] * (y - 0.5) + slope[1] * (x - 0.5) - 0.9 * ((y - 0.5) ** 2 + (x - 0.5) ** 2)
        mottle = 0.045 * smooth_noise(rng, self.size, 4) + 0.03 * smooth_noise(rng, self.size, 14)
        shade = np.asarray(light * (1 + mottle), np.float32)[:, :, None]
        return np.asarray(shade * (colour * rng.uniform(0.9, 1.08)).astype(np.float32))

    def _add_disc(self, picture: Plane, rng: np.random.Generator, disc: Floats) -> Plane:
        spread = np.array([[0.075, 0.066], [0.034, 0.03]]) * rng.uniform(0.9, 1.1)
        rim = paint_blobs(self.size, disc[None], spread[:1, ::-1], 0.62, edge=1.5)[:, :, None]
        cup = paint_blobs(self.size, disc[None], spread[1:, ::-1] * rng.uniform(0.7, 1.4), 0.5, edge=1.5)[:, :, None]
        for mask, colour in ((rim, (1.0, 0.76, 0.46)), (cup, (1.0, 0.92, 0.72))):
            picture = picture + mask * (np.array(colour, np.float32) - picture)
        return picture

    def _vessels(self, rng: np.random.Generator, disc: Floats, nasal: float) -> Plane:
        """Return arteries and veins: four arcades of two trunks each, and their branches."""
        up = np.repeat([-1.0, -1.0, 1.0, 1.0], 2)
        temporal = np.tile(np.repeat([1.0, 0.0], 2), 2)
        # Angles from the temporal axis; temporal arcades leave steeply and bend around the fovea.
        heading = np.where(temporal == 1, 1.25, 2.35) + rng.normal(0, 0.12, 8)
        bend = np.where(temporal == 1, -1.35, -0.2) + rng.normal(0, 0.15, 8)
        length = np.where(temporal == 1, 0.72, 0.42) * rng.uniform(0.85, 1.1, 8)
        starts = np.repeat(disc[None], 8, axis=0) + rng.normal(0, 0.01, (8, 2))
        trunks = wander(rng, starts, heading * up, length, bend * up, steps=STEPS, shake=0.08)
        taper = np.linspace(1, 0.45, STEPS) * np.tile([0.0105, 0.0075], 4)[:, None]
        parent, at = np.arange(16) % 8, rng.integers(2, STEPS - 2, 16)
        toward = trunks[parent, at] - trunks[parent, at - 1]
        fork = np.arctan2(toward[:, 0], toward[:, 1]) + rng.choice([-1.0, 1.0], 16) * rng.uniform(0.4, 0.9, 16)
        reach = rng.uniform(0.14, 0.32, 16)
        twigs = wander(rng, trunks[parent, at], fork, reach, rng.normal(0, 0.4, 16), steps=STEPS, shake=0.1)
        curves, widths = np.concatenate([trunks, twigs]), np.concatenate([taper, taper[parent] * 0.6])
        curves[:, :, 1] = disc[1] - nasal * (curves[:, :, 1] - disc[1])
        return paint_curves(self.size, curves, widths)

    def _add_lesions(self, picture: Plane, rng: np.random.Generator, disc: Floats, state: float) -> Plane:
        excess = state - PREVALENCE_CUT
        load = min(0.15 + 0.95 * excess, 1.5) if excess > 0 else 0.0
        mild = max(0.0, 1 + excess) if excess < 0 else 0.0
        dots, stains, clusters = rng.poisson([7 * load + 3 * mild, 9 * load + 0.3 * mild, 4.5 * load + 0.15 * mild])
        red = np.concatenate([rng.uniform(0.008, 0.012, dots), rng.uniform(0.018, 0.045, stains)])
        spots = _retina_points(rng, len(red), disc)
        stretch = np.stack([red * rng.uniform(1, 1.4, len(red)), red], axis=1)
        turns, lobes = rng.uniform(0, 2 * np.pi, (2, len(red)))
        mask = paint_blobs(self.size, spots, stretch, rng.uniform(0.6, 1, len(red)), angles=turns, phases=lobes)
        picture = _darken(picture, mask, (0.58, 0.8, 0.65))
        crumbs = np.repeat(_retina_points(rng, clusters, disc), 8, axis=0)
        crumbs = crumbs + rng.normal(0, 0.028, crumbs.shape)
        grain = np.repeat(rng.uniform(0.008, 0.019, len(crumbs))[:, None], 2, axis=1)
        yellow = paint_blobs(self.size, crumbs, grain, rng.uniform(0.6, 1.0, len(crumbs)))[:, :, None]
        return picture + yellow * (np.array([0.98, 0.86, 0.42], np.float32) - picture)

    def _add_confusers(self, picture: Plane, rng: np.random.Generator) -> Plane:
        """Return the picture with drusen, pigment and specular reflexes, which do not depend on the disease state."""
        drusen, moles, glints = rng.poisson([2.5, 0.4, 0.6])
        pale = paint_blobs(self.size, rng.normal(0.5, 0.12, (drusen, 2)), np.full((drusen, 2), 0.013), 0.28, edge=2.0)
        picture = picture + pale[:, :, None] * (np.array([0.95, 0.75, 0.4], np.float32) - picture)
        wide = rng.uniform(0.02, 0.04, (moles, 2))
        picture = _darken(
            picture, paint_blobs(self.size, rng.uniform(0.1, 0.9, (moles, 2)), wide, 0.6), (0.5, 0.45, 0.3)
        )
        shine = paint_blobs(self.size, rng.uniform(0.15, 0.85, (glints, 2)), rng.uniform(0.01, 0.025, (glints, 2)), 0.5)
        return picture + shine[:, :, None] * (1 - picture)


def _darken(picture: Plane, mask: Plane, amount: tuple[float, float, float]) -> Plane:
    return picture * (1 - mask[:, :, None] * np.array(amount, np.float32))


def _retina_points(rng: np.random.Generator, count: int, disc: Floats) -> Floats:
    """Return points (count, 2) in the field of view; points on the optic disc are mirrored away from it."""
    radius, angle = 0.41 * np.sqrt(rng.uniform(0, 1, count)), rng.uniform(0, 2 * np.pi, count)
    points = 0.5 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    on_disc = np.hypot(*(points - disc).T) < 0.1
    return np.asarray(np.where(on_disc[:, None], 1 - points, points))
