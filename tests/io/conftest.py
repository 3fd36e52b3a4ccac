"""An S3 server, and two nodes with mirrors of one folder in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server, s3_server

from raygrid.io import object_storage
from raygrid.io.mirror import local_dir
from raygrid.io.paths import CACHE_VARIABLE


@pytest.fixture(scope="module")
def module_server() -> Iterator[S3Server]:
    """A server with one bucket; starting one takes seconds."""
    with s3_server() as server:
        yield server


@pytest.fixture
def server(module_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, with short pauses between attempts; faults that a test sets end with the test."""
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.01)
    monkeypatch.setattr(object_storage, "ATTEMPTS", 2)  # each with the retries of pyarrow, which take seconds
    yield module_server
    module_server.failures, module_server.refusing = 0, lambda method, path: False


@pytest.fixture
def url(server: S3Server, tmp_path: Path) -> str:
    """The URL of an empty folder."""
    return server.url(tmp_path.name)


@pytest.fixture
def nodes(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Mirrors of one folder on two nodes that share no disk; the test itself runs on the first node."""
    folders = []
    for name in ("second", "first"):  # the cache of the last one stays set
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / name))
        folders.append(local_dir(url))
    return folders[1], folders[0]
