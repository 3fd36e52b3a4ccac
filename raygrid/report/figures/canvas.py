"""The blank figure with its watermark, the legend and the colours of all figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raygrid.io.files import atomic_path
from raygrid.io.mirror import display_path_and_url
from raygrid.report.table_text import PHANTOM_NOTICE

# Okabe & Ito: distinguishable with every common colour vision deficiency.
COLOURS = {"fgsm": "#0072B2", "pgd": "#D55E00"}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
GREY, INK, OUTLINE = "#5f6368", "#202124", "#D55E00"


def new_figure(width: float, height: float, phantom: bool, title: str = "") -> Figure:
    """Return a white figure; for phantoms, with a watermark across it and a notice above it."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if phantom:
        # Above the panels, where it is readable, and kept inside the layout so that it covers no title.
        figure.suptitle(f"{title}\n{PHANTOM_NOTICE}".strip(), color="#a50e0e", fontsize=9, parse_math=False)
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


def legend_below(figure: Figure, handles: Sequence[Artist], *, ncols: int, fontsize: float = 9) -> None:
    """Put a legend below the panels, in `ncols` columns or as many as fit into the figure's width.

    Args:
        handles: labelled, as `Axes.get_legend_handles_labels` finds them.
    """
    for columns in range(ncols, 0, -1):
        legend = figure.legend(
            handles=list(handles), loc="outside lower center", ncols=columns, frameon=False, fontsize=fontsize
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def save_figure(study_dir: Path, figure: Figure, name: str) -> str:
    """Write a figure to STUDY/figures/`name`, in the format of its suffix; return its path, and URL if it has one."""
    path = study_dir / "figures" / name
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
    return display_path_and_url(path)
