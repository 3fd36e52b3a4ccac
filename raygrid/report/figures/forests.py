"""Forest plots: numbers with their intervals, a panel for each modality."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raygrid.analysis.tables import LEARNED_BOUND
from raygrid.report.figures.canvas import COLOURS, CYCLE, GREY, INK, legend_below, new_figure
from raygrid.report.figures.model_order import models_in_order, short_name
from raygrid.spec import EXTERNAL, displayed


def beside_published(beside: pd.DataFrame, table: int, *, phantom: bool = False) -> Figure:
    """Return the cells of one table, ours with intervals beside the published ones; a panel for each modality.

    Args:
        beside: as `raygrid.analysis.tables.beside_published` returns it.
    """
    here = beside[(beside["table"] == table) & beside["published_auc"].notna() & beside["auc"].notna()]
    modalities = list(dict.fromkeys(here["modality"]))
    most = int(here.groupby("modality").size().max()) if len(here) else 1
    figure = new_figure(2.2 + 3.4 * max(1, len(modalities)), 1.6 + 0.3 * most, phantom, title=f"Table {table}: AUC")
    panels = figure.subplots(1, max(1, len(modalities)), squeeze=False, sharex=True)[0]
    for axes, modality in zip(panels, modalities, strict=False):
        cells = here[here["modality"] == modality]
        places = np.arange(len(cells))
        reach = np.abs(cells[["auc_low", "auc_high"]].to_numpy().T - cells["auc"].to_numpy())
        axes.errorbar(cells["auc"], places, xerr=reach, fmt="o", color=CYCLE[0], capsize=2, label="this study, 95%")
        axes.plot(cells["published_auc"], places, "D", color=CYCLE[1], markerfacecolor="none", label="published")
        axes.set_yticks(places, [_words_of(cell) for cell in cells.to_dict("records")], fontsize=8)
        axes.set(title=modality, xlabel="AUC (0.5 = chance)", xlim=(-0.02, 1.02))
        axes.axvline(0.5, color=GREY, linewidth=0.8)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    if modalities:
        legend_below(figure, panels[0].get_legend_handles_labels()[0], ncols=2, fontsize=10)
    return figure


def effects_plot(effects: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return a forest plot of the effect of each factor, in points of relative AUC, a panel for each modality.

    Points left of zero mean more damage; an interval that covers zero is grey.

    Args:
        effects: as `raygrid.analysis.effects.factor_effects` returns it, relative AUC.
    """
    modalities = list(dict.fromkeys(effects["modality"]))
    contrasts = effects[["factor", "from", "to"]].drop_duplicates()
    places = {tuple(row): k for k, row in enumerate(contrasts.itertuples(index=False))}
    words = [_contrast(*place) for place in places]
    figure = new_figure(4.6 + 2.6 * max(1, len(modalities)), 1.9 + 0.3 * len(places), phantom)
    panels = figure.subplots(1, max(1, len(modalities)), sharey=True, squeeze=False)[0]
    for axes, modality in zip(panels, modalities, strict=False):
        for row in effects[effects["modality"] == modality].to_dict("records"):
            place = places[row["factor"], row["from"], row["to"]]
            colour = GREY if row["low"] <= 0 <= row["high"] else CYCLE[0]
            axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=1.8)
            axes.plot([100 * row["effect"]], [place], "o", color=colour, markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(title=modality, xlabel="points of relative AUC\n← more damage    less damage →")
        axes.grid(axis="x", alpha=0.3)
    marks = [
        Line2D([], [], color=CYCLE[0], marker="o", label="changes the damage, 95% interval"),
        Line2D([], [], color=GREY, marker="o", label="interval contains 0: no clear change"),
    ]
    legend_below(figure, marks, ncols=2)
    panels[0].set_yticks(range(len(places)), words, fontsize=8)
    panels[0].set_ylim(len(places) - 0.4, -0.6)
    return figure


def _contrast(factor: str, before: str, after: str) -> str:
    if after == "together":
        return factor
    return (
        f"{factor}: {displayed(before)} → {displayed(after)}" if factor == "attack" else f"{factor}: {before} → {after}"
    )


def clean_auc_plot(auc: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return a forest plot of the clean AUC of every model with its 95% interval, chance and the learning bound."""
    clean = auc[(auc["condition"] == "clean") & (auc["target_kind"] != EXTERNAL)]
    modalities = list(clean["modality"].unique())
    most = max((len(models_in_order(clean[clean["modality"] == m])) for m in modalities), default=1)
    figure = new_figure(2.6 + 3.2 * max(1, len(modalities)), 1.7 + 0.27 * most, phantom)
    panels = figure.subplots(1, max(1, len(modalities)), sharex=True, squeeze=False)[0]
    lowest = min(0.45, float(clean["auc_low"].min()) - 0.02) if len(clean) else 0.0
    for axes, modality in zip(panels, modalities, strict=False):
        here = clean[clean["modality"] == modality].set_index("target")
        models = models_in_order(clean[clean["modality"] == modality])
        for k, (name, *_) in enumerate(models):
            low, value, high = here.loc[name, ["auc_low", "auc", "auc_high"]].astype(float)
            colour = COLOURS["fgsm"] if low > LEARNED_BOUND else COLOURS["pgd"]
            axes.plot([low, high], [k, k], color=colour, linewidth=1.6)
            axes.plot([value], [k], "o" if low > LEARNED_BOUND else "X", color=colour, markersize=5)
        axes.axvline(0.5, color=GREY, linewidth=1)
        axes.axvline(LEARNED_BOUND, color=GREY, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(models)), [f"{m.arch}  {short_name(m)}" for m in models], fontsize=8)
        axes.set(title=modality, xlim=(lowest, 1.0), ylim=(len(models) - 0.4, -0.6), xlabel="clean AUC (test images)")
        axes.grid(axis="x", alpha=0.3)
    marks = [
        Line2D([], [], color=COLOURS["fgsm"], marker="o", label="learned, 95% interval"),
        Line2D([], [], color=COLOURS["pgd"], marker="X", label=f"not learned: interval reaches {LEARNED_BOUND:g}"),
        Line2D([], [], color=GREY, label="chance, 0.5"),
        Line2D([], [], color=GREY, linestyle="--", label=f"learning bound, {LEARNED_BOUND:g}"),
    ]
    legend_below(figure, marks, ncols=4)
    return figure


def _words_of(cell: Mapping[Any, Any]) -> str:
    """The factors of a table cell, in few words."""
    if cell["condition"] == "clean":
        return f"clean, {cell['target_init']}"
    parts = {
        1: (displayed(cell["attack"]), f"ε {cell['epsilon']:g}", cell["condition"]),
        2: (f"{cell['target_init']} ← {cell['surrogate_init']}",),
        3: (cell["architecture"], cell["surrogate_split"]),
    }
    return ", ".join(parts[int(cell["table"])])
