"""Folders in object storage, against a server: whole objects only, patience with faults, one driver, no secrets."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from auc_frames import model, small_study
from matplotlib.figure import Figure
from s3_server import BUCKET, KEY, SECRET, S3Server, s3_server

from raygrid.errors import SpecError, StoreError
from raygrid.io import heartbeat, object_storage
from raygrid.io.files import atomic_path, read_json, remove, write_json, write_text
from raygrid.io.heartbeat import HeartbeatTiming
from raygrid.io.lease import lease
from raygrid.io.mirror import display_path, exists, from_portable, local_dir, num_bytes, pull, push, to_portable
from raygrid.io.object_storage import parse
from raygrid.io.paths import CACHE_VARIABLE, TEMPORARY_PREFIX
from raygrid.progress import tell
from raygrid.report.figures import save_figure
from raygrid.store.folder import open_study
from raygrid.store.log import LOG_FILE, run_log


@pytest.fixture(scope="module")
def module_server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(module_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server whose faults end with the test, and no long pauses."""
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.01)
    monkeypatch.setattr(object_storage, "ATTEMPTS", 2)  # each with pyarrow's own, which take seconds
    yield module_server
    module_server.failures, module_server.refusing = 0, lambda method, path: False


@pytest.fixture
def url(server: S3Server, tmp_path: Path) -> str:
    """The URL of an empty folder."""
    return server.url(tmp_path.name)


@pytest.fixture
def nodes(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Mirrors of one folder on two nodes, which share no disk."""
    folders = []
    for name in ("second", "first"):  # what else the test does is on the first
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / name))
        folders.append(local_dir(url))
    return folders[1], folders[0]


def test_a_path_stays_what_it_is(tmp_path: Path) -> None:
    assert local_dir("studies/paper") == Path("studies/paper")
    assert local_dir(tmp_path) == tmp_path
    assert from_portable(to_portable(tmp_path)) == tmp_path
    pull(tmp_path / "absent")
    push(tmp_path / "absent")


def test_what_one_node_writes_another_reads(nodes: tuple[Path, Path], server: S3Server, tmp_path: Path) -> None:
    first, second = nodes
    write_json(first / "zoo" / "a=b" / "card.json", {"auc": 0.9})
    assert server.get(f"{tmp_path.name}/zoo/a=b/card.json") == (first / "zoo" / "a=b" / "card.json").read_bytes()
    assert exists(second / "zoo" / "a=b" / "card.json")
    assert not (second / "zoo").exists()
    pull(second)
    assert read_json(second / "zoo" / "a=b" / "card.json") == {"auc": 0.9}


def test_the_location_of_a_folder_leads_every_node_to_its_own(
    nodes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nodes
    sent = to_portable(first / "samples" / "x")
    assert str(tmp_path) not in sent
    assert from_portable(sent) == first / "samples" / "x"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "second"))
    assert from_portable(sent) == second / "samples" / "x"
    assert display_path(second / "samples" / "x") == f"s3://{BUCKET}/{tmp_path.name}/samples/x"


def test_pull_fetches_what_changed_and_removes_what_is_gone(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    first, second = nodes
    for name in ("same", "longer", "gone"):
        write_text(first / "scores" / "unit" / name, name)
    pull(second)
    before = (second / "scores" / "unit" / "same").stat().st_ino
    half = second / "scores" / "unit" / f"{TEMPORARY_PREFIX}x-in the making"
    half.write_text("half")
    server.put(f"{tmp_path.name}/scores/unit/longer", b"another text")
    server.delete(f"{tmp_path.name}/scores/unit/gone")
    pull(second / "scores")
    found = {p.name: p.read_text() for p in (second / "scores" / "unit").iterdir()}
    assert found == {"same": "same", "longer": "another text", half.name: "half"}
    assert (second / "scores" / "unit" / "same").stat().st_ino == before  # not fetched again


def test_a_file_of_the_same_size_that_came_later_is_fetched(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    first, second = nodes
    write_text(first / "a", "one")
    pull(second)
    time.sleep(1.1)  # the server tells times in seconds
    server.put(f"{tmp_path.name}/a", b"two")
    pull(second / "a")
    assert (second / "a").read_text() == "two"


def test_pull_leaves_alone_what_is_not_asked_for(nodes: tuple[Path, Path]) -> None:
    first, second = nodes
    for name in ("card.json", "resume.pt", "model.safetensors"):
        write_text(first / "zoo" / "m" / name, name)
    write_text(second / "zoo" / "m" / "other.pt", "of the second")
    remove(first / "zoo" / "m" / "other.pt")
    pull(second / "zoo", without=("*.pt", "*.safetensors"))
    assert {p.name for p in (second / "zoo" / "m").iterdir()} == {"card.json"} | {"other.pt"}
    pull(second / "zoo", only=("resume.*",))
    assert {p.name for p in (second / "zoo" / "m").iterdir()} == {"card.json", "other.pt", "resume.pt"}


def test_folders_of_what_is_left_in_the_bucket_are_seen(nodes: tuple[Path, Path]) -> None:
    first, second = nodes
    write_text(first / "zoo" / "m" / "resume.pt", "12345")
    pull(second / "zoo", without=("*.pt",))
    assert (second / "zoo" / "m").is_dir()
    assert num_bytes(second / "zoo" / "m") == 5


def test_a_failed_upload_leaves_nothing_and_names_the_url(nodes: tuple[Path, Path], server: S3Server, url: str) -> None:
    first, _ = nodes
    server.refusing = lambda method, path: method in ("PUT", "POST")
    with pytest.raises(StoreError, match="does not answer as it must") as caught:
        write_text(first / "scores" / "block", "text")
    assert url in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert list((first / "scores").iterdir()) == []
    server.refusing = lambda method, path: False
    assert not exists(first / "scores" / "block")


def test_a_large_upload_that_fails_half_way_is_not_there(nodes: tuple[Path, Path], server: S3Server) -> None:
    first, _ = nodes
    parts = []

    def second_part(method: str, path: str) -> bool:
        parts.extend([path] if method == "PUT" else [])
        return method == "PUT" and len(parts) > 1

    server.refusing = second_part
    with pytest.raises(StoreError, match="does not answer"), atomic_path(first / "large") as temporary:
        temporary.write_bytes(os.urandom(25 * 1024**2))  # pyarrow sends parts of 10 MB
    assert len(parts) > 2
    server.refusing = lambda method, path: False
    assert not exists(first / "large")
    assert not (first / "large").exists()


def test_what_is_large_or_empty_comes_back_whole(nodes: tuple[Path, Path]) -> None:
    first, second = nodes
    data = os.urandom(25 * 1024**2)
    for name, content in (("large", data), ("empty", b"")):
        with atomic_path(first / name) as temporary:
            temporary.write_bytes(content)
    pull(second)
    assert (second / "large").read_bytes() == data
    assert (second / "empty").read_bytes() == b""


def test_faults_that_pass_are_waited_for(nodes: tuple[Path, Path], server: S3Server) -> None:
    first, second = nodes
    server.failures = 4  # more than pyarrow's own retries take
    write_text(first / "a", "text")
    assert server.failures == 0
    server.failures = 4
    pull(second)
    assert (second / "a").read_text() == "text"


def test_a_refusal_is_told_at_once(nodes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong credentials do not become right by asking again; the message holds none of them."""
    asked = []

    def refuse(*_: object) -> None:
        asked.append(1)
        raise OSError(f"AWS Error ACCESS_DENIED during PutObject operation: {KEY} {SECRET}")

    monkeypatch.setattr(object_storage, "_file_system", refuse)
    with pytest.raises(StoreError, match="credentials") as caught:
        write_text(nodes[0] / "a", "text")
    assert len(asked) == 1
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_disk_of_the_node_is_not_blamed_on_the_network(nodes: tuple[Path, Path], server: S3Server) -> None:
    first, _ = nodes
    (first / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_text(first / "folder", "text")  # there is a folder of that name


def test_remove_takes_files_and_folders_from_everywhere(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    first, second = nodes
    for name in ("results/a", "results/tables/b", "zoo/resume.pt", "zoo/card.json"):
        write_text(first / name, name)
    pull(second)
    remove(first / "results")
    remove(first / "zoo" / "resume.pt")
    remove(first / "zoo" / "was never there")
    assert set(server.objects(tmp_path.name)) == {"zoo/card.json"}
    assert [p.name for p in first.rglob("*") if p.is_file()].count("resume.pt") == 0
    pull(second)
    assert {p.name for p in second.rglob("[!.]*")} == {"zoo", "card.json"}


def test_a_deletion_that_fails_keeps_the_copy(nodes: tuple[Path, Path], server: S3Server) -> None:
    write_text(nodes[0] / "a", "text")
    server.refusing = lambda method, path: method == "DELETE"
    with pytest.raises(StoreError, match="does not answer"):
        remove(nodes[0] / "a")
    assert (nodes[0] / "a").exists()


def test_push_uploads_what_others_wrote_here_once(nodes: tuple[Path, Path], server: S3Server, tmp_path: Path) -> None:
    first, _ = nodes
    (first / "mlartifacts").mkdir()
    (first / "mlartifacts" / "card.json").write_text("{}")
    push(first / "mlartifacts")
    before = server.objects(tmp_path.name)
    assert set(before) == {"mlartifacts/card.json"}
    server.requests.clear()
    push(first / "mlartifacts")
    assert [method for method, _ in server.requests if method == "PUT"] == []


def test_the_log_of_a_study_goes_on_on_another_machine(nodes: tuple[Path, Path], server: S3Server) -> None:
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
    with run_log(second):  # a storage that is gone is no reason to fail
        tell("alone")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (f"s3://{KEY}:{SECRET}@bucket/x", "holds credentials"),
        (f"s3://bucket/x?secret_key={SECRET}", "unknown option 'secret_key'"),
        (f"s3://bucket/x?endpoint_override=http://me:{SECRET}@host", "holds credentials"),
        ("s3a://bucket/x", "did you mean 's3'"),
        ("https://host/x", "unknown kind of storage 'https'"),
        ("s3:///x", "expected s3://BUCKET"),
        ("s3://bucket/x#y", "expected s3://BUCKET"),
    ],
)
def test_urls_that_cannot_be_used_are_refused_without_repeating_them(wrong: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        local_dir(wrong)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_url_that_was_made_a_path_is_noticed() -> None:
    with pytest.raises(SpecError, match="expected a URL as text, got a Path made of one"):
        local_dir(Path("s3://bucket/x"))


def test_a_url_reads_back() -> None:
    url = "s3://bucket/a/b?endpoint_override=http://127.0.0.1:9000&region=eu-central-1"
    assert parse(url).url == url
    assert parse("s3://bucket/").url == "s3://bucket"


def test_a_bucket_that_is_not_there_is_named(server: S3Server) -> None:
    with pytest.raises(StoreError, match="there is no bucket 'absent'"):
        local_dir(f"s3://absent/x?endpoint_override={server.endpoint}")


def test_the_server_of_the_environment_is_asked(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1 port 9"):
        parse(f"s3://{BUCKET}/x").check()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    parse(f"s3://{BUCKET}/x").check()


PROGRAM = """
import sys
from raygrid.cli.commands import main
main(["status", sys.argv[1]])
"""


def test_wrong_credentials_end_a_command_with_a_message(server: S3Server, url: str) -> None:
    server.authenticate(after=0)
    try:
        said = subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, timeout=120)
    finally:
        server.authenticate(after=math.inf)
    assert said.returncode == 1
    assert "error: " in said.stderr
    assert "Check the credentials" in said.stderr
    assert SECRET not in said.stdout + said.stderr


def test_an_empty_folder_holds_no_study(server: S3Server, url: str) -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, timeout=120)
    assert f"error: s3://{BUCKET}/" in said.stderr
    assert "holds no study" in said.stderr


def test_a_picture_of_a_finished_study_is_published(server: S3Server, url: str, tmp_path: Path) -> None:
    study = {"study": small_study([model("a")]).to_dict(), "samples": {}, "phantom": True}
    server.put(f"{tmp_path.name}/study.json", json.dumps(study).encode())
    said = save_figure(open_study(url).path, Figure(), "empty.svg")
    assert said.endswith(f"({url.partition('?')[0]}/figures/empty.svg)")
    assert b"<svg" in server.get(f"{tmp_path.name}/figures/empty.svg")


QUICK = HeartbeatTiming(renew_s=0.2, stale_s=4.0, settle_s=0.1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TIMING", QUICK)


@pytest.mark.usefixtures("quick")
def test_a_second_driver_on_another_node_is_refused_while_the_first_lives(nodes: tuple[Path, Path], url: str) -> None:
    first, second = nodes
    with lease(first):
        time.sleep(QUICK.stale_s + 1)  # older than what counts as dead, but renewed
        with pytest.raises(StoreError, match=f'"pid": {os.getpid()}') as caught, lease(second):
            pass
        assert url in str(caught.value)
    with lease(second):  # given back
        pass


@pytest.mark.usefixtures("quick")
def test_a_dead_driver_is_taken_over_when_its_claim_is_old(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    claim = {"host": "gone", "pid": 1, "since": "then", "token": "t", "mirror": "m"}
    server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
    with pytest.raises(StoreError, match='"host": "gone"'), lease(nodes[0]):
        pass
    time.sleep(QUICK.stale_s + 1)
    with lease(nodes[0]):
        assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["pid"] == os.getpid()
    assert set(server.objects(tmp_path.name)) == set()  # neither claim nor probe


@pytest.mark.usefixtures("quick")
def test_a_driver_that_died_on_this_node_is_taken_over_at_once(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path
) -> None:
    identity = read_json(nodes[0] / ".raygrid-mirror.json")["identity"]
    claim = {"host": "here", "pid": 1, "since": "then", "token": "t", "mirror": identity}
    server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
    with lease(nodes[0]):
        assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["pid"] == os.getpid()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("on_ctrl_c", [signal.default_int_handler, signal.SIG_IGN])  # a background job ignores it
def test_a_driver_whose_study_was_taken_over_stops(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path, on_ctrl_c: Any
) -> None:
    claim = {"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}
    begun = time.monotonic()

    def work() -> None:
        with lease(nodes[0]):
            while time.monotonic() - begun < 60:  # a claim is renewed, so one that crosses ours is not the last
                server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
                time.sleep(0.5)

    before = signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        with pytest.raises(StoreError, match=r'taken over by another driver: {"host": "other"'):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 30
    assert json.loads(server.get(f"{tmp_path.name}/driver.json"))["token"] == "t"  # the other's claim stays


@pytest.mark.usefixtures("quick")
def test_of_two_that_claim_at_once_the_overwritten_one_is_refused(
    nodes: tuple[Path, Path], server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {"host": "other", "pid": 7, "since": "now", "token": "t", "mirror": "m"}
    monkeypatch.setattr(
        heartbeat.time, "sleep", lambda _: server.put(f"{tmp_path.name}/driver.json", json.dumps(claim).encode())
    )
    with pytest.raises(StoreError, match=r'in use by another driver: {"host": "other"'), lease(nodes[0]):
        pass


def wait_for_requests(server: S3Server, count: int) -> None:
    last, deadline = len(server.requests) + count, time.monotonic() + 60
    while len(server.requests) < last:
        assert time.monotonic() < deadline, "the driver gives no sign of life"
        time.sleep(0.05)


@pytest.mark.usefixtures("quick")
def test_a_pause_of_the_server_does_not_end_a_driver(nodes: tuple[Path, Path], server: S3Server) -> None:
    with lease(nodes[0]):
        for refused in (True, False):
            server.refusing = lambda method, path, refused=refused: refused
            wait_for_requests(server, 6)  # signs of life, two requests each
        write_text(nodes[0] / "a", "text")
    assert exists(nodes[0] / "a")
