"""Crops: the field of view on a dark border, and the middle."""

import warnings

import numpy as np
import pytest
from small_data import fundus, open_small, save

from raygrid.data.damage import SuspectImageWarning
from raygrid.data.images.crop import crop_field_of_view, crop_middle
from raygrid.data.images.intensity import resize_square

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("centre", "radius"), [((150, 200), 120), ((140, 260), 100), ((150, 200), 60)])
def test_the_field_of_view_is_found_to_two_pixels(centre, radius):
    cropped = crop_field_of_view(fundus(300, 400, centre, radius))
    disc = cropped[..., 0] > 30  # the noise of the border ends at 4, the disc begins at 72
    for axis in (0, 1):
        inside = np.flatnonzero(disc.any(axis=axis))
        assert abs(len(inside) - (2 * radius + 1)) <= 2  # nothing of the field is lost
        assert inside[0] <= 2
        assert cropped.shape[1 - axis] - 1 - inside[-1] <= 2


def test_a_field_cut_off_at_the_frame_keeps_its_proportions():
    cropped = crop_field_of_view(fundus(200, 400, (100, 200), 130))
    assert cropped.shape[0] == 200
    assert abs(cropped.shape[1] - 261) <= 4
    square = resize_square(cropped, 130)
    assert square[:10].max() <= 1  # padded, not stretched
    assert square[60:70, 20:110, 0].min() > 50


@pytest.mark.parametrize("side", ["left", "right", "top"])
def test_half_a_circle_that_is_not_cut_off_at_the_frame_is_kept_whole(side):
    image = fundus(300, 400, (150, 200), 140)
    halves = {"left": np.s_[:, :200], "right": np.s_[:, 202:], "top": np.s_[:150]}
    image[halves[side]] = 0
    with pytest.warns(SuspectImageWarning, match="its bright part is far from round"):
        assert np.array_equal(crop_field_of_view(image), image)


def test_a_circle_cut_off_at_the_frame_and_then_padded_is_cropped(recwarn):
    cropped = crop_field_of_view(np.pad(fundus(200, 400, (100, 200), 130), ((100, 100), (0, 0), (0, 0))))
    assert np.abs(np.array(cropped.shape[:2]) - (200, 261)).max() <= 4
    assert not recwarn.list


def test_the_middle_of_the_field_is_a_window_of_its_longer_side():
    image = np.arange(100 * 80, dtype=np.uint32).astype(np.uint8).reshape(100, 80, 1).repeat(3, axis=2)
    middle = crop_middle(image, 0.6)
    assert middle.shape == (60, 60, 3)
    assert np.array_equal(middle, image[20:80, 10:70])
    assert crop_middle(image, 0.9).shape == (90, 80, 3)  # no further than the image
    assert np.array_equal(crop_middle(image, 1.0), image)


def test_specks_and_lettering_on_the_border_are_not_the_field():
    image = fundus(300, 400, (150, 200), 100)
    image[5:12, 5:20] = 255
    image[290, 399] = 255
    image[5:60, 100:103] = 255  # a scratch that reaches the rows of the field
    assert np.abs(np.array(crop_field_of_view(image).shape[:2]) - 201).max() <= 2


@pytest.mark.filterwarnings("ignore::raygrid.data.damage.SuspectImageWarning")
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 60, 3), np.uint8),
        np.full((50, 60, 3), 200, np.uint8),
        RNG.integers(80, 200, (50, 60, 3)).astype(np.uint8),
    ],
)
def test_an_image_without_border_stays_whole(image):
    assert np.array_equal(crop_field_of_view(image), image)


def test_a_cropped_image_is_cropped_no_further():
    once = crop_field_of_view(fundus(300, 400, (150, 200), 120))
    assert np.abs(np.array(crop_field_of_view(once).shape) - once.shape).max() <= 1


# Shapes of a field: those of healthy photographs are cropped, others are kept whole with a warning

TISSUE = np.array([180.0, 90.0, 40.0])


def disc(
    shape: tuple[int, int], centre: tuple[int, int], radius: float, level: float = 1.0, shade: float = 0.6
) -> np.ndarray:
    """Return a retina without noise, float (height, width, 3); `shade` is the loss of brightness at its rim."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1]) / radius
    return TISSUE * level * (1 - shade * distance[..., None].clip(0, 1) ** 2) * (distance <= 1)[..., None]


def with_noise(values: np.ndarray, most: int = 4) -> np.ndarray:
    return (values + np.random.default_rng(7).integers(0, most + 1, values.shape)).clip(0, 255).astype(np.uint8)


def changed(values: np.ndarray, rows: slice, columns: slice, factor: float = 1.0, add: float = 0.0) -> np.ndarray:
    """Return a copy with one rectangle changed."""
    copy = values.copy()
    copy[rows, columns] = copy[rows, columns] * factor + add
    return copy


WHOLE, ALL = (600, 800), slice(None)
ROUND = disc(WHOLE, (300, 400), 280)
RIGHT_SHADOW = ROUND * np.concatenate([np.ones(400), np.linspace(1, 0.2, 400)])[None, :, None]
SQUARE = np.zeros((600, 800, 3))
SQUARE[100:500, 200:600] = TISSUE
HEALTHY: dict[str, tuple[np.ndarray, tuple[int, int]]] = {
    "circle": (ROUND, (560, 560)),
    "cut at top and bottom": (disc((600, 1000), (300, 500), 420), (600, 840)),
    "cut at top and bottom, letterboxed": (
        np.pad(disc((600, 1000), (300, 500), 420), ((150, 150), (0, 0), (0, 0))),
        (600, 840),
    ),
    "cut left and right": (disc((900, 600), (450, 300), 400), (800, 600)),
    "cut at the top": (disc(WHOLE, (200, 400), 280), (480, 560)),
    "cut at the left": (disc(WHOLE, (300, 150), 280), (560, 430)),
    "square mask": (SQUARE, (400, 400)),
    "notch of the camera outside": (changed(ROUND, slice(275, 325), slice(660, 700), 0, 170.0), (560, 580)),
    "notch of the camera inside": (changed(ROUND, slice(280, 320), slice(660, 700), 0), (560, 560)),
    "half in shadow": (RIGHT_SHADOW, (560, 560)),
    "dark half": (changed(ROUND, ALL, slice(400, 800), 0.3), (560, 560)),
    "dark photograph": (ROUND * 0.2, (560, 560)),
    "bright border": (ROUND + 20, (560, 560)),
    "border that brightens to one side": (ROUND + np.linspace(2, 12, 800)[None, :, None], (560, 560)),
    "label in a corner": (changed(ROUND, slice(4, 20), slice(4, 120), 0, 200.0), (560, 560)),
}


@pytest.mark.parametrize("shape", HEALTHY)
def test_the_shapes_of_healthy_photographs_are_cropped_without_a_warning(shape: str) -> None:
    values, size = HEALTHY[shape]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cropped = crop_field_of_view(with_noise(values))
    assert np.abs(np.array(cropped.shape[:2]) - size).max() <= 6


def flare(level: float, radius: int, column: int) -> np.ndarray:
    """Return a retina of one brightness with an over-exposed circle in it."""
    y, x = np.mgrid[:600, :800]
    retina = disc(WHOLE, (300, 400), 280, level, shade=0)
    bright = ((y - 300) ** 2 + (x - column) ** 2 < radius**2) & (retina[..., 0] > 0)
    retina[bright] = 250
    return retina


DOUBTFUL: dict[str, tuple[np.ndarray, str]] = {
    "dark with a flare": (flare(0.11, 110, 550), "the part beside it is brighter than a border"),
    "darker with a flare": (flare(0.06, 110, 550), "the part beside it is brighter than a border"),
    "dark with a large flare": (flare(0.11, 240, 400), "the part beside it is brighter than a border"),
    "dim with a flare": (flare(0.13, 110, 550), r"only \d+% of the rectangle around its bright part is bright"),
    "flare cut by the rim": (flare(0.11, 240, 550), "its bright part is far from round"),
    "black column": (changed(ROUND, ALL, slice(395, 405), 0), "of its bright pixels lie outside the largest bright"),
    "black row": (changed(ROUND, slice(450, 454), ALL, 0), "of its bright pixels lie outside the largest bright part"),
    "dark third": (changed(ROUND, slice(400, 600), ALL, 0.1), r"its bright part is far from round \(sides 0.7. to 1\)"),
    "ribbon": (changed(np.zeros_like(ROUND), slice(200, 380), ALL, 0, 180.0), "far from round"),
    "nothing but a spot": (changed(np.zeros_like(ROUND), slice(300, 340), slice(300, 340), 0, 180.0), "no bright part"),
}


@pytest.mark.parametrize("shape", DOUBTFUL)
def test_a_field_in_doubt_is_kept_whole_and_told(shape: str) -> None:
    values, reason = DOUBTFUL[shape]
    image = with_noise(values, most=0 if "spot" in shape else 4)
    with pytest.warns(SuspectImageWarning, match=r"^a\.jpg: not cropped to its field of view, .*" + reason):
        cropped = crop_field_of_view(image, "a.jpg")
    assert np.array_equal(cropped, image)


def test_the_loaders_tell_the_path_of_a_field_in_doubt(tmp_path) -> None:
    image = with_noise(DOUBTFUL["black column"][0])
    save(image, tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,patient,mass\na.png,P1,1\n")
    data = open_small("table", tmp_path, 3, table="t.csv", labels=["mass"], crop="field_of_view")
    with pytest.warns(SuspectImageWarning, match=r"/a\.png: not cropped to its field of view, "):
        assert np.array_equal(data.read("a.png"), resize_square(image, 32))


@pytest.mark.parametrize("number", range(8))
def test_the_phantoms_are_cropped_without_a_warning(tmp_path, number: int) -> None:
    data = open_small("phantom_fundus", tmp_path, 3, patients=8)
    phantom = data.read(data.index().table["locator"][number])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cropped = crop_field_of_view(np.pad(phantom, ((10, 10), (30, 10), (0, 0))))
    assert np.abs(np.array(cropped.shape[:2]) - phantom.shape[:2]).max() <= 3
