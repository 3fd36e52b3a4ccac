"""The image scale: grey levels and [-1, 1]."""

import subprocess
import sys

import numpy as np
import torch

from raygrid.data.images.scale import GREY_LEVELS_PER_UNIT, to_unit_range


def test_every_grey_level_has_its_place_between_minus_1_and_1():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    images = to_unit_range(levels)
    assert (images.shape, images.dtype) == ((1, 1, 16, 16), torch.float32)
    assert (images.min(), images.max()) == (-1, 1)
    assert np.array_equal(np.rint((images.numpy() + 1) * GREY_LEVELS_PER_UNIT).ravel(), levels.ravel())


def test_the_scale_is_known_without_pytorch():
    code = "import sys, raygrid.analysis.assessment, raygrid.data.images.scale; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
