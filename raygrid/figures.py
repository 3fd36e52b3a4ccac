"""Pictures of a study as matplotlib Figures: pure functions, object API only, no pyplot state."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from raygrid.spec import ENSEMBLE, EXTERNAL, PRETRAINED_ON, WEIGHTS

WATERMARK = "Generated phantoms: not medical evidence"
LEARNED_BOUND = 0.6  # the bound of raygrid.tables, drawn as a line

# Okabe & Ito: told apart with every common colour vision deficiency.
_COLOURS = {"fgsm": "#0072B2", "pgd": "#D55E00"}
_CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_GREY, _INK, _OUTLINE = "#5f6368", "#202124", "#D55E00"
_SIDE = ("arch", "init", "split", "instance")
ModelFacts = tuple[str, str, str, str, int]  # name, then what _SIDE names


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
    here = auc[(auc["modality"] == modality) & (auc["target_arch"] != EXTERNAL)]
    surrogates = models_in_order(here)
    targets = [model for model in surrogates if model[1] != ENSEMBLE]
    chosen = here[(here["attack"] == attack) & (here["condition"] == condition) & np.isclose(here["epsilon"], epsilon)]
    rows, columns = [model[0] for model in surrogates], [model[0] for model in targets]
    matrix = chosen.pivot(index="surrogate", columns="target", values="auc").reindex(index=rows, columns=columns)
    marked = {*zip(columns, columns, strict=True)}
    holding = chosen[chosen["white_box"]]
    marked |= {*zip(holding["surrogate"].astype(str), holding["target"].astype(str), strict=True)}
    width, height = (3.6 + 0.52 * max(len(models), 4) for models in (targets, surrogates))
    figure = _figure(
        width + 1.2, height + 0.5, phantom, title=f"{modality}: {attack.upper()} at ε = {epsilon:g}, {condition}"
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
    what = "surrogate = target" if len(rows) == len(columns) else "the surrogate is the target, or holds it"
    white_box = Patch(facecolor="none", edgecolor=_OUTLINE, hatch="////", label=f"white-box reference ({what})")
    missing = Patch(facecolor="#dadce0", edgecolor=_GREY, label="× missing")
    handles = [white_box, missing] if np.isnan(values).any() else [white_box]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def epsilon_curves(cells: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return AUC against epsilon per modality, from the cells of Table 1, with 95% bands and the clean AUC."""
    modalities = list(cells["modality"].unique())
    figure = _figure(max(7.2, 1.6 + 3.4 * len(modalities)), 4.2, phantom)  # narrower, and the legend is cut off
    panels = figure.subplots(1, max(1, len(modalities)), sharey=True, squeeze=False)[0]
    for axes, modality in zip(panels, modalities, strict=False):
        here = cells[cells["modality"] == modality]
        for attack in sorted(a for a in here["attack"].unique() if a):
            for condition in ("adversarial", "control"):
                _curve(axes, here, attack, condition)
        for clean in here.loc[here["condition"] == "clean", "auc"]:
            axes.axhline(clean, color=_INK, linewidth=1.2, linestyle=":")
        axes.axhline(0.5, color=_GREY, linewidth=0.8)
        axes.set(title=modality, xlabel="ε (largest pixel change,\nimage scale [-1, 1])", ylim=(-0.02, 1.02))
        axes.set_xticks(sorted(here.loc[here["epsilon"] > 0, "epsilon"].unique()))
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("AUC of the target\n(0.5 = chance, thin grey line)")
    figure.legend(handles=_curve_legend(cells), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def beside_published(beside: pd.DataFrame, table: int, *, phantom: bool = False) -> Figure:
    """Return the cells of one table, ours with intervals beside the published ones; a panel for each modality.

    Args:
        beside: as `raygrid.tables.beside_published` returns it.
    """
    here = beside[(beside["table"] == table) & beside["published_auc"].notna() & beside["auc"].notna()]
    modalities = list(dict.fromkeys(here["modality"]))
    most = int(here.groupby("modality").size().max()) if len(here) else 1
    figure = _figure(2.2 + 3.4 * max(1, len(modalities)), 1.6 + 0.3 * most, phantom, title=f"Table {table}: AUC")
    panels = figure.subplots(1, max(1, len(modalities)), squeeze=False, sharex=True)[0]
    for axes, modality in zip(panels, modalities, strict=False):
        cells = here[here["modality"] == modality]
        places = np.arange(len(cells))
        reach = np.abs(cells[["auc_low", "auc_high"]].to_numpy().T - cells["auc"].to_numpy())
        axes.errorbar(cells["auc"], places, xerr=reach, fmt="o", color=_CYCLE[0], capsize=2, label="this study, 95%")
        axes.plot(cells["published_auc"], places, "D", color=_CYCLE[1], markerfacecolor="none", label="published")
        axes.set_yticks(places, [_words_of(cell) for cell in cells.to_dict("records")], fontsize=8)
        axes.set(title=modality, xlabel="AUC (0.5 = chance)", xlim=(-0.02, 1.02))
        axes.axvline(0.5, color=_GREY, linewidth=0.8)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    if modalities:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def damage_against_visibility(seen: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return what each attack costs against how visible it is: relative AUC over SSIM, a panel for each modality.

    Args:
        seen: as `raygrid.tables.damage_and_visibility` returns it.
    """
    modalities = list(dict.fromkeys(seen["modality"]))
    figure = _figure(1.2 + 3.4 * max(1, len(modalities)), 3.6, phantom)
    panels = figure.subplots(1, max(1, len(modalities)), squeeze=False, sharey=True)[0]
    attacks = sorted(seen["attack"].unique())
    colours = {a: _COLOURS.get(a, _CYCLE[(k + 2) % len(_CYCLE)]) for k, a in enumerate(attacks)}
    for axes, modality in zip(panels, modalities, strict=False):
        for (attack, condition), line in seen[seen["modality"] == modality].groupby(["attack", "condition"]):
            style: dict[str, Any] = {"color": colours[str(attack)]}
            adversarial = condition == "adversarial"
            style |= {"linestyle": "-" if adversarial else "--", "marker": "o" if adversarial else "x"}
            axes.plot(line["ssim"], 100 * line["relative_auc"], label=f"{str(attack).upper()}, {condition}", **style)
        axes.set(title=modality, xlabel="SSIM to the clean image\n(1 = not visible)")
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("relative AUC, % of clean\n(mean over black-box pairings)")
    if modalities:
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
        )
    return figure


def effects_plot(effects: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return a forest plot of what each factor changes, in points of relative AUC, a panel for each modality.

    Args:
        effects: as `raygrid.effects.factor_effects` returns it, relative AUC.
    """
    modalities = list(dict.fromkeys(effects["modality"]))
    contrasts = effects[["factor", "from", "to"]].drop_duplicates()
    places = {tuple(row): k for k, row in enumerate(contrasts.itertuples(index=False))}
    words = [f"{f}: {a} → {b}" if b != "together" else f for f, a, b in places]
    figure = _figure(4.6 + 2.6 * max(1, len(modalities)), 1.5 + 0.3 * len(places), phantom)
    panels = figure.subplots(1, max(1, len(modalities)), sharey=True, squeeze=False)[0]
    for axes, modality in zip(panels, modalities, strict=False):
        for row in effects[effects["modality"] == modality].to_dict("records"):
            place = places[row["factor"], row["from"], row["to"]]
            colour = _GREY if row["low"] <= 0 <= row["high"] else _CYCLE[0]
            axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=1.8)
            axes.plot([100 * row["effect"]], [place], "o", color=colour, markersize=5)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set(title=modality, xlabel="points of relative AUC")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(places)), words, fontsize=8)
    panels[0].set_ylim(len(places) - 0.4, -0.6)
    return figure


def _words_of(cell: Mapping[Any, Any]) -> str:
    """What a cell of a table is of, in few words."""
    if cell["condition"] == "clean":
        return f"clean, {cell['target_init']}"
    parts = {
        1: (cell["attack"].upper(), f"ε {cell['epsilon']:g}", cell["condition"]),
        2: (f"{cell['target_init']} ← {cell['surrogate_init']}",),
        3: (cell["architecture"], cell["surrogate_split"]),
    }
    return ", ".join(parts[int(cell["table"])])


def example_images(images: Mapping[str, Mapping[str, NDArray[Any]]], *, phantom: bool = False) -> Figure:
    """Return the paper's Figure 1: modalities in columns, clean and attacked images in rows.

    Args:
        images: modality → row label → (height, width, channels), uint8 or floats in [-1, 1].
    """
    rows = list(dict.fromkeys(label for column in images.values() for label in column))
    figure = _figure(0.9 + 2.1 * max(1, len(images)), 0.7 + 2.1 * max(1, len(rows)), phantom)
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
                axes.text(0.5, 0.5, "missing", ha="center", va="center", transform=axes.transAxes, color=_GREY)
    return figure


def attacked_examples(
    examples: Sequence[tuple[str, str, NDArray[Any], NDArray[Any]]], *, phantom: bool = False
) -> Figure:
    """Return images before an attack, after it, and what changed, amplified until it fills the range; a row for each.

    Args:
        examples: words for before and after, and the two images (height, width, channels) in [-1, 1].
    """
    figure = _figure(8.4, 0.8 + 2.75 * max(1, len(examples)), phantom)
    panels = figure.subplots(max(1, len(examples)), 3, squeeze=False)
    for row, (before, after, clean, attacked) in zip(panels, examples, strict=False):
        change = attacked.astype(np.float64) - clean
        gain = 1 / max(float(np.abs(change).max()), 1e-6)
        for axes, image, words in zip(
            row, (clean, attacked, change * gain), (before, after, f"what changed, × {gain:.0f}"), strict=True
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
    figure = _figure(1.5 * columns, 0.7 + 1.85 * rows, phantom, title=title)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes in panels[len(images) :]:
        axes.set_axis_off()
    for axes, image, caption in zip(panels, images, captions, strict=False):
        axes.imshow(_displayable(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(caption, fontsize=6.5, parse_math=False)  # a name may hold a dollar sign
    return figure


def clean_auc_plot(auc: pd.DataFrame, *, phantom: bool = False) -> Figure:
    """Return a forest plot of the clean AUC of every model with its 95% interval, chance and the learning bound."""
    clean = auc[(auc["condition"] == "clean") & (auc["target_arch"] != EXTERNAL)]
    modalities = list(clean["modality"].unique())
    most = max((len(models_in_order(clean[clean["modality"] == m])) for m in modalities), default=1)
    figure = _figure(2.6 + 3.2 * max(1, len(modalities)), 1.7 + 0.27 * most, phantom)
    panels = figure.subplots(1, max(1, len(modalities)), sharex=True, squeeze=False)[0]
    lowest = min(0.45, float(clean["auc_low"].min()) - 0.02) if len(clean) else 0.0
    for axes, modality in zip(panels, modalities, strict=False):
        here = clean[clean["modality"] == modality].set_index("target")
        models = models_in_order(clean[clean["modality"] == modality])
        for k, (name, *_) in enumerate(models):
            low, value, high = here.loc[name, ["auc_low", "auc", "auc_high"]].astype(float)
            colour = _COLOURS["fgsm"] if low > LEARNED_BOUND else _COLOURS["pgd"]
            axes.plot([low, high], [k, k], color=colour, linewidth=1.6)
            axes.plot([value], [k], "o" if low > LEARNED_BOUND else "X", color=colour, markersize=5)
        axes.axvline(0.5, color=_GREY, linewidth=1)
        axes.axvline(LEARNED_BOUND, color=_GREY, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(models)), [f"{m[1]}  {short_name(m)}" for m in models], fontsize=8)
        axes.set(title=modality, xlim=(lowest, 1.0), ylim=(len(models) - 0.4, -0.6), xlabel="clean AUC (test images)")
        axes.grid(axis="x", alpha=0.3)
    marks = [
        Line2D([], [], color=_COLOURS["fgsm"], marker="o", label="learned, 95% interval"),
        Line2D([], [], color=_COLOURS["pgd"], marker="X", label="not learned: interval reaches 0.6"),
        Line2D([], [], color=_GREY, label="chance, 0.5"),
        Line2D([], [], color=_GREY, linestyle="--", label="learning bound, 0.6"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, title: str = "", phantom: bool = False
) -> Figure:
    """Return training loss and validation AUC against epoch for every model.

    Args:
        histories: name → records with "epoch", "loss" (binary cross-entropy, nats) and "validation_auc".
    """
    figure = _figure(11, 3.2 + 0.1 * len(histories), phantom, title=title)
    loss, validation = figure.subplots(1, 2)
    for k, (name, history) in enumerate(histories.items()):
        style: dict[str, Any] = {"color": _CYCLE[k % len(_CYCLE)], "linestyle": ["-", "--", ":"][k // len(_CYCLE) % 3]}
        epochs = [record["epoch"] for record in history]
        marker = "." if len(history) < 3 else ""
        loss.plot(epochs, [record["loss"] for record in history], label=name, marker=marker, **style)
        validation.plot(epochs, [record["validation_auc"] for record in history], marker=marker, **style)
    validation.axhline(0.5, color=_GREY, linewidth=0.8)
    loss.set(xlabel="epoch", ylabel="training loss (binary cross-entropy, nats)")
    validation.set(xlabel="epoch", ylabel="validation AUC (0.5 = chance)")
    if histories:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _figure(width: float, height: float, phantom: bool, title: str = "") -> Figure:
    """A white figure with, on phantoms, the watermark across it and in words above it."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if phantom:
        # Above the panels, where it is readable, and kept inside the layout so that it covers no title.
        figure.suptitle(f"{title}\n{WATERMARK}".strip(), color="#a50e0e", fontsize=9, parse_math=False)
        mark: dict[str, Any] = {
            "fontsize": 4.2 * min(width, 2 * height),
            "color": "#808080",
            "alpha": 0.16,
            "zorder": 10,
        }
        figure.text(0.5, 0.5, "PHANTOM", ha="center", va="center", rotation=24, in_layout=False, **mark)
    elif title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def models_in_order(frame: pd.DataFrame) -> list[ModelFacts]:
    """Return (name, arch, init, split, instance) of all models: by architecture, random first, then split and instance.

    Ensembles come last, and after them the targets that raygrid did not train.
    """
    sides = []
    for side in ("target", "surrogate"):
        names = {f"{side}_{c}": c for c in _SIDE} | {side: "name"}
        sides.append(frame.loc[frame[side] != "", list(names)].rename(columns=names))
    rows = pd.concat(sides).drop_duplicates()[["name", *_SIDE]].itertuples(index=False)
    found = [(str(n), str(a), str(i), str(s), int(k)) for n, a, i, s, k in rows]
    return sorted(found, key=lambda m: (m[1] == EXTERNAL, m[1] == ENSEMBLE, m[1], m[2] != "random", m[2], m[3], m[4]))


def short_name(model: ModelFacts) -> str:
    """Return everything but the architecture, e.g. "random d2/2 #0"."""
    name, arch, init, split, instance = model
    if arch in (ENSEMBLE, EXTERNAL):
        return name.removeprefix(f"{arch}-")
    known = init.removeprefix(PRETRAINED_ON).removeprefix(WEIGHTS)
    words = f"pre-tr. {known}" if known != init else init
    words = "ImageNet" if init == "imagenet" else words
    return f"{words} {split.replace('_half', '/2').replace('_tenth', '/10')} #{instance}"


def _group_axes(axes: Axes, rows: Sequence[ModelFacts], columns: Sequence[ModelFacts]) -> None:
    """Tick labels per model, architecture names outside them, a white rule between architectures."""
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), [short_name(m) for m in columns], fontsize=9, **slanted)
    axes.set_yticks(range(len(rows)), [short_name(m) for m in rows], fontsize=9)
    words: dict[str, Any] = {"fontsize": 9, "fontweight": "bold"}
    for first, end in _same_architecture(columns):
        axes.text((first + end - 1) / 2, -0.7, columns[first][1], ha="center", va="bottom", **words)
        if first:
            axes.axvline(first - 0.5, color="white", linewidth=3)
    for first, end in _same_architecture(rows):
        beside = {"ha": "left", "va": "center", "rotation": 270} if end - first > 1 else {"ha": "left", "va": "center"}
        axes.text(len(columns) - 0.3, (first + end - 1) / 2, rows[first][1], **beside, **words)
        if first:
            axes.axhline(first - 0.5, color="white", linewidth=3)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)


def _same_architecture(models: Sequence[ModelFacts]) -> Iterable[tuple[int, int]]:
    """Return the first and the end of every run of models with one architecture."""
    starts = [k for k in range(len(models)) if k == 0 or models[k][1] != models[k - 1][1]]
    return pairwise([*starts, len(models)])


def _write_cells(axes: Axes, values: NDArray[np.float64], white_box: Iterable[tuple[int, int]]) -> None:
    for (row, column), value in np.ndenumerate(values):
        text = "×" if np.isnan(value) else f"{value:.2f}"
        colour = _GREY if np.isnan(value) else "white" if value < 0.45 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour, zorder=4)
    for row, column in white_box:
        box: dict[str, Any] = {"facecolor": "none", "edgecolor": _OUTLINE, "linewidth": 2, "zorder": 3}
        axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **box))
        if np.isfinite(values[row, column]):  # hatched at the rim only, the number stays readable
            hatched: dict[str, Any] = {
                "facecolor": "none",
                "edgecolor": _OUTLINE,
                "linewidth": 0,
                "hatch": "/////",
                "zorder": 3,
            }
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.18, **hatched))
            axes.add_patch(Rectangle((column - 0.46, row + 0.28), 0.92, 0.18, **hatched))


def _curve(axes: Axes, cells: pd.DataFrame, attack: str, condition: str) -> None:
    line = cells[(cells["attack"] == attack) & (cells["condition"] == condition)].sort_values("epsilon")
    style: dict[str, Any] = {
        "color": _COLOURS.get(attack, _GREY),
        "linestyle": "-" if condition == "adversarial" else "--",
    }
    axes.plot(line["epsilon"], line["auc"], marker="o" if attack == "fgsm" else "s", markersize=4, **style)
    axes.fill_between(line["epsilon"], line["auc_low"], line["auc_high"], color=style["color"], alpha=0.15, linewidth=0)


def _curve_legend(cells: pd.DataFrame) -> list[Line2D]:
    handles = []
    for attack in sorted(a for a in cells["attack"].unique() if a):
        colour, marker = _COLOURS.get(attack, _GREY), "o" if attack == "fgsm" else "s"
        dashes: list[tuple[str, Literal["-", "--"]]] = [("adversarial", "-"), ("control (shuffled)", "--")]
        for condition, dash in dashes:
            label = f"{attack.upper()}, {condition}"
            handles.append(Line2D([], [], color=colour, linestyle=dash, marker=marker, markersize=4, label=label))
    return [*handles, Line2D([], [], color=_INK, linestyle=":", label="clean (bands: 95% intervals)")]


def _displayable(image: NDArray[Any]) -> NDArray[np.float64]:
    scaled = image.astype(np.float64) / 255 if image.dtype == np.uint8 else (image.astype(np.float64) + 1) / 2
    clipped: NDArray[np.float64] = np.clip(scaled, 0, 1)
    return clipped[..., 0] if clipped.ndim == 3 and clipped.shape[-1] == 1 else clipped
