"""The kinds of surrogates and targets in the AUC frame, and the rows that they select."""

from pathlib import Path

import pandas as pd
from auc_frames import model, small_frame, with_ensemble

from raygrid.analysis.frames import of_single_models, of_zoo
from raygrid.store.results import Results

MODELS = (model("a"), model("a", instance=1))
KINDS = ["surrogate_kind", "target_kind"]
EXTERNAL = {"kind": "external", "arch": "external", "init": "", "split": "", "instance": -1}


def _as_external(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    return rows.assign(**{side: "external-x", **{f"{side}_{name}": value for name, value in EXTERNAL.items()}})


def _mixed_frame() -> pd.DataFrame:
    """Return the rows of two models, an ensemble, an external target and the same network as a surrogate."""
    models = small_frame(MODELS)
    target = _as_external(models[models["target"] == MODELS[0].name], "target")
    surrogate = _as_external(models[(models["surrogate"] == MODELS[0].name)], "surrogate")
    return pd.concat([with_ensemble(models, MODELS, auc=0.7), target, surrogate], ignore_index=True)


def test_a_file_without_kinds_is_read_with_them(tmp_path: Path) -> None:
    frame, results = _mixed_frame(), Results(tmp_path)
    results.write("auc", frame.drop(columns=KINDS))
    pd.testing.assert_frame_equal(results.auc(), frame)
    assert set(frame["surrogate_kind"]) == {"", "model", "ensemble", "external"}
    assert set(frame["target_kind"]) == {"model", "external"}


def test_rows_of_the_zoo_have_no_external_side_and_keep_ensembles() -> None:
    frame = _mixed_frame()
    expected = with_ensemble(small_frame(MODELS), MODELS, auc=0.7)
    pd.testing.assert_frame_equal(of_zoo(frame), expected)
    decisions = frame[["modality", "surrogate", "target", "condition"]]
    pd.testing.assert_frame_equal(of_zoo(decisions, frame), expected[list(decisions.columns)])


def test_rows_of_single_models_have_no_ensemble_either() -> None:
    pd.testing.assert_frame_equal(of_single_models(_mixed_frame()), small_frame(MODELS))
