"""Images side by side: Figure 1, images before and after an attack, a contact sheet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raygrid.report.figures.canvas import GREY, new_figure


def example_images(images: Mapping[str, Mapping[str, NDArray[Any]]], *, phantom: bool = False) -> Figure:
    """Return the paper's Figure 1: modalities in columns, clean and attacked images in rows.

    Args:
        images: modality → row label → (height, width, channels), uint8 or floats in [-1, 1].
    """
    rows = list(dict.fromkeys(label for column in images.values() for label in column))
    figure = new_figure(0.9 + 2.1 * max(1, len(images)), 0.7 + 2.1 * max(1, len(rows)), phantom)
    panels = figure.subplots(max(1, len(rows)), max(1, len(images)), squeeze=False)
    for k, (modality, column) in enumerate(images.items()):
        panels[0][k].set_title(modality, fontsize=11)
        for j, label in enumerate(rows):
            axes = panels[j][k]
            axes.set(xticks=[], yticks=[])
            if k == 0:
                axes.set_ylabel(label, fontsize=10)
            if label in column:
                picture = _displayable(column[label])
                axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            else:
                axes.text(0.5, 0.5, "missing", ha="center", va="center", transform=axes.transAxes, color=GREY)
    return figure


def attacked_examples(
    examples: Sequence[tuple[str, str, NDArray[Any], NDArray[Any]]], *, phantom: bool = False
) -> Figure:
    """Return a row per example: the image before the attack, after it, and the change, amplified to the full range.

    Args:
        examples: words for before and after, and the two images (height, width, channels) in [-1, 1].
    """
    figure = new_figure(8.4, 0.8 + 2.75 * max(1, len(examples)), phantom)
    panels = figure.subplots(max(1, len(examples)), 3, squeeze=False)
    for row, (before, after, clean, attacked) in zip(panels, examples, strict=False):
        change = attacked.astype(np.float64) - clean
        gain = 1 / max(float(np.abs(change).max()), 1e-6)
        for axes, image, words in zip(
            row, (clean, attacked, change * gain), (before, after, f"change, × {gain:.0f}"), strict=True
        ):
            axes.imshow(_displayable(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(words, fontsize=9, parse_math=False)
    return figure


def contact_sheet(
    images: NDArray[np.uint8], captions: Sequence[str], *, title: str, columns: int = 8, phantom: bool = False
) -> Figure:
    """Return images (n, height, width, channels) uint8 side by side, each above its caption."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(1.5 * columns, 0.7 + 1.85 * rows, phantom, title=title)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes in panels[len(images) :]:
        axes.set_axis_off()
    for axes, image, caption in zip(panels, images, captions, strict=False):
        axes.imshow(_displayable(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(caption, fontsize=6.5, parse_math=False)  # a name may hold a dollar sign
    return figure


def _displayable(image: NDArray[Any]) -> NDArray[np.float64]:
    scaled = image.astype(np.float64) / 255 if image.dtype == np.uint8 else (image.astype(np.float64) + 1) / 2
    clipped: NDArray[np.float64] = np.clip(scaled, 0, 1)
    return clipped[..., 0] if clipped.ndim == 3 and clipped.shape[-1] == 1 else clipped
