"""Crops: the field of view on a dark border, and the middle."""

import numpy as np
import pytest
from small_data import fundus

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
