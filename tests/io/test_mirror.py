"""Mirrors of a folder in object storage on nodes that share no disk."""

import json
import time
from pathlib import Path

import pytest
from auc_frames import model, small_study
from matplotlib.figure import Figure
from s3_server import BUCKET, S3Server

from raygrid.errors import SpecError, StoreError
from raygrid.io.files import read_json, write_json, write_text
from raygrid.io.mirror import display_path, exists, from_portable, local_dir, num_bytes, pull, push, remove, to_portable
from raygrid.io.paths import CACHE_VARIABLE, TEMPORARY_PREFIX
from raygrid.progress import tell
from raygrid.report.figures import save_figure
from raygrid.store.folder import open_study
from raygrid.store.log import LOG_FILE, run_log


def test_a_local_path_is_left_alone(tmp_path: Path) -> None:
    assert local_dir("studies/paper") == Path("studies/paper")
    assert local_dir(tmp_path) == tmp_path
    assert from_portable(to_portable(tmp_path)) == tmp_path
    pull(tmp_path / "absent")
    push(tmp_path / "absent")


def test_one_node_reads_the_files_of_another(nodes: tuple[Path, Path], server: S3Server, tmp_path: Path) -> None:
    first, second = nodes
    write_json(first / "zoo" / "a=b" / "card.json", {"auc": 0.9})
    assert server.get(f"{tmp_path.name}/zoo/a=b/card.json") == (first / "zoo" / "a=b" / "card.json").read_bytes()
    assert exists(second / "zoo" / "a=b" / "card.json")
    assert not (second / "zoo").exists()
    pull(second)
    assert read_json(second / "zoo" / "a=b" / "card.json") == {"auc": 0.9}


def test_a_portable_path_leads_each_node_to_its_own_mirror(
    nodes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nodes
    sent = to_portable(first / "samples" / "x")
    assert str(tmp_path) not in sent
    assert from_portable(sent) == first / "samples" / "x"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "second"))
    assert from_portable(sent) == second / "samples" / "x"
    assert display_path(second / "samples" / "x") == f"s3://{BUCKET}/{tmp_path.name}/samples/x"


def test_pull_downloads_changed_files_and_removes_deleted_ones(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    first, second = nodes
    for name in ("same", "longer", "gone"):
        write_text(first / "scores" / "unit" / name, name)
    pull(second)
    before = (second / "scores" / "unit" / "same").stat().st_ino
    partial = second / "scores" / "unit" / f"{TEMPORARY_PREFIX}x-unfinished"
    partial.write_text("half")
    server.put(f"{tmp_path.name}/scores/unit/longer", b"another text")
    server.delete(f"{tmp_path.name}/scores/unit/gone")
    pull(second / "scores")
    found = {p.name: p.read_text() for p in (second / "scores" / "unit").iterdir()}
    assert found == {"same": "same", "longer": "another text", partial.name: "half"}
    assert (second / "scores" / "unit" / "same").stat().st_ino == before  # not downloaded again


def test_pull_downloads_a_newer_file_of_the_same_size(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    first, second = nodes
    write_text(first / "a", "one")
    pull(second)
    time.sleep(1.1)  # the server's times are in whole seconds
    server.put(f"{tmp_path.name}/a", b"two")
    pull(second / "a")
    assert (second / "a").read_text() == "two"


def test_pull_updates_the_requested_files_only(nodes: tuple[Path, Path]) -> None:
    first, second = nodes
    for name in ("card.json", "resume.pt", "model.safetensors"):
        write_text(first / "zoo" / "m" / name, name)
    write_text(second / "zoo" / "m" / "other.pt", "of the second")
    remove(first / "zoo" / "m" / "other.pt")
    pull(second / "zoo", without=("*.pt", "*.safetensors"))
    assert {p.name for p in (second / "zoo" / "m").iterdir()} == {"card.json", "other.pt"}
    pull(second / "zoo", only=("resume.*",))
    assert {p.name for p in (second / "zoo" / "m").iterdir()} == {"card.json", "other.pt", "resume.pt"}


def test_pull_creates_the_folders_of_files_that_it_does_not_download(nodes: tuple[Path, Path]) -> None:
    first, second = nodes
    write_text(first / "zoo" / "m" / "resume.pt", "12345")
    pull(second / "zoo", without=("*.pt",))
    assert (second / "zoo" / "m").is_dir()
    assert num_bytes(second / "zoo" / "m") == 5


def test_remove_deletes_the_object_and_the_local_copy(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    first, second = nodes
    for name in ("results/a", "results/tables/b", "zoo/resume.pt", "zoo/card.json"):
        write_text(first / name, name)
    pull(second)
    remove(first / "results")
    remove(first / "zoo" / "resume.pt")
    remove(first / "zoo" / "absent")
    assert set(server.objects(tmp_path.name)) == {"zoo/card.json"}
    assert [p.name for p in first.rglob("*") if p.is_file()].count("resume.pt") == 0
    pull(second)
    assert {p.name for p in second.rglob("[!.]*")} == {"zoo", "card.json"}


def test_a_failed_deletion_keeps_the_local_copy(nodes: tuple[Path, Path], server: S3Server) -> None:
    write_text(nodes[0] / "a", "text")
    server.refusing = lambda method, path: method == "DELETE"
    with pytest.raises(StoreError, match="does not answer"):
        remove(nodes[0] / "a")
    assert (nodes[0] / "a").exists()


def test_push_uploads_files_of_other_programs_once(nodes: tuple[Path, Path], server: S3Server, tmp_path: Path) -> None:
    first, _ = nodes
    (first / "mlartifacts").mkdir()
    (first / "mlartifacts" / "card.json").write_text("{}")
    push(first / "mlartifacts")
    before = server.objects(tmp_path.name)
    assert set(before) == {"mlartifacts/card.json"}
    server.requests.clear()
    push(first / "mlartifacts")
    assert [method for method, _ in server.requests if method == "PUT"] == []


def test_the_log_of_a_study_continues_on_another_machine(nodes: tuple[Path, Path], server: S3Server) -> None:
    first, second = nodes
    for node in nodes:
        write_json(node / "study.json", {})
    with run_log(first):
        tell("on the first machine")
    with run_log(second):
        tell("on the second")
    messages = [json.loads(line)["message"] for line in (second / LOG_FILE).read_text().splitlines()]
    assert messages == ["run begins", "on the first machine", "run ends", "run begins", "on the second", "run ends"]
    server.refusing = lambda method, path: True
    with run_log(second):  # unreachable storage does not end a run
        tell("alone")


def test_a_url_in_a_path_object_is_refused() -> None:
    with pytest.raises(SpecError, match="expected a URL as text, got a Path made of one"):
        local_dir(Path("s3://bucket/x"))


def test_a_figure_of_a_study_is_uploaded(server: S3Server, url: str, tmp_path: Path) -> None:
    study = {"study": small_study([model("a")]).to_dict(), "samples": {}, "phantom": True}
    server.put(f"{tmp_path.name}/study.json", json.dumps(study).encode())
    said = save_figure(open_study(url).path, Figure(), "empty.svg")
    assert said.endswith(f"({url.partition('?')[0]}/figures/empty.svg)")
    assert b"<svg" in server.get(f"{tmp_path.name}/figures/empty.svg")
