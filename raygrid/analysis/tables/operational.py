"""Operational tables: decisions at one threshold, findings, the best surrogate, perceptibility.

All are means over the black-box pairings of a study (surrogate and target are different models), whatever their
factors: the damage by an attacker with any of its look-alikes. They have no intervals; the paper's tables do.
"""

import numpy as np
import pandas as pd

from raygrid.spec import MEASURES

_CASE = ["modality", "condition", "attack", "epsilon"]
_DECISIONS = ["sensitivity", "specificity", "fooled", "brier", "mean_probability"]


def decision_table(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each measure over pairings and findings, per modality, condition, attack and epsilon.

    Columns: modality, condition, attack, epsilon, sensitivity, specificity, fooled, brier, mean_probability. Clean rows
    come first; their `fooled` is 0 by definition.
    """
    return _ordered(_black_box(decisions).groupby(_CASE, sort=False)[_DECISIONS].mean().reset_index())


def finding_table(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return AUC and sensitivity of each finding, clean and per epsilon, for modalities with several findings.

    Columns: modality, label, num_positive, condition, epsilon, auc, sensitivity; means over pairings and attacks.
    """
    several = decisions.groupby("modality")["label"].transform("nunique") > 1
    here = _black_box(decisions[several & (decisions["condition"] != "control")])
    keys = ["modality", "label", "num_positive", "condition", "epsilon"]
    return here.groupby(keys, sort=False)[["auc", "sensitivity"]].mean().reset_index()


def best_surrogates(auc: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Return the black-box surrogate that does most damage to each target at `epsilon`, mean over the attacks.

    Columns: modality, target, clean_auc, surrogate, auc, relative_auc, mean_auc (over all black-box surrogates). The
    best surrogate is selected and evaluated on the same images, which tends to overstate its damage.
    """
    here = auc[(auc["condition"] == "adversarial") & ~auc["white_box"] & np.isclose(auc["epsilon"], epsilon)]
    keys = ["modality", "target", "surrogate"]
    means = here.groupby(keys, sort=False)[["clean_auc", "auc", "relative_auc"]].mean().reset_index()
    columns = ["modality", "target", "clean_auc", "surrogate", "auc", "relative_auc", "mean_auc"]
    if means.empty:
        return pd.DataFrame(columns=columns)
    targets = means.groupby(["modality", "target"], sort=False)
    best = means.loc[targets["auc"].idxmin()].assign(mean_auc=targets["auc"].mean().to_numpy())
    return best[columns].reset_index(drop=True)


def damage_and_perceptibility(auc: pd.DataFrame, perceptibility: pd.DataFrame) -> pd.DataFrame:
    """Return perceptibility and relative AUC per modality, condition, attack and epsilon.

    Args:
        perceptibility: means over the images of each surrogate; see `raygrid.analysis.frames.perceptibility_frame`.

    Columns: modality, condition, attack, epsilon, the measures, relative_auc; means over surrogates and pairings.
    """
    here = auc[(auc["condition"] != "clean") & ~auc["white_box"]]
    damage = here.groupby(_CASE, sort=False)["relative_auc"].mean()
    means = perceptibility.groupby(_CASE, sort=False)[list(MEASURES)].mean()
    return _ordered(means.join(damage, how="inner").reset_index())


def _black_box(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame["white_box"]]


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each modality in reading order: clean, adversarial, control; by attack and epsilon."""
    place = frame["condition"].map({"clean": 0, "adversarial": 1, "control": 2})
    modality = frame["modality"].map({name: k for k, name in enumerate(frame["modality"].unique())})
    order = frame.assign(_m=modality, _c=place).sort_values(["_m", "_c", "attack", "epsilon"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)
