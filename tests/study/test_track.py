"""The MLflow upload_runs: whole, once, and patient with a store that does not answer."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from auc_frames import model, small_frame, small_study, without
from mlflow.tracking import MlflowClient
from postgres_server import postgres_server

from raygrid.errors import TrackingError
from raygrid.store.folder import StudyFolder
from raygrid.study import track
from raygrid.study.track import upload_runs, without_password

MODELS = [model("a", instance=k) for k in (0, 1)]
NUM_PAIRINGS = len(MODELS) ** 2
START_S = 180  # of a tracking server on a busy machine


def make_zoo(folder: Path) -> StudyFolder:
    return StudyFolder(folder, small_study(MODELS), {"eye": "f" * 64})


def pairings_of(uri: str) -> list:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("raygrid/small")
    return list(client.search_runs([experiment.experiment_id], "tags.`raygrid.kind` = 'pairing'"))


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_study_is_mirrored_once_and_says_what_it_was_made_of(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path)
    assert upload_runs(zoo, small_frame(MODELS), phantom=True) == NUM_PAIRINGS
    assert upload_runs(zoo, small_frame(MODELS), phantom=True) == 0
    runs = pairings_of(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert len(runs) == NUM_PAIRINGS
    for run in runs:
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("eye", "f" * 36)
        assert [tag.value for tag in used.tags] == ["evaluation"]
        assert run.data.metrics["auc.fgsm.0.02.adversarial"] == 0.9


def test_a_store_that_came_from_another_folder_looks_for_its_artefacts_here(tmp_path: Path) -> None:
    assert upload_runs(make_zoo(tmp_path / "a"), small_frame(MODELS), phantom=True) == NUM_PAIRINGS
    (tmp_path / "a").rename(tmp_path / "b")
    assert upload_runs(make_zoo(tmp_path / "b"), small_frame(MODELS), phantom=True) == 0
    uri = f"sqlite:///{tmp_path / 'b' / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    here = (tmp_path / "b").as_uri()
    assert client.get_experiment_by_name("raygrid/small").artifact_location == f"{here}/mlartifacts"
    assert all(run.info.artifact_uri.startswith(here) for run in pairings_of(uri))


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    uri = f"http://me:hunter2@127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError, match="run with --only track") as caught:
        upload_runs(make_zoo(tmp_path), small_frame(MODELS), uri, phantom=True)
    assert "http://***@127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_database_that_cannot_be_opened_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database\n" * 100)
    with pytest.raises(TrackingError, match="Nothing is lost"):
        upload_runs(make_zoo(tmp_path), small_frame(MODELS), phantom=True)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////studies/mlflow.db", "sqlite:////studies/mlflow.db"),
        ("http://host:5000/path", "http://host:5000/path"),
        ("https://me:pa?ss@host/x", "https://***@host/x"),
        ("postgresql://me:pa/ss@db/x", "postgresql://me:***@db/x"),
        ("postgresql://db/x?user=me&password=hunter2", "postgresql://db/x"),
        ("some/folder", "some/folder"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_what_else_goes_wrong_in_a_store_is_told_in_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="Nothing is lost"):  # no driver for such a database is installed
        upload_runs(make_zoo(tmp_path), small_frame(MODELS), "mysql+pymysql://me:hunter2@127.0.0.1/x", phantom=True)


def test_pairings_of_a_modality_that_is_no_more_are_left_out(tmp_path: Path) -> None:
    frame = small_frame(MODELS)
    assert (
        upload_runs(make_zoo(tmp_path), pd.concat([frame, frame.assign(modality="lung")]), phantom=True) == NUM_PAIRINGS
    )


def test_finished_runs_stay_known_when_half_written_ones_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "MAX_RESULTS", 2)
    zoo, frame = make_zoo(tmp_path), small_frame(MODELS)
    upload_runs(zoo, frame, phantom=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.update_run(pairings_of(f"sqlite:///{tmp_path / 'mlflow.db'}")[0].info.run_id, status="RUNNING")
    assert upload_runs(zoo, frame, phantom=True) == 1
    assert len(pairings_of(f"sqlite:///{tmp_path / 'mlflow.db'}")) == NUM_PAIRINGS


@pytest.mark.slow
def test_a_server_on_postgresql_that_went_away_gets_the_rest_when_it_is_back(tmp_path: Path) -> None:
    zoo, port = make_zoo(tmp_path), free_port()
    uri = f"http://127.0.0.1:{port}"
    first = without(small_frame(MODELS), MODELS[1], MODELS[0])
    with postgres_server(free_port()) as store:
        with mlflow_server(store, port, tmp_path / "artefacts"):
            assert upload_runs(zoo, first, uri, phantom=True) == NUM_PAIRINGS - 1
        with pytest.raises(TrackingError, match="Nothing is lost"):
            upload_runs(zoo, small_frame(MODELS), uri, phantom=True)
        with mlflow_server(store, port, tmp_path / "artefacts"):
            assert upload_runs(zoo, small_frame(MODELS), uri, phantom=True) == 1
            assert len(pairings_of(uri)) == NUM_PAIRINGS


@contextmanager
def mlflow_server(store: str, port: int, artefacts: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--artifacts-destination", str(artefacts), "--workers", "1"]
    with (
        (artefacts.parent / "server.log").open("a") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            deadline = time.monotonic() + START_S
            while not _answers(f"http://127.0.0.1:{port}/health"):
                assert server.poll() is None, (artefacts.parent / "server.log").read_text()
                assert time.monotonic() < deadline, "the tracking server did not start"
                time.sleep(0.5)
            yield
        finally:
            server.terminate()
            server.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
