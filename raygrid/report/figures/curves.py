"""Line plots: AUC against epsilon, damage against perceptibility, training against epochs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raygrid.report.figures.canvas import COLOURS, CYCLE, GREY, INK, legend_below, new_figure
from raygrid.spec import displayed


def epsilon_curves(cells: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return AUC against epsilon per modality, with 95% bands and the clean AUC, from the cells of Table 1."""
    modalities = list(cells["modality"].unique())
    figure = new_figure(1.6 + 3.4 * max(1, len(modalities)), 4.2, phantom)
    panels = figure.subplots(1, max(1, len(modalities)), sharey=True, squeeze=False)[0]
    for axes, modality in zip(panels, modalities, strict=False):
        here = cells[cells["modality"] == modality]
        for attack in sorted(a for a in here["attack"].unique() if a):
            for condition in ("adversarial", "control"):
                _curve(axes, here, attack, condition)
        for clean in here.loc[here["condition"] == "clean", "auc"]:
            axes.axhline(clean, color=INK, linewidth=1.2, linestyle=":")
        axes.axhline(0.5, color=GREY, linewidth=0.8)
        axes.set(title=modality, xlabel="ε (largest pixel change,\nimage scale [-1, 1])", ylim=(-0.02, 1.02))
        axes.set_xticks(sorted(here.loc[here["epsilon"] > 0, "epsilon"].unique()))
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("AUC of the target\n(0.5 = chance, thin grey line)")
    legend_below(figure, _curve_legend(cells), ncols=3)
    return figure


def damage_against_perceptibility(table: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return relative AUC against SSIM, a line for each attack, a panel for each modality.

    Args:
        table: as `raygrid.analysis.tables.damage_and_perceptibility` returns it.
    """
    modalities = list(dict.fromkeys(table["modality"]))
    figure = new_figure(1.2 + 3.4 * max(1, len(modalities)), 3.6, phantom)
    panels = figure.subplots(1, max(1, len(modalities)), squeeze=False, sharey=True)[0]
    attacks = sorted(table["attack"].unique())
    colours = {a: COLOURS.get(a, CYCLE[(k + 2) % len(CYCLE)]) for k, a in enumerate(attacks)}
    for axes, modality in zip(panels, modalities, strict=False):
        for (attack, condition), line in table[table["modality"] == modality].groupby(["attack", "condition"]):
            style: dict[str, Any] = {"color": colours[str(attack)]}
            adversarial = condition == "adversarial"
            style |= {"linestyle": "-" if adversarial else "--", "marker": "o" if adversarial else "x"}
            axes.plot(line["ssim"], 100 * line["relative_auc"], label=f"{displayed(str(attack))}, {condition}", **style)
        axes.set(title=modality, xlabel="SSIM to the clean image\n(1 = identical)")
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("relative AUC, % of clean\n(mean over black-box pairings)")
    if modalities:
        legend_below(figure, panels[0].get_legend_handles_labels()[0], ncols=4)
    return figure


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, title: str = "", phantom: bool = False
) -> Figure:
    """Return training loss and validation AUC against epoch for every model.

    Args:
        histories: name → records with "epoch", "loss" (binary cross-entropy, nats) and "validation_auc".
    """
    figure = new_figure(11, 3.2 + 0.1 * len(histories), phantom, title=title)
    loss, validation = figure.subplots(1, 2)
    for k, (name, history) in enumerate(histories.items()):
        style: dict[str, Any] = {"color": CYCLE[k % len(CYCLE)], "linestyle": ["-", "--", ":"][k // len(CYCLE) % 3]}
        epochs = [record["epoch"] for record in history]
        marker = "." if len(history) < 3 else ""
        loss.plot(epochs, [record["loss"] for record in history], label=name, marker=marker, **style)
        validation.plot(epochs, [record["validation_auc"] for record in history], marker=marker, **style)
    validation.axhline(0.5, color=GREY, linewidth=0.8)
    loss.set(xlabel="epoch", ylabel="training loss (binary cross-entropy, nats)")
    validation.set(xlabel="epoch", ylabel="validation AUC (0.5 = chance)")
    if histories:
        legend_below(figure, loss.get_legend_handles_labels()[0], ncols=3, fontsize=8)
    return figure


def _curve(axes: Axes, cells: pd.DataFrame, attack: str, condition: str) -> None:
    line = cells[(cells["attack"] == attack) & (cells["condition"] == condition)].sort_values("epsilon")
    style: dict[str, Any] = {
        "color": COLOURS.get(attack, GREY),
        "linestyle": "-" if condition == "adversarial" else "--",
    }
    axes.plot(line["epsilon"], line["auc"], marker="o" if attack == "fgsm" else "s", markersize=4, **style)
    axes.fill_between(line["epsilon"], line["auc_low"], line["auc_high"], color=style["color"], alpha=0.15, linewidth=0)


def _curve_legend(cells: pd.DataFrame) -> list[Line2D]:
    handles = []
    for attack in sorted(a for a in cells["attack"].unique() if a):
        colour, marker = COLOURS.get(attack, GREY), "o" if attack == "fgsm" else "s"
        dashes: list[tuple[str, Literal["-", "--"]]] = [("adversarial", "-"), ("control (shuffled)", "--")]
        for condition, dash in dashes:
            label = f"{displayed(attack)}, {condition}"
            handles.append(Line2D([], [], color=colour, linestyle=dash, marker=marker, markersize=4, label=label))
    return [*handles, Line2D([], [], color=INK, linestyle=":", label="clean (bands: 95% intervals)")]
