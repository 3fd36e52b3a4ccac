"""Files are complete or absent, JSON errors name the file, and the cache folder belongs to the user."""

import hashlib
import os
from pathlib import Path

import pytest

from raygrid.errors import StoreError
from raygrid.io.files import atomic_path, checksum, read_json, write_json, write_text
from raygrid.io.paths import CACHE_VARIABLE, cache_dir


def test_a_file_appears_complete_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "card.json"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["card.json"]


def test_a_failed_block_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("earlier")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("a file in the place of a folder")
    with pytest.raises(StoreError, match=r"zoo/card\.json cannot be written .*; check free space and permissions"):
        write_text(tmp_path / "zoo" / "card.json", "{}")


def test_json_reads_back_in_the_order_of_its_keys(tmp_path: Path) -> None:
    values = {"name": "Grün", "auc": [0.5, None], "a": {}}
    write_json(tmp_path / "card.json", values)
    assert (tmp_path / "card.json").read_bytes().endswith(b"}\n")
    assert "Grün".encode() in (tmp_path / "card.json").read_bytes()
    assert list(read_json(tmp_path / "card.json").items()) == list(values.items())


@pytest.mark.parametrize("content", [b"", b'{"auc": ', b"\xff\xfe"])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"card\.json is not valid JSON .*; delete it"):
        read_json(tmp_path / "card.json")


@pytest.mark.parametrize("read", [read_json, checksum])
def test_an_absent_file_is_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(StoreError, match=r"card\.json does not exist; .*run the study again"):
        read(tmp_path / "card.json")


def test_a_checksum_is_the_sha_256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 10**6)
    assert checksum(tmp_path / "file") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_the_cache_folder_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "large disk" / "cache"))
    assert cache_dir() == tmp_path / "large disk" / "cache"
    assert cache_dir().stat().st_mode & 0o777 == 0o700


def test_the_cache_folder_is_otherwise_one_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cache_dir() == tmp_path / f"raygrid-{os.getuid()}"
    assert cache_dir().is_dir()


def test_a_cache_folder_that_cannot_be_created_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(StoreError, match=f"file/cache cannot be created .*; set {CACHE_VARIABLE}"):
        cache_dir()
