"""Pages of the report for tests, made of small frames."""

from typing import Any

import numpy as np
import pandas as pd
from auc_frames import model, set_row, small_frame, small_study

from raygrid.analysis.effects import all_effects
from raygrid.report.pairing_grid import ModelCard
from raygrid.report.study_page import Provenance, ReportInput, render_report

MODELS = [model(arch, instance=k) for arch in "ab" for k in (0, 1)]


def example_frame() -> pd.DataFrame:
    """Return a frame in which attacks through another instance do harm."""
    frame = small_frame(MODELS)
    for pair in [(MODELS[1], MODELS[0]), (MODELS[2], MODELS[0]), (MODELS[0], MODELS[2]), (MODELS[3], MODELS[2])]:
        for attack in ("fgsm", "pgd"):
            set_row(frame, *pair, attack, 0.02, auc=0.4)
            set_row(frame, *pair, attack, 0.04, auc=0.2)
    return frame


def render(frame: pd.DataFrame | None = None, *, phantom: bool = True, **values: Any) -> str:
    """Return the page of `example_frame`, or of another, with values of `ReportInput`."""
    inputs = ReportInput(
        study=small_study(MODELS),
        auc=example_frame() if frame is None else frame,
        phantom=phantom,
        cards=[
            ModelCard(
                modality="eye",
                name=MODELS[0].name,
                signature="f" * 64,
                best_epoch=3,
                card_path="zoo/card.json",
                facts={"Parameters": "1,234"},
            )
        ],
        provenance=Provenance(
            git_commit="c0ffee" * 6,
            versions={"torch": "9.9"},
            fingerprints={"eye": "abcd" * 16},
            counts={"eye": {"test": {"images": 1234}}},
            zero_gradient_share={"eye": 0.0123},
            runtime_s={"train": 77.0},
        ),
        **values,
    )
    return render_report(inputs)


def pictured() -> str:
    """Return a page with example images and learning curves."""
    history = [{"epoch": 1, "loss": 0.7, "validation_auc": 0.5}]
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    return render(examples={"eye": {"clean": image}}, histories={"eye": {MODELS[0].name: history}})


def practical(**values: Any) -> str:
    """Return a page with the section on practice."""
    case = {"modality": "eye", "condition": "adversarial", "attack": "fgsm", "epsilon": 0.02}
    decision = case | {"surrogate": "b", "target": "a", "white_box": False, "label": "finding", "auc": 0.4}
    decision |= {"sensitivity": 0.123, "specificity": 0.9, "fooled": 0.5, "brier": 0.2, "mean_probability": 0.3}
    decisions = pd.DataFrame([decision | {"num_positive": 20, "num_negative": 20}])
    perceptibility = pd.DataFrame([case | {"surrogate": "b", "linf": 0.02, "l2": 1.0, "psnr": 34.0, "ssim": 0.987}])
    return render(decisions=decisions, perceptibility=perceptibility, **values)


def full() -> str:
    """Return a page with every section but the pictures that take no text."""
    return practical(effects=all_effects(example_frame()))
