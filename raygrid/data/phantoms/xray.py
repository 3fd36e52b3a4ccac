"""Generated frontal chest X-rays with four findings: test phantoms, not medical evidence."""

from dataclasses import dataclass

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

LABELS = ("effusion", "nodule", "cardiomegaly", "infiltration")
CUTS = np.array([0.524, 0.674, 0.842, 0.385])  # of standard normal states: 30, 25, 20 and 35 % of the images lie above
# Effusion comes with a large heart and with infiltrates, as in heart failure and pneumonia.
MIXING = np.linalg.cholesky(
    np.array([[1.0, 0.0, 0.4, 0.3], [0.0, 1.0, 0.0, 0.1], [0.4, 0.0, 1.0, 0.1], [0.3, 0.1, 0.1, 1.0]])
)
LETTERS = {"L": ("100", "100", "100", "100", "111"), "R": ("110", "101", "110", "101", "101")}


@dataclass(frozen=True)
class Body:
    """The anatomy of one patient at one visit; lengths in shares of the side of the picture."""

    middle: float
    lung_top: float
    lung_width: float
    dome: float
    heart: float
    rib_gap: float
    breast: float
    exposure: float


class PhantomXray(Phantom):
    """Chest X-rays, one to four per patient, with four graded and correlated findings."""

    title = "Chest X-ray phantom (generated, not medical evidence)"
    kind = "xray"
    version = 2
    channels = 1
    labels = LABELS

    def image_ids(self, patient_id: str) -> list[str]:
        """Return the ids of one to four examinations."""
        count = int(self.generator(patient_id, "visits").integers(1, 5))
        return [f"{patient_id}-{number}" for number in range(count)]

    def truth(self, image_id: str) -> tuple[int, ...]:
        """Return 1 for each finding whose state is above its cut, else 0."""
        return tuple(int(above) for above in self._states(image_id) > CUTS)

    def draw(self, image_id: str) -> Plane:
        """Return the X-ray (size, size), dense tissue bright."""
        rng, body = self.generator(image_id), self._body(image_id)
        excess = self._states(image_id) - CUTS
        grade = np.where(excess > 0, np.minimum(0.45 + 0.5 * excess, 1.2), 0.0)
        left, right = self._lung(body, -1), self._lung(body, 1)
        lungs = np.maximum(left, right)
        dense = self._chest(rng, body, lungs)
        heart = self._heart(rng, body, float(grade[2]))
        dense = np.maximum(dense, 0.62 * heart + 0.2 * dense * heart)
        aerated = lungs * (1 - heart)
        dense = dense + self._infiltrates(rng, float(grade[3])) * aerated
        dense = dense + self._fluid(rng, body, float(grade[0])) * np.maximum(0.7 - dense, 0) * np.minimum(4 * lungs, 1)
        dense = dense + self._nodules(rng, body, float(grade[1])) + self._vessels(rng, body) * aerated
        dense = dense + 0.035 * smooth_noise(rng, self.size, 4)
        picture = blur(dense * self._body_outline(body), rng.uniform(0.003, 0.009))
        picture = np.clip(picture, 0, None) ** rng.uniform(0.85, 1.2) * body.exposure * rng.uniform(0.93, 1.07)
        picture = picture + sensor_noise(rng, picture.shape, rng.uniform(0.008, 0.02))
        return np.maximum(picture, self._marker(rng)).astype(np.float32)

    def _states(self, image_id: str) -> Floats:
        shared = self.generator(image_id[:-2], "state").standard_normal(4)
        own = self.generator(image_id, "state").standard_normal(4)
        return np.asarray(MIXING @ (np.sqrt(0.5) * (shared + own)))

    def _body(self, image_id: str) -> Body:
        patient, visit = self.generator(image_id[:-2]), self.generator(image_id, "position")
        return Body(
            middle=0.5 + visit.normal(0, 0.015),
            lung_top=patient.uniform(0.1, 0.15) + visit.normal(0, 0.012),
            lung_width=patient.uniform(0.155, 0.18),
            dome=patient.uniform(0.74, 0.8) + visit.normal(0, 0.015),
            heart=patient.normal(1.0, 0.05),
            rib_gap=patient.uniform(0.078, 0.095),
            breast=max(0.0, patient.uniform(-0.1, 0.1)),
            exposure=patient.uniform(0.88, 1.12),
        )

    def _lung(self, body: Body, side: int) -> Plane:
        """Return one lung: an arch over a dome of the diaphragm, with a sharp costophrenic angle."""
        y, x = pixel_grid(self.size)
        across = (x - body.middle) * side
        rise = np.clip((y - body.lung_top) / (body.dome - body.lung_top), 0, 1.3)
        outer = 0.08 + (2.0 * body.lung_width - 0.035) * rise**0.42
        inner = 0.055 + 0.06 * (1 - rise) ** 2
        floor = self._floor(body, side)
        soft = 1.5 / self.size
        walls = soft_step(outer - across, soft) * soft_step(across - inner, soft)
        return walls * soft_step(y - body.lung_top, 0.05) * soft_step(floor - y, soft)

    def _floor(self, body: Body, side: int) -> Plane:
        _, x = pixel_grid(self.size)
        across = (x - body.middle) * side
        return body.dome + 0.02 * side + 1.6 * (across - 0.17) ** 2 * np.where(across > 0.17, 3.0, 1.0)

    def _chest(self, rng: np.random.Generator, body: Body, lungs: Plane) -> Plane:
        """Return soft tissue, spine, lungs, ribs, clavicles and breast shadows."""
        y, x = pixel_grid(self.size)
        away = np.abs(x - body.middle)
        wave = (y + 0.25 * away - 2.2 * (away - 0.16) ** 2 - body.lung_top) / body.rib_gap
        ribs = np.clip(np.cos(2 * np.pi * wave) - 0.25, 0, 1) * soft_step(0.43 - away, 0.03) * soft_step(0.85 - y, 0.1)
        spine = bump(self.size, 0.75, body.middle, 0.4, 0.035)
        dense = (
            0.6
            + 0.12 * soft_step(y - body.dome - 0.03, 0.06)
            + 0.13 * spine
            - 0.1 * bump(self.size, 0.12, body.middle, 0.1, 0.018)
        )
        dense = dense - 0.42 * lungs * (1 - 0.25 * spine) + 0.11 * ribs
        for side in (-1, 1):
            dense = dense + body.breast * bump(self.size, 0.66, body.middle + side * 0.21, 0.07, 0.09)
        starts = np.array([[0.19, body.middle - 0.045], [0.19, body.middle + 0.045]])
        tilt = rng.normal(0.25, 0.08)
        heads, bends = np.array([np.pi + tilt, -tilt]), np.array([0.35, -0.35])
        bones = wander(rng, starts, heads, np.full(2, 0.34), bends, steps=12, shake=0.02)
        return np.asarray(dense + 0.15 * paint_curves(self.size, bones, np.full((2, 12), 0.016)), np.float32)

    def _heart(self, rng: np.random.Generator, body: Body, grade: float) -> Plane:
        """Return heart and great vessels; the heart's width grows with cardiomegaly."""
        y, _ = pixel_grid(self.size)
        width = body.heart * (1 + 0.42 * grade)
        apex = body.dome - 0.085
        centres = body.middle + np.array([[0, 0.045 + 0.045 * (width - 1)], [0, -0.035], [0, 0.03], [0, 0.0]])
        centres[:, 0] = [apex, apex - 0.03, 0.33, 0.25]
        radii = np.array([[0.15 * width, 0.1], [0.09 * width, 0.125], [0.045, 0.04], [0.055, 0.2]])
        turns = np.array([0.45 + rng.normal(0, 0.08), 0.0, 0.0, 0.0])
        shadow = paint_blobs(self.size, centres, radii, angles=turns, edge=2.5 * self.size / 48)
        return shadow * soft_step(body.dome + 0.06 - y, 0.05)

    def _infiltrates(self, rng: np.random.Generator, grade: float) -> Plane:
        """Return patchy opacities in one or two zones.

        They are computed for grade 0 too, so that every grade takes equally many random numbers.
        """
        patch = np.clip(0.6 + 0.55 * smooth_noise(rng, self.size, 9), 0, 1.6)
        zones = [
            bump(self.size, rng.uniform(0.35, 0.65), 0.5 + s * rng.uniform(0.15, 0.25), 0.1, 0.08) for s in (-1, 1)
        ]
        share = rng.permutation([1.0, rng.uniform(0, 1)])
        return np.asarray(0.3 * grade * patch * (share[0] * zones[0] + share[1] * zones[1]))

    def _fluid(self, rng: np.random.Generator, body: Body, grade: float) -> Plane:
        """Return the fluid, 0 to 1: it fills the lung from below, with a meniscus that climbs the chest wall."""
        y, x = pixel_grid(self.size)
        sides = rng.permutation([1.0, float(rng.random() < 0.35)]) * grade
        total = np.zeros((self.size, self.size), np.float32)
        for side, amount in zip((-1, 1), sides, strict=True):
            across = (x - body.middle) * side
            level = body.dome + 0.06 - 0.2 * amount - amount * 1.6 * np.clip(across - 0.15, 0, None) ** 1.5
            total = total + soft_step(y - level, 0.05) * soft_step(across, 0.02) * min(1.0, 3 * amount)
        return total

    def _nodules(self, rng: np.random.Generator, body: Body, grade: float) -> Plane:
        """Return nodules, only if `grade` is above 0, and possible shadows of nipples and end-on vessels."""
        count = 1 + rng.poisson(0.7) if grade else 0
        faint = rng.poisson(0.8)
        places = np.stack([rng.uniform(0.25, 0.68, count + faint), rng.uniform(0.11, 0.27, count + faint)], axis=1)
        places[:, 1] = body.middle + rng.choice([-1.0, 1.0], count + faint) * places[:, 1]
        size = np.concatenate([rng.uniform(0.034, 0.052, count), rng.uniform(0.012, 0.02, faint)])
        strength = np.concatenate([np.full(count, 0.3 + 0.25 * grade), rng.uniform(0.08, 0.18, faint)])
        return paint_blobs(self.size, places, np.stack([size, size], axis=1), strength, edge=1.5)

    def _vessels(self, rng: np.random.Generator, body: Body) -> Plane:
        """Return the vessels that fan out of both hila, thinning towards the chest wall."""
        side = np.repeat([-1.0, 1.0], 8)
        starts = np.stack([rng.normal(0.45, 0.03, 16), body.middle + side * 0.075], axis=1)
        heads = rng.uniform(-1.0, 1.3, 16)
        heads = np.where(side > 0, heads, np.pi - heads)
        tree = wander(rng, starts, heads, rng.uniform(0.15, 0.28, 16), rng.normal(0, 0.3, 16), steps=10, shake=0.05)
        return 0.14 * paint_curves(self.size, tree, np.tile(np.linspace(0.014, 0.003, 10), (16, 1)))

    def _body_outline(self, body: Body) -> Plane:
        """Return 1 in the patient and 0 in the air beside neck and chest."""
        y, x = pixel_grid(self.size)
        away = np.abs(x - body.middle)
        shoulder = 0.11 + 0.42 * np.clip((y + 0.02) / 0.2, 0, 1) ** 1.5
        return soft_step(np.minimum(shoulder, 0.47) - away, 0.04)

    def _marker(self, rng: np.random.Generator) -> Plane:
        """Return the side marker, an L or R of lead, on black."""
        letter = LETTERS["L" if rng.random() < 0.7 else "R"]
        bits = np.array([[int(bit) for bit in row] for row in letter], np.float32)
        y, x = pixel_grid(self.size)
        top, left = rng.uniform(0.03, 0.08), rng.uniform(0.86, 0.89)
        row, column = np.floor((y - top) / 0.024).astype(int), np.floor((x - left) / 0.024).astype(int)
        inside = (row >= 0) & (row < 5) & (column >= 0) & (column < 3)
        return np.asarray(np.where(inside, bits[np.clip(row, 0, 4), np.clip(column, 0, 2)], 0) * 0.95)
