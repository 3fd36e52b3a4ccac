"""The lock of a study folder, also one that somebody else made."""

import os
from pathlib import Path

import pytest

from raygrid.errors import StoreError
from raygrid.io.lease import lease


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_a_lock_that_is_no_regular_file_is_refused_and_left_alone(kind: str, tmp_path: Path) -> None:
    study, elsewhere = tmp_path / "study", tmp_path / "elsewhere.txt"
    study.mkdir()
    lock = study / "driver.lock"
    if kind == "link":
        elsewhere.write_text("precious")
        lock.symlink_to(elsewhere)
    elif kind == "dangling link":
        lock.symlink_to(elsewhere)
    elif kind == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(StoreError, match=r"driver\.lock: expected the study's lock, a regular file"), lease(study):
        pass
    assert elsewhere.exists() == (kind == "link")
    if kind == "link":
        assert elsewhere.read_text() == "precious"


def test_a_lock_file_of_an_earlier_driver_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text('{"host": "gone", "pid": 1}')
    with lease(tmp_path), pytest.raises(StoreError, match=f'"pid": {os.getpid()}'), lease(tmp_path):
        pass
