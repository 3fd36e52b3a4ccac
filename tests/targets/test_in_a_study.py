"""Targets that raygrid did not train, from their declaration to rows of results, without Ray."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import target_functions
import torch
from scored_zoo import as_row, changed, opened, run_missing, scorer_of, units_of
from torch import nn
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.analysis.effects import factor_effects
from raygrid.analysis.frames import external_clean, result_frames
from raygrid.analysis.tables import missing_pairings, table1, unlearned
from raygrid.errors import BudgetSpentError, RaygridError, SpecError, StoreError
from raygrid.io.files import write_json
from raygrid.models.training import train
from raygrid.scoring.networks import open_external, verify_external
from raygrid.spec import AnswerSpec, EndpointSpec, StudySpec, TargetSpec, TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.scores import read_metadata
from raygrid.store.units import missing_files
from raygrid.study.check_targets import clean_auc_warning
from raygrid.study.run import RunOptions, run_study
from raygrid.study.transfer import missing_external_clean

MODELS = (MODEL, replace(MODEL, split="d2"))
TRANSFER = TransferSpec(attacks=attack_grid((0.12, 0.15)), block_size=16)


def function(name: str, label: str = "") -> TargetSpec:
    return TargetSpec(modality="toy", label=label or name, kind="callable", source=f"target_functions:{name}")


SAME, STRANGER, BROKEN = function("first_model"), function("brightness"), function("broken")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Return two trained models, one of them again as a function, and an unrelated target."""
    recipe = replace(RECIPE, epochs=1, augmentations=())
    folder = tmp_path_factory.mktemp("study")
    zoo = make_zoo(folder, recipe, models=MODELS, transfer=TRANSFER, targets=(SAME, STRANGER))
    samples = make_samples(zoo.samples_dir("toy"))
    for model in MODELS:
        train(zoo, model, samples)
    write_json(folder / "study.json", {"study": zoo.study.to_dict(), "samples": dict(zoo.sample_signatures)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(target_functions.STUDY_VARIABLE, str(folder))
        run_missing(zoo)
    return zoo


@pytest.fixture
def copied(zoo: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    shutil.copytree(zoo.path, tmp_path / "study")
    monkeypatch.setenv(target_functions.STUDY_VARIABLE, str(zoo.path))
    return StudyFolder(tmp_path / "study", zoo.study, zoo.sample_signatures)


def test_a_model_behind_a_function_has_the_aucs_of_the_model(zoo: StudyFolder) -> None:
    frame = result_frames(zoo, "toy", opened(zoo))[0]
    keys = ["surrogate", "attack", "epsilon", "condition"]
    own, same = (frame[frame["target"] == t].set_index(keys) for t in (MODEL.name, SAME.name))
    assert len(own) == len(same) == 1 + 2 * 4 * 2  # clean; surrogates, attacks, conditions
    assert own["auc"].nunique() > 4  # not all alike
    assert np.abs(own["auc"] - same["auc"].reindex(own.index)).max() < 1e-4
    assert set(same["target_arch"]) == {"external"}
    assert set(same["target_instance"]) == {-1}
    assert same["target_signature"].nunique() == 1
    assert own["white_box"].sum() == 8
    assert not same["white_box"].any()  # nobody told raygrid


def test_a_function_of_a_model_has_the_decisions_of_the_model(zoo: StudyFolder) -> None:
    _, decisions = result_frames(zoo, "toy", opened(zoo))
    keys = ["surrogate", "attack", "epsilon", "condition", "label"]
    measures = ["sensitivity", "specificity", "fooled"]
    own, same = (decisions[decisions["target"] == t].set_index(keys)[measures] for t in (MODEL.name, SAME.name))
    pd.testing.assert_frame_equal(own, same.reindex(own.index))


def test_tables_and_effects_of_the_zoo_leave_external_targets_out(zoo: StudyFolder) -> None:
    frame = result_frames(zoo, "toy", opened(zoo))[0]
    alone = result_frames(changed(zoo, targets=()), "toy", opened(zoo))[0]
    assert len(frame) == 2 * len(alone)
    study = zoo.study
    pd.testing.assert_frame_equal(table1(frame, study=study), table1(alone, study=replace(study, targets=())))
    pd.testing.assert_frame_equal(factor_effects(frame), factor_effects(alone))
    weak = frame.assign(auc_low=frame["auc_low"].where(frame["target"] != STRANGER.name, 0.1))
    assert unlearned(weak) == unlearned(alone)
    assert missing_pairings(frame, study).empty


def test_without_the_zoo_as_targets_only_external_targets_are_scored(copied: StudyFolder) -> None:
    shutil.rmtree(copied.path / "scores")
    alone = changed(copied, zoo_as_targets=False)
    assert {file.tile.names for file in run_missing(alone)} == {(SAME.name, STRANGER.name)}
    frame = result_frames(alone, "toy", opened(alone))[0]
    assert set(frame["target"]) == {SAME.name, STRANGER.name}
    assert len(alone.study.pairings("toy")) == 2 * 2
    assert missing_pairings(frame, alone.study).empty
    assert table1(frame, study=alone.study).empty


def test_clean_scores_come_before_any_model_is_trained(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path / "study", models=MODELS, transfer=TRANSFER, targets=(STRANGER,))
    make_samples(zoo.samples_dir("toy"))
    job = {"study": zoo.study.to_dict(), "study_dir": str(zoo.path), "samples": dict(zoo.sample_signatures)}
    from raygrid.scoring.scorer import Scorer

    scorer = Scorer({**job, "modality": "toy", "device": "cpu", "names": [STRANGER.name]})
    files = missing_external_clean(zoo.study, units_of(zoo))
    assert [(f.unit.surrogate, f.tile.names) for f in files] == [(None, (STRANGER.name,))] * 2
    for file in files:
        assert not scorer(as_row(zoo, file))["error"][0]
    assert missing_external_clean(zoo.study, units_of(zoo)) == []
    ((target, auc, low, high),) = external_clean(zoo, "toy", opened(zoo))
    images = opened(zoo).test_block(0, 24)
    scores = images.images.mean(axis=(1, 2, 3))
    positive = images.labels[:, 0] == 1
    beaten = (scores[positive][:, None] > scores[~positive][None]).mean()  # the AUC as a share of pairs
    assert target == STRANGER
    assert auc == pytest.approx(beaten, abs=1e-6)
    assert low < auc <= high


def test_a_target_that_cannot_answer_loses_only_its_own_scores(copied: StudyFolder) -> None:
    grown = changed(copied, targets=(SAME, BROKEN, STRANGER))
    shutil.rmtree(grown.path / "scores")
    scorer = scorer_of(grown)
    for file in missing_files(units_of(grown)):
        error = scorer(as_row(grown, file))["error"][0]
        assert "target 'broken'" in error
        assert "the licence has run out" in error
        assert file.unit.failure_path.read_text().startswith("target 'broken'")
    assert {f.tile.names for f in missing_files(units_of(grown))} == {(BROKEN.name,)}
    frame = result_frames(grown, "toy", opened(grown))[0]
    assert set(frame["target"]) == {MODEL.name, MODELS[1].name, SAME.name, STRANGER.name}
    pd.testing.assert_frame_equal(frame, result_frames(copied, "toy", opened(copied))[0])


class _Endpoint(nn.Module):
    """Answers a number of images, then raises that the budget is spent."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.left:
            raise BudgetSpentError("the budget is spent")
        self.left -= len(images)
        return images.mean(dim=(1, 2, 3))[:, None]


def test_a_spent_budget_is_no_failure_and_a_larger_one_continues(
    copied: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = EndpointSpec(max_images=1000)
    clinic = TargetSpec(modality="toy", label="clinic", kind="http", source="http://127.0.0.1:9/", endpoint=endpoint)
    monkeypatch.setattr("raygrid.store.folder.target_identity", lambda target: target.name)
    monkeypatch.setattr("raygrid.scoring.networks.open_target", lambda target, **_: _Endpoint(24 + 2 * 16))
    grown = changed(copied, targets=(clinic,))
    scorer = scorer_of(grown)
    for file in missing_files(units_of(grown)):
        assert scorer(as_row(grown, file))["error"][0] == ""
        assert not file.unit.failure_path.exists()
    assert missing_files(units_of(grown)) == []
    frame = result_frames(grown, "toy", opened(grown))[0]
    assert len(frame[frame["target"] == clinic.name]) == 1  # clean: no attack was answered on every block
    larger = replace(clinic, endpoint=replace(endpoint, max_images=1001))
    monkeypatch.setattr("raygrid.scoring.networks.open_target", lambda target, **_: _Endpoint(10_000))
    run_missing(changed(copied, targets=(larger,)))
    frame = result_frames(changed(copied, targets=(larger,)), "toy", opened(copied))[0]
    assert len(frame[frame["target"] == clinic.name]) == 1 + 2 * 4 * 2


def test_a_target_added_later_leaves_existing_scores_unchanged(copied: StudyFolder) -> None:
    before = {path: path.read_bytes() for path in copied.path.glob("scores/**/*.parquet")}
    twin = function("brightness", "twin")
    written = run_missing(changed(copied, targets=(SAME, STRANGER, twin)))
    assert {f.tile.names for f in written} == {("external-twin",)}
    assert {path: path.read_bytes() for path in before} == before
    assert all(read_metadata(f.path)["num_images"] in (16, 8) for f in written)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (function("broken"), "target 'broken'.*the licence has run out"),
        (function("wrong_shape"), "target 'wrong_shape'.* 2\\b"),
        (function("brigthness"), "brigthness"),
        (replace(STRANGER, answer=AnswerSpec(labels=("fnding",))), "did you mean 'finding'"),
    ],
)
def test_a_mistake_is_found_with_one_batch(zoo: StudyFolder, target: TargetSpec, text: str) -> None:
    with pytest.raises(RaygridError, match=text):
        verify_external(zoo, target, opened(zoo))


def test_a_budget_below_the_clean_images_is_refused(zoo: StudyFolder) -> None:
    endpoint = EndpointSpec(max_images=25)
    clinic = TargetSpec(modality="toy", label="clinic", kind="http", source="http://127.0.0.1:9/", endpoint=endpoint)
    with pytest.raises(SpecError, match=r"clean test images alone take 26; raise it to 410"):  # 2 + 24 + 2 * 4 * 48
        verify_external(zoo, clinic, opened(zoo))


def test_open_external_returns_logits_of_the_studys_labels(zoo: StudyFolder) -> None:
    target = open_external(zoo, STRANGER, opened(zoo))
    assert target(torch.zeros(3, 3, 32, 32)).shape == (3, 1)


def test_a_study_with_targets_survives_json_and_one_without_is_written_as_before(zoo: StudyFolder) -> None:
    study = replace(zoo.study, zoo_as_targets=False)
    assert StudySpec.from_dict(json.loads(json.dumps(study.to_dict()))) == study
    plain = replace(zoo.study, targets=()).to_dict()
    assert "targets" not in plain
    assert "zoo_as_targets" not in plain
    assert zoo.study.targets_of("toy") == (*MODELS, SAME, STRANGER)
    assert study.targets_of("toy") == (SAME, STRANGER)


def test_targets_are_of_studied_modalities_and_differ_in_their_labels(zoo: StudyFolder) -> None:
    with pytest.raises(SpecError, match="share a label"):
        replace(zoo.study, targets=(SAME, SAME))
    with pytest.raises(SpecError, match="did you mean 'toy'"):
        replace(zoo.study, targets=(replace(SAME, modality="toi"),))
    with pytest.raises(SpecError, match="toy has no target: zoo_as_targets is False"):
        replace(zoo.study, targets=(), zoo_as_targets=False)
    with pytest.raises(SpecError, match="expected at least one model of toy as a surrogate"):
        replace(zoo.study, models=())


def test_a_model_without_clean_scores_stops_the_results_but_an_external_target_does_not(copied: StudyFolder) -> None:
    grown = changed(copied, targets=(SAME, STRANGER, BROKEN))
    assert set(result_frames(grown, "toy", opened(grown))[0]["target"]) == {m.name for m in (*MODELS, SAME, STRANGER)}
    with pytest.raises(StoreError, match=r"clean scores of .* are incomplete"):
        result_frames(changed(copied, models=(*MODELS, replace(MODEL, instance=1))), "toy", opened(copied))


def run_without_preparing(zoo: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a study with prepared samples, and return the stages that started; errors of the run pass through."""
    done: list[str] = []

    def prepared(*_: object) -> StudyFolder:
        done.append("prepared")
        return zoo

    def started(*_: object) -> None:
        done.append("a cluster")
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("raygrid.study.run.prepare_samples", prepared)
    monkeypatch.setattr("raygrid.study.cluster.connected", started)
    try:
        run_study(zoo.study, RunOptions(study_dir=zoo.path, data_root=zoo.path))
    except RaygridError as error:
        done.append(str(error))
    return done


def test_a_mistake_ends_the_run_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = make_zoo(tmp_path, models=MODELS, transfer=TRANSFER, targets=(BROKEN,))
    make_samples(zoo.samples_dir("toy"))
    *before, error = run_without_preparing(zoo, monkeypatch)
    assert before == ["prepared"]
    assert "the licence has run out" in error
    nowhere = replace(BROKEN, source="no_such_module:predict")
    (error,) = run_without_preparing(changed(zoo, targets=(nowhere,)), monkeypatch)
    assert "no_such_module" in error


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.61, 0.9, ""), (0.55, 0.9, "learned little"), (0.01, 0.2, "may be reversed")]
)
def test_a_low_clean_auc_gives_a_warning(low: float, high: float, said: str) -> None:
    doubt = clean_auc_warning(low, high)
    assert said in doubt
    assert bool(doubt) == bool(said)
