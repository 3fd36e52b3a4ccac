"""Sizes of prepared images."""

import numpy as np

from raygrid.data.images.intensity import resize_square


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.zeros((256, 256, 1), np.uint8)
    stripes[:, ::2] = 200
    small = resize_square(stripes, 32)
    assert small.shape == (32, 32, 1)
    assert np.abs(small[4:-4, 4:-4].astype(int) - 100).max() <= 3
