"""A classifier of three lines that stands for somebody's deployed one in assess_target.py.

In a file of its own: a target is what its file says, so whoever edits a function asks it anew.
"""

import numpy as np
from numpy.typing import NDArray


def measure_stain(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits (batch, 1) of tumour in the centre, for images (batch, 3, height, width) in 0 to 1 (black, white).

    Nuclei are stained blue, and those of tumour are large: how much bluer the centre is than the whole patch tells.
    """
    blue = images[:, 2] - images[:, 0]
    third = images.shape[-1] // 3
    excess = blue[:, third:-third, third:-third].mean(axis=(1, 2)) - blue.mean(axis=(1, 2))
    return np.asarray(58 * (excess[:, None] - 0.035), dtype=np.float32)
