"""The AUC of every pairing as a heat map."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from raygrid.report.figures.canvas import GREY, OUTLINE, legend_below, new_figure
from raygrid.report.figures.model_order import ModelFacts, models_in_order, short_name
from raygrid.spec import EXTERNAL, MODEL, displayed


def heat_map(
    auc: pd.DataFrame,
    modality: str,
    attack: str,
    epsilon: float,
    *,
    condition: str = "adversarial",
    phantom: bool = False,
) -> Figure:
    """Return the AUC of every pairing: surrogates in rows, targets in columns, white-box references hatched.

    Args:
        auc: the AUC frame; pairings without a row are drawn grey with a cross.
    """
    here = auc[(auc["modality"] == modality) & (auc["target_kind"] != EXTERNAL)]
    surrogates = models_in_order(here)
    targets = [model for model in surrogates if model.kind == MODEL]
    chosen = here[(here["attack"] == attack) & (here["condition"] == condition) & np.isclose(here["epsilon"], epsilon)]
    rows, columns = [model.name for model in surrogates], [model.name for model in targets]
    matrix = chosen.pivot(index="surrogate", columns="target", values="auc").reindex(index=rows, columns=columns)
    marked = {*zip(columns, columns, strict=True)}
    holding = chosen[chosen["white_box"]]
    marked |= {*zip(holding["surrogate"].astype(str), holding["target"].astype(str), strict=True)}
    width, height = (3.6 + 0.52 * max(len(models), 4) for models in (targets, surrogates))
    figure = new_figure(
        width + 1.2, height + 0.5, phantom, title=f"{modality}: {displayed(attack)} at ε = {epsilon:g}, {condition}"
    )
    axes = figure.subplots()
    values = matrix.to_numpy(dtype=float)
    image = axes.imshow(np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=1)
    axes.set_facecolor("#dadce0")
    _write_cells(axes, values, white_box=[(rows.index(s), columns.index(t)) for s, t in sorted(marked)])
    _group_axes(axes, surrogates, targets)
    axes.set_xlabel("target (attacked model)", fontsize=11)
    axes.set_ylabel("surrogate (attacked through)", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label("AUC of the target under attack\n(0 = every pair misranked, 0.5 = chance, 1 = unharmed)")
    which = "surrogate = target" if len(rows) == len(columns) else "the surrogate is the target or contains it"
    white_box = Patch(facecolor="none", edgecolor=OUTLINE, hatch="////", label=f"white-box reference ({which})")
    missing = Patch(facecolor="#dadce0", edgecolor=GREY, label="× missing")
    handles = [white_box, missing] if np.isnan(values).any() else [white_box]
    legend_below(figure, handles, ncols=2)
    return figure


def _group_axes(axes: Axes, rows: Sequence[ModelFacts], columns: Sequence[ModelFacts]) -> None:
    """Tick labels per model, architecture names outside them, a white rule between architectures."""
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), [short_name(m) for m in columns], fontsize=9, **slanted)
    axes.set_yticks(range(len(rows)), [short_name(m) for m in rows], fontsize=9)
    words: dict[str, Any] = {"fontsize": 9, "fontweight": "bold"}
    for first, end in _same_architecture(columns):
        axes.text((first + end - 1) / 2, -0.7, columns[first].arch, ha="center", va="bottom", **words)
        if first:
            axes.axvline(first - 0.5, color="white", linewidth=3)
    for first, end in _same_architecture(rows):
        beside = {"ha": "left", "va": "center", "rotation": 270} if end - first > 1 else {"ha": "left", "va": "center"}
        axes.text(len(columns) - 0.3, (first + end - 1) / 2, rows[first].arch, **beside, **words)
        if first:
            axes.axhline(first - 0.5, color="white", linewidth=3)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)


def _same_architecture(models: Sequence[ModelFacts]) -> Iterable[tuple[int, int]]:
    """Return the first and the end of every run of models with one architecture."""
    starts = [k for k in range(len(models)) if k == 0 or models[k].arch != models[k - 1].arch]
    return pairwise([*starts, len(models)])


def _write_cells(axes: Axes, values: NDArray[np.float64], white_box: Iterable[tuple[int, int]]) -> None:
    for (row, column), value in np.ndenumerate(values):
        text = "×" if np.isnan(value) else f"{value:.2f}"
        colour = GREY if np.isnan(value) else "white" if value < 0.45 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour, zorder=4)
    for row, column in white_box:
        box: dict[str, Any] = {"facecolor": "none", "edgecolor": OUTLINE, "linewidth": 2, "zorder": 3}
        axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **box))
        if np.isfinite(values[row, column]):  # hatched at the rim only, the number stays readable
            hatched: dict[str, Any] = {
                "facecolor": "none",
                "edgecolor": OUTLINE,
                "linewidth": 0,
                "hatch": "/////",
                "zorder": 3,
            }
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.18, **hatched))
            axes.add_patch(Rectangle((column - 0.46, row + 0.28), 0.92, 0.18, **hatched))
