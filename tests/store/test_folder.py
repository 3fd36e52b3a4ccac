"""A study folder: the path of every file, units that follow the models, and the declaration read back."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toy_zoo import MODEL, make_samples, make_zoo

from raygrid.errors import StoreError
from raygrid.hashing import digest
from raygrid.io.files import read_json, write_json, write_text
from raygrid.spec import EnsembleSpec, StudySpec, TargetSpec, TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder, open_study
from raygrid.store.provenance import provenance, write_record
from raygrid.store.units import Unit, missing_files, plan_units

TWIN = replace(MODEL, instance=1)
PAIR = EnsembleSpec(modality="toy", label="pair", members=(MODEL.name, TWIN.name))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Return a study of two models, neither prepared nor trained."""
    return make_zoo(tmp_path, models=(MODEL, TWIN))


@pytest.fixture
def target(tmp_path: Path) -> TargetSpec:
    weights = tmp_path / "clinic.onnx"
    weights.write_bytes(b"weights")
    return TargetSpec(modality="toy", label="clinic", kind="onnx", source=str(weights))


def finish_training(folder: StudyFolder, weights_sha256: str) -> None:
    write_json(folder.model(MODEL).card_path, {"weights_sha256": weights_sha256})


def test_every_path_lies_below_the_folder(folder: StudyFolder, target: TargetSpec) -> None:
    signature = folder.signature(MODEL)
    model_dir = folder.path / "zoo" / "toy" / f"{MODEL.name}-{signature[:12]}"
    assert folder.samples_dir("toy") == folder.path / "samples" / f"toy-{'0' * 12}"
    assert folder.model(MODEL).path == model_dir
    assert folder.model(MODEL).card_path == model_dir / "card.json"
    assert folder.model(MODEL).failure_path == model_dir / "failure.txt"
    assert folder.answers(target) == folder.path / "answers" / "toy" / "external-clinic"
    assert folder.results.path == folder.path / "results"
    assert folder.log_path == folder.path / "log.jsonl"


def test_models_have_folders_of_their_own(folder: StudyFolder) -> None:
    reseeded = StudyFolder(folder.path, replace(folder.study, seed=4), folder.sample_signatures)
    paths = {folder.model(MODEL).path, folder.model(TWIN).path, reseeded.model(MODEL).path}
    assert len(paths) == 3


def test_a_model_is_trained_once_its_card_is_written(folder: StudyFolder) -> None:
    history = [{"epoch": 1, "loss": 0.5}]
    write_json(folder.model(MODEL).path / "history.json", history)
    assert folder.untrained() == [MODEL, TWIN]
    assert folder.model(MODEL).history == history
    with pytest.raises(StoreError, match=r"card\.json does not exist"):
        _ = folder.model(MODEL).card
    finish_training(folder, "a" * 64)
    assert folder.untrained() == [TWIN]
    assert folder.model(MODEL).card == {"weights_sha256": "a" * 64}


def test_the_identity_of_a_model_follows_its_weights(folder: StudyFolder) -> None:
    identities = [folder.identity(MODEL)]
    for digit in "ab":
        finish_training(folder, digit * 64)
        identities.append(folder.identity(MODEL))
    assert identities == [f"{folder.signature(MODEL)}-{tail}" for tail in ("untrained", "a" * 64, "b" * 64)]


def test_the_identity_of_an_external_target_follows_its_file(folder: StudyFolder, target: TargetSpec) -> None:
    before = folder.identity(target)
    assert folder.identity(target) == before
    assert folder.surrogate_signature(target) == before
    Path(target.source).write_bytes(b"other weights")
    assert folder.identity(target) != before


def test_the_signature_of_an_ensemble_is_made_of_its_models(folder: StudyFolder) -> None:
    grown = StudyFolder(folder.path, replace(folder.study, ensembles=(PAIR,)), folder.sample_signatures)
    assert grown.surrogate_signature(MODEL) == folder.signature(MODEL)
    members = [folder.signature(MODEL), folder.signature(TWIN)]
    assert grown.surrogate_signature(PAIR) == digest({"mean logits of": members})


def test_samples_that_are_not_prepared_are_an_error(folder: StudyFolder) -> None:
    assert not folder.has_samples("toy")
    for attempt in (folder.samples, folder.units):
        with pytest.raises(StoreError, match="not prepared yet") as caught:
            attempt("toy")
        assert str(folder.samples_dir("toy")) in str(caught.value)


def test_samples_are_opened_once(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    make_samples(folder.samples_dir("toy"))
    reads: list[Path] = []

    def counted(path: Path) -> Any:
        reads.append(path)
        return read_json(path)

    monkeypatch.setattr("raygrid.store.samples.read_json", counted)
    assert folder.has_samples("toy")
    for _ in range(3):
        assert folder.samples("toy").labels == ("finding",)
        folder.units("toy")
    assert reads == [folder.samples_dir("toy") / "manifest.json"]
    folder.refresh()
    assert folder.samples("toy").labels == ("finding",)
    assert len(reads) == 2
    reads[0].unlink()
    with pytest.raises(StoreError, match="not prepared yet"):  # the open samples do not hide the deletion
        folder.samples("toy")


def test_units_are_planned_once_and_again_when_a_model_is_trained(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[str] = []

    def counted(study: StudySpec, modality: str, **named: Any) -> list[Unit]:
        plans.append(modality)
        return plan_units(study, modality, **named)

    monkeypatch.setattr("raygrid.store.folder.plan_units", counted)
    make_samples(folder.samples_dir("toy"))
    first = folder.units("toy")
    assert folder.units("toy") == first
    assert plans == ["toy"]
    first.clear()  # a caller's own list
    untrained = {file.path for file in missing_files(folder.units("toy"))}
    assert untrained
    finish_training(folder, "a" * 64)
    trained = {file.path for file in missing_files(folder.units("toy"))}
    assert plans == ["toy", "toy"]
    assert trained
    assert not trained & untrained


def test_units_are_clean_images_first_then_each_surrogate(tmp_path: Path) -> None:
    transfer = TransferSpec(attacks=attack_grid((0.02,)), block_size=7)
    folder = make_zoo(tmp_path, models=(MODEL, TWIN), transfer=transfer)
    samples = make_samples(folder.samples_dir("toy"))
    units = folder.units("toy")
    assert list(dict.fromkeys(unit.surrogate for unit in units)) == [None, MODEL, TWIN]
    assert {unit.wanted.names for unit in units} == {(MODEL.name, TWIN.name)}
    assert all(unit.folder.is_relative_to(folder.path / "scores" / "modality=toy") for unit in units)
    blocks = [(unit.start, unit.stop) for unit in units if unit.surrogate is None]
    assert len(blocks) > 2
    assert blocks[0][0] == 0
    assert blocks[-1][1] == samples.num_test
    assert all(before[1] == after[0] for before, after in pairwise(blocks))


def test_a_study_reads_back_from_its_folder(folder: StudyFolder) -> None:
    write_record(folder.path, folder.study, folder.sample_signatures, phantom=True)
    opened = open_study(str(folder.path))
    assert opened == folder
    assert opened.record.phantom
    assert opened.record.versions == provenance()["versions"]
    assert opened.record.created.endswith("+00:00")


def test_an_unchanged_record_stays_as_it_was(folder: StudyFolder) -> None:
    write_record(folder.path, folder.study, folder.sample_signatures, phantom=True)
    path = folder.path / "study.json"
    write_json(path, {**read_json(path), "created": "2001-01-01T00:00:00+00:00"})
    write_record(folder.path, folder.study, folder.sample_signatures, phantom=True)
    assert folder.record.created == "2001-01-01T00:00:00+00:00"
    write_record(folder.path, folder.study, folder.sample_signatures, phantom=False)
    assert not folder.record.phantom
    assert folder.record.created > "2001-01-02"


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_a_study_is_named_with_the_file_it_lacks(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "elsewhere"
    if exists:
        path.mkdir()
    with pytest.raises(StoreError) as caught:
        open_study(path)
    assert str(caught.value).startswith(f"{path} holds no study: {path / 'study.json'} does not exist; give the folder")
    assert path.exists() == exists


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "study.json", '{"study": ')
    with pytest.raises(StoreError, match=r"study\.json is not valid JSON"):
        open_study(tmp_path)


def test_a_notebook_shows_models_and_results(folder: StudyFolder) -> None:
    html = folder._repr_html_()
    assert "<tr><th>Models</th><td>0 of 2 trained</td></tr>" in html
    assert "<tr><th>Results</th><td>none yet</td></tr>" in html
    finish_training(folder, "a" * 64)
    folder.results.write("auc", pd.DataFrame({"auc": [0.9]}))
    html = folder._repr_html_()
    assert "<tr><th>Models</th><td>1 of 2 trained</td></tr>" in html
    assert "<tr><th>Results</th><td>results/report.html</td></tr>" in html


def test_a_notebook_shows_names_as_text(tmp_path: Path) -> None:
    html = make_zoo(tmp_path / "<script>", models=(MODEL,))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
