"""Pages of the report for tests, made of small frames in a small study folder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from auc_frames import model, set_row, small_frame, small_study

from raygrid.analysis.results import StudyResults
from raygrid.io.files import write_json
from raygrid.report.study_page import render_report
from raygrid.report.study_pictures import Examples
from raygrid.spec import ModelSpec, StudySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.query_budget import NotAsked

MODELS = [model(arch, instance=k) for arch in "ab" for k in (0, 1)]


@dataclass(frozen=True)
class PageResults(StudyResults):
    """Results of a folder without score files; the facts that those would hold are given."""

    not_asked: NotAsked = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "eye": {"num_attacked": 10000, "num_zero_gradients": 123, "unmoved": {}, "seconds": 77.0}
        }
    )


@contextmanager
def page_results(
    study: StudySpec,
    *,
    auc: pd.DataFrame,
    decisions: pd.DataFrame | None = None,
    perceptibility: pd.DataFrame | None = None,
    trained: ModelSpec,
    phantom: bool,
    meanings: Mapping[str, str] | None = None,
    **facts: Any,
) -> Iterator[StudyResults]:
    """Yield the results of a folder with these frames and one trained model; the folder goes when they do."""
    with TemporaryDirectory() as name:
        folder = StudyFolder(Path(name), study, {"eye": "abcd" * 16})
        made_by = {"versions": {"torch": "9.9"}, "git_commit": "c0ffee" * 6}
        write_json(folder.path / "study.json", {"phantom": phantom, **made_by})
        manifest = {"title": "eyes", "labels": ["finding"], "counts": {"test": {"images": 1234}}, "shards": []}
        manifest["notes"] = ["2 of 9 test images are <also> in development"]
        manifest |= {} if meanings is None else {"label_meanings": dict(meanings)}
        write_json(folder.samples_dir("eye") / "manifest.json", manifest)
        _write_model(folder, trained)
        folder.results.write("auc", auc)
        folder.results.write("decisions", _decisions() if decisions is None else decisions)
        folder.results.write("visibility", _perceptibility() if perceptibility is None else perceptibility)
        yield PageResults(folder, **facts)


def example_frame() -> pd.DataFrame:
    """Return a frame in which attacks through another instance do harm."""
    frame = small_frame(MODELS)
    for pair in [(MODELS[1], MODELS[0]), (MODELS[2], MODELS[0]), (MODELS[0], MODELS[2]), (MODELS[3], MODELS[2])]:
        for attack in ("fgsm", "pgd"):
            set_row(frame, *pair, attack, 0.02, auc=0.4)
            set_row(frame, *pair, attack, 0.04, auc=0.2)
    return frame


def render(frame: pd.DataFrame | None = None, *, phantom: bool = True, examples: Examples | None = None) -> str:
    """Return the page of `example_frame`, or of another."""
    auc = example_frame() if frame is None else frame
    with page_results(small_study(MODELS), auc=auc, trained=MODELS[0], phantom=phantom) as results:
        return render_report(results, examples or {})


def pictured() -> str:
    """Return a page with example images: it has every section."""
    return render(examples={"eye": {"clean": np.zeros((8, 8, 3), dtype=np.uint8)}})


def _write_model(folder: StudyFolder, trained: ModelSpec) -> None:
    card = {
        "signature": "f" * 64,
        "starts_from": "",
        "recipe": {"epochs": 2, "balanced": False},
        "labels": ["finding"],
        "data": {"title": "eyes"},
        "num_training_images": 90,
        "num_validation_images": 10,
        "num_parameters": 1234,
        "best_epoch": 3,
        "validation_auc": 0.91,
        "seconds": 5.0,
        "weights_sha256": "e" * 64,
    }
    write_json(folder.model(trained).card_path, card)
    write_json(folder.model(trained).path / "history.json", [{"epoch": 1, "loss": 0.7, "validation_auc": 0.5}])


_CASE = {"modality": "eye", "condition": "adversarial", "attack": "fgsm", "epsilon": 0.02}


def _decisions() -> pd.DataFrame:
    decision = _CASE | {"surrogate": "b", "target": "a", "white_box": False, "label": "finding", "auc": 0.4}
    decision |= {"sensitivity": 0.123, "specificity": 0.9, "fooled": 0.5, "brier": 0.2, "mean_probability": 0.3}
    return pd.DataFrame([decision | {"num_positive": 20, "num_negative": 20}])


def _perceptibility() -> pd.DataFrame:
    return pd.DataFrame([_CASE | {"surrogate": "b", "linf": 0.02, "l2": 1.0, "psnr": 34.0, "ssim": 0.987}])
