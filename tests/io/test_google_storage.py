"""`gs://` against a server that speaks Google's protocol: files, refusals, faults and leases."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcs_server import GCSServer, gcs_server

from raygrid.errors import StoreError
from raygrid.io import object_storage
from raygrid.io.files import atomic_path, write_text
from raygrid.io.lease import lease
from raygrid.io.mirror import exists, local_dir, num_bytes, pull, remove
from raygrid.io.object_storage import parse
from raygrid.io.paths import CACHE_VARIABLE


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GCSServer]:
    with gcs_server(tmp_path_factory.mktemp("account")) as server:
        yield server


@pytest.fixture
def google(module_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[GCSServer]:
    """The server, with short pauses between attempts; faults that a test sets end with the test."""
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.01)
    monkeypatch.setattr(object_storage, "ATTEMPTS", 2)
    yield module_server
    module_server.failing = lambda method, path: 0


@pytest.fixture
def google_nodes(google: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Mirrors of one folder on two nodes that share no disk."""
    folders = []
    for name in ("first", "second"):
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / name))
        folders.append(local_dir(google.url(tmp_path.name)))
    return folders[0], folders[1]


def test_files_of_all_sizes_reach_the_other_node(
    google_nodes: tuple[Path, Path], google: GCSServer, tmp_path: Path
) -> None:
    first, second = google_nodes
    large = os.urandom(25 * 1024**2)  # several requests
    contents = {"large": large, "empty": b"", **{f"zoo/a=b {n}/card.json": b"{}" for n in range(5)}}  # several pages
    for name, content in contents.items():
        with atomic_path(first / name) as temporary:
            temporary.write_bytes(content)
    assert google.names(tmp_path.name) == set(contents)
    pull(second)
    found = {path.relative_to(second).as_posix(): path.read_bytes() for path in second.rglob("[!.]*") if path.is_file()}
    assert found == contents
    assert num_bytes(first / "zoo") == 10


def test_pull_downloads_changed_files_and_removes_deleted_ones(
    google_nodes: tuple[Path, Path], google: GCSServer, tmp_path: Path
) -> None:
    first, second = google_nodes
    for name in ("same", "longer", "scores/a", "scores/b"):
        write_text(first / name, name)
    pull(second)
    before = (second / "same").stat().st_ino
    google.put(f"{tmp_path.name}/longer", b"another text")
    remove(first / "scores")
    remove(first / "absent")
    pull(second)
    assert {path.name: path.read_text() for path in second.iterdir() if path.name[0] != "."} == {
        "same": "same",
        "longer": "another text",
    }
    assert (second / "same").stat().st_ino == before  # not downloaded again
    assert not exists(second / "scores" / "a")


def test_an_absent_bucket_is_named(google: GCSServer) -> None:
    with pytest.raises(StoreError, match="there is no bucket 'absent'"):
        parse(google.url("x", bucket="absent")).check()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_raised_without_retries(google_nodes: tuple[Path, Path], google: GCSServer, status: int) -> None:
    google.requests.clear()
    google.failing = lambda method, path: status
    with pytest.raises(StoreError, match=r"refuses access \(writing a\).*\nCheck the credentials"):
        write_text(google_nodes[0] / "a", "text")
    assert len(google.requests) == 1


def test_an_absent_file_of_credentials_is_named(
    google: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(StoreError, match=r"refuses access .*Cannot open credentials file .*absent\.json"):
        parse(google.url("x", bucket="another")).check()


def test_temporary_faults_are_retried(
    google_nodes: tuple[Path, Path], google: GCSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_storage, "ATTEMPTS", 4)
    left = [503] * 3  # more than pyarrow's client takes in one attempt
    google.failing = lambda method, path: left.pop() if left else 0
    write_text(google_nodes[0] / "a", "text")
    assert left == []
    assert exists(google_nodes[1] / "a")


def test_a_server_that_stays_down_is_named(google_nodes: tuple[Path, Path], google: GCSServer) -> None:
    google.failing = lambda method, path: 503
    with pytest.raises(StoreError, match=r"does not answer \(writing a, 2 attempts\)"):
        write_text(google_nodes[0] / "a", "text")
    google.failing = lambda method, path: 0
    assert not exists(google_nodes[0] / "a")
    assert not (google_nodes[0] / "a").exists()


def test_a_second_driver_is_refused_while_the_first_lives(
    google_nodes: tuple[Path, Path], google: GCSServer, tmp_path: Path
) -> None:
    first, second = google_nodes
    with lease(first):
        with pytest.raises(StoreError, match=f'in use by another driver: .*"pid": {os.getpid()}'), lease(second):
            pass
        assert google.names(tmp_path.name) == {"driver.json"}
    with lease(second):
        pass
    assert google.names(tmp_path.name) == set()
