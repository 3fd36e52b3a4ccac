"""Object storage against a server: URLs, complete objects, retries, and messages without secrets."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3_server import BUCKET, KEY, SECRET, S3Server

from raygrid.errors import SpecError, StoreError
from raygrid.io import object_storage
from raygrid.io.files import atomic_path, write_text
from raygrid.io.mirror import exists, local_dir, pull
from raygrid.io.object_storage import parse


def test_a_parsed_url_gives_the_same_url() -> None:
    url = "s3://bucket/a/b?endpoint_override=http://127.0.0.1:9000&region=eu-central-1"
    assert parse(url).url == url
    assert parse("s3://bucket/").url == "s3://bucket"


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
def test_invalid_urls_are_refused_without_repeating_secrets(wrong: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        local_dir(wrong)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_absent_bucket_is_named(server: S3Server) -> None:
    with pytest.raises(StoreError, match="there is no bucket 'absent'"):
        local_dir(f"s3://absent/x?endpoint_override={server.endpoint}")


def test_the_environment_names_the_server(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1 port 9"):
        parse(f"s3://{BUCKET}/x").check()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    parse(f"s3://{BUCKET}/x").check()


def test_large_and_empty_files_arrive_complete(nodes: tuple[Path, Path]) -> None:
    first, second = nodes
    data = os.urandom(25 * 1024**2)
    for name, content in (("large", data), ("empty", b"")):
        with atomic_path(first / name) as temporary:
            temporary.write_bytes(content)
    pull(second)
    assert (second / "large").read_bytes() == data
    assert (second / "empty").read_bytes() == b""


def test_temporary_faults_are_retried(nodes: tuple[Path, Path], server: S3Server) -> None:
    first, second = nodes
    server.failures = 4  # more than pyarrow's own retries take
    write_text(first / "a", "text")
    assert server.failures == 0
    server.failures = 4
    pull(second)
    assert (second / "a").read_text() == "text"


def test_a_failed_upload_leaves_no_file_and_names_the_url(nodes: tuple[Path, Path], server: S3Server, url: str) -> None:
    first, _ = nodes
    server.refusing = lambda method, path: method in ("PUT", "POST")
    with pytest.raises(StoreError, match="does not answer \\(") as caught:
        write_text(first / "scores" / "block", "text")
    assert url in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert list((first / "scores").iterdir()) == []
    server.refusing = lambda method, path: False
    assert not exists(first / "scores" / "block")


def test_a_large_upload_that_fails_half_way_leaves_no_object(nodes: tuple[Path, Path], server: S3Server) -> None:
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


def test_a_refusal_is_raised_without_retries(nodes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry corrects wrong credentials. The message contains none of them."""
    asked = []

    def refuse(*_: object) -> None:
        asked.append(1)
        raise OSError(f"AWS Error ACCESS_DENIED during PutObject operation: {KEY} {SECRET}")

    monkeypatch.setattr(object_storage, "file_system", refuse)
    with pytest.raises(StoreError, match="credentials") as caught:
        write_text(nodes[0] / "a", "text")
    assert len(asked) == 1
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_error_of_the_local_disk_is_reported_as_such(nodes: tuple[Path, Path], server: S3Server) -> None:
    first, _ = nodes
    (first / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_text(first / "folder", "text")  # a folder has this name


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


def test_status_of_an_empty_folder_says_that_it_holds_no_study(server: S3Server, url: str) -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, timeout=120)
    assert f"error: s3://{BUCKET}/" in said.stderr
    assert "holds no study" in said.stderr
