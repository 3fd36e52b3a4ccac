"""Figures: what they show, that axes have units, that phantoms are marked. Pixels are looked at by people."""

import io

import numpy as np
import pandas as pd
import pytest
from auc_frames import model, set_row, small_frame, with_ensemble, without
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raygrid.analysis import tables
from raygrid.report import figures
from raygrid.report.table_text import PHANTOM_NOTICE

MODELS = [model(arch, instance=k) for arch in "ab" for k in (0, 1)]
HISTORY = {"a": [{"epoch": 1, "loss": 0.7, "validation_auc": 0.5}, {"epoch": 2, "loss": 0.6, "validation_auc": 0.8}]}


def _texts(figure: Figure) -> list[str]:
    figure.savefig(io.BytesIO(), format="png", dpi=30)  # drawing places the labels
    return [item.get_text() for item in figure.findobj(match=lambda o: hasattr(o, "get_text")) if item.get_text()]


def _all_figures(phantom: bool) -> dict[str, Figure]:
    frame = small_frame(MODELS)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    return {
        "heat map": figures.heat_map(frame, "eye", "pgd", 0.02, phantom=phantom),
        "curves": figures.epsilon_curves(tables.table1(frame), phantom=phantom),
        "examples": figures.example_images({"eye": {"clean": image}}, phantom=phantom),
        "clean": figures.clean_auc_plot(frame, phantom=phantom),
        "learning": figures.learning_curves(HISTORY, title="eye", phantom=phantom),
    }


@pytest.mark.parametrize("phantom", [True, False])
def test_phantoms_are_marked_on_every_figure_and_only_then(phantom):
    for name, figure in _all_figures(phantom).items():
        assert any(PHANTOM_NOTICE in text for text in _texts(figure)) is phantom, name


def test_every_axis_of_numbers_names_what_it_measures():
    for name in ("curves", "clean", "learning"):
        for axes in _all_figures(False)[name].axes:
            assert axes.get_xlabel(), name
    assert _all_figures(False)["curves"].axes[0].get_ylabel().startswith("AUC")


def test_heat_map_shows_each_pairing_in_its_place_and_marks_what_is_missing():
    frame = without(small_frame(MODELS), MODELS[1], MODELS[2])
    set_row(frame, MODELS[3], MODELS[0], "pgd", 0.02, auc=0.123)
    figure = figures.heat_map(frame, "eye", "pgd", 0.02)
    places = {t.get_position(): t.get_text() for t in figure.axes[0].texts}
    assert places[(0, 3)] == "0.12"  # x = target a-0, y = surrogate b-1
    assert places[(2, 1)] == "×"
    assert sum(text == "×" for text in places.values()) == 1
    outlines = [p for p in figure.axes[0].patches if p.get_linewidth() == 2]
    assert [(round(p.get_x() + 0.46), round(p.get_y() + 0.46)) for p in outlines] == [(k, k) for k in range(4)]


def test_heat_map_has_a_row_for_an_ensemble_but_no_column():
    frame = with_ensemble(small_frame(MODELS), [MODELS[1], MODELS[2]], auc=0.321)
    figure = figures.heat_map(frame, "eye", "pgd", 0.02)
    places = {t.get_position(): t.get_text() for t in figure.axes[0].texts}
    assert [places[k, 4] for k in range(4)] == ["0.32"] * 4
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][-1] == "some"
    assert len(figure.axes[0].get_xticklabels()) == 4
    outlines = [p for p in figure.axes[0].patches if p.get_linewidth() == 2]
    marked = {(round(p.get_x() + 0.46), round(p.get_y() + 0.46)) for p in outlines}
    assert marked == {(0, 0), (1, 1), (2, 2), (3, 3), (1, 4), (2, 4)}


def test_epsilon_curves_plot_the_cells_of_table1():
    frame = small_frame(MODELS)
    for surrogate, target in [
        (MODELS[1], MODELS[0]),
        (MODELS[2], MODELS[0]),
        (MODELS[0], MODELS[2]),
        (MODELS[3], MODELS[2]),
    ]:
        set_row(frame, surrogate, target, "fgsm", 0.02, auc=0.4)
    axes = figures.epsilon_curves(tables.table1(frame)).axes[0]
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert any(np.allclose(line, [[0.02, 0.4], [0.04, 0.9]]) for line in lines if len(line) == 2)


def test_clean_plot_tells_models_that_did_not_learn():
    frame = small_frame(MODELS)
    set_row(frame, None, MODELS[0], auc=0.55, auc_low=0.5)
    axes = figures.clean_auc_plot(frame).axes[0]
    crosses = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "X"]
    assert crosses == [[0.55]]


@pytest.mark.parametrize(
    "image", [np.full((4, 4, 3), 255, dtype=np.uint8), np.ones((4, 4, 3)), np.ones((4, 4, 1), dtype=np.float32)]
)
def test_example_images_scale_bytes_and_floats_alike(image):
    figure = figures.example_images({"eye": {"clean": image}, "chest": {"FGSM": image * 0}})
    assert len(figure.axes) == 4
    assert figure.axes[0].images[0].get_array().min() == 1.0
    assert sum("missing" in text for text in _texts(figure)) == 2


@pytest.mark.parametrize("num_modalities", [1, 3])
def test_no_legend_is_cut_off(num_modalities: int) -> None:
    lines = [
        {"modality": f"m{k}", "attack": attack, "condition": condition, "ssim": ssim, "relative_auc": ssim}
        for k in range(num_modalities)
        for attack in ("fgsm", "pgd")
        for condition in ("adversarial", "control")
        for ssim in (0.8, 0.9)
    ]
    drawn = {
        **_all_figures(phantom=False),
        "perceptibility": figures.damage_against_perceptibility(pd.DataFrame(lines)),
    }
    assert len([name for name, figure in drawn.items() if figure.legends]) >= 3
    for name, figure in drawn.items():
        FigureCanvasAgg(figure).draw()
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert (box.x0 >= 0, box.x1 <= figure.bbox.x1, box.y0 >= 0) == (True, True, True), name
