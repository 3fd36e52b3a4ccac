"""The lock of a study folder: one holder, and no file but a regular one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from raygrid.errors import StoreError
from raygrid.io.lease import lease


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_a_lock_that_is_not_a_regular_file_is_refused_and_left_unchanged(kind: str, tmp_path: Path) -> None:
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


def test_the_lock_file_of_an_earlier_driver_is_reused(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text('{"host": "gone", "pid": 1}')
    with lease(tmp_path), pytest.raises(StoreError, match=f'"pid": {os.getpid()}'), lease(tmp_path):
        pass


def test_a_second_driver_is_refused_with_the_process_of_the_first(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom raygrid.io.lease import lease\n"
        "with lease(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(StoreError, match=f'"pid": {holder.pid}'), lease(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with lease(tmp_path):
        pass


def test_a_lock_file_that_its_holder_has_just_removed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "study" / "driver.lock", fcntl.flock

    def flock_of_a_file_just_removed(file: TextIO, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        flock(file, how)
        path.unlink()
        path.parent.rmdir()

    monkeypatch.setattr(fcntl, "flock", flock_of_a_file_just_removed)
    with lease(path.parent):
        assert str(os.getpid()) in path.read_text()
