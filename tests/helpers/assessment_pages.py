"""An external target attacked through four surrogates, with numbers that can be checked by hand."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from auc_frames import EPSILONS, model, small_study
from report_pages import page_results

from raygrid.analysis.assessment import Assessment
from raygrid.report.target_page import render_target_page
from raygrid.scoring.examples import TargetExample
from raygrid.spec import ModelSpec, TargetSpec

A, B = model("a"), model("a", split="d2")
C, D = model("a", init="imagenet"), model("b")
MODELS = (A, B, C, D)
TARGET = TargetSpec(
    modality="eye", label="deployed", kind="callable", source="clinic.model:predict", received="jpeg:90"
)
AUCS = {A: (0.60, 0.50), B: (0.70, 0.70), C: (0.40, 0.40), D: (0.74, 0.76)}  # FGSM, PGD at the smaller epsilon
PATIENTS = 2000  # of one image each, half of them with the finding
SENSITIVITY = {A: 0.5, B: 0.7, C: 0.1, D: 0.3}
SPECIFICITY = {A: 0.6, B: 0.6, C: 0.2, D: 0.6}


def small_frame() -> pd.DataFrame:
    """Clean 0.80; the larger epsilon takes 0.1 more; shuffled 0.78. Half of the patients pull up, half down: a standard
    error of 0.02, and through C of 0.04."""
    rows = [_row(None, "clean", "", 0.0, 0.80, 0.02)]
    for surrogate, condition in product(MODELS, ("adversarial", "control")):
        for (k, attack), epsilon in product(enumerate(("fgsm", "pgd")), EPSILONS):
            left = 0.78 if condition == "control" else AUCS[surrogate][k] - (0.1 if epsilon > 0.02 else 0.0)
            rows.append(_row(surrogate, condition, attack, epsilon, left, 0.04 if surrogate == C else 0.02))
    return pd.DataFrame(rows)


def assessment(frame: pd.DataFrame | None = None, **changes: Any) -> Assessment:
    """Return an assessment of the target from `small_frame` or another frame."""
    study = replace(small_study(MODELS), targets=(TARGET,), zoo_as_targets=False)
    auc = small_frame() if frame is None else frame
    case = {"modality": "eye", "surrogate": A.name, "condition": "adversarial", "attack": "pgd", "epsilon": 0.02}
    perceptibility = pd.DataFrame([case | {"linf": 0.02, "l2": 1.0, "psnr": 41.0, "ssim": 0.987}])
    values = {"decisions": _decisions(), "perceptibility": perceptibility, **changes}
    return Assessment(study=study, target=TARGET, auc=auc, **values)


def page(
    one: Assessment | None = None,
    *,
    phantom: bool = True,
    meanings: Mapping[str, str] | None = None,
    label: str = "lesion",
) -> str:
    """Return the page of an assessment."""
    image = np.zeros((8, 8, 3), dtype=np.float32)
    example = TargetExample("i1", label, 1, image, image + 0.02, 0.93, 0.12)
    one = one or assessment()
    with page_results(one.study, auc=one.auc, trained=A, phantom=phantom, meanings=meanings) as results:
        return render_target_page(results, one, [example])


def influences(error: float) -> list[float]:
    """Return influences with this standard error, positive for half of the patients and negative for the others.

    It is sqrt(P / (P - 1) · P · pull²), and Student's t is 1.961.
    """
    pull = error * (PATIENTS - 1) ** 0.5 / PATIENTS
    return [pull, -pull] * (PATIENTS // 2)


def _row(
    surrogate: ModelSpec | None, condition: str, attack: str, epsilon: float, auc: float, error: float
) -> dict[str, object]:
    side = ("", "", "", "") if surrogate is None else (surrogate.name, surrogate.arch, surrogate.init, surrogate.split)
    return {
        "modality": "eye",
        "condition": condition,
        **dict(zip(("surrogate", "surrogate_arch", "surrogate_init", "surrogate_split"), side, strict=True)),
        "target": TARGET.name,
        "surrogate_kind": "" if surrogate is None else "model",
        "target_kind": "external",
        "target_arch": "external",
        "target_signature": "feed" * 16,
        "attack": attack,
        "epsilon": epsilon,
        "white_box": surrogate is None and condition != "clean",
        "auc": auc,
        "num_images": PATIENTS,
        "num_patients": PATIENTS,
        "num_positive": PATIENTS // 2,
        "num_labels": 1,
        "labels_left_out": "",
        "influence": influences(error),
    }


def _decisions() -> pd.DataFrame:
    fixed = {"label": "lesion", "white_box": False, "num_positive": 1000, "num_negative": 1000}
    clean = {"condition": "clean", "surrogate": "", "attack": "", "epsilon": 0.0, "auc": 0.8}
    rows = [fixed | clean | {"sensitivity": 0.82, "specificity": 0.9}]
    for surrogate, attack, epsilon in product(MODELS, ("fgsm", "pgd"), EPSILONS):
        case = {"surrogate": surrogate.name, "attack": attack, "epsilon": epsilon, "auc": 0.5}
        lost = {"sensitivity": SENSITIVITY[surrogate], "specificity": SPECIFICITY[surrogate]}
        if epsilon > 0.02:
            lost = dict.fromkeys(lost, 0.0)
        rows.append(fixed | case | {"condition": "adversarial"} | lost)
        rows.append(fixed | case | {"condition": "control", "sensitivity": 0.81, "specificity": 0.89})
    return pd.DataFrame(rows)
