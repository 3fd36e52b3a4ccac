"""Folders that raygrid creates: a folder that cannot be created or written to is one line, with its path."""

import re
from pathlib import Path

import pytest
from tiny_grid import tiny

from raygrid.cli.exit_status import exit_status
from raygrid.errors import StoreError
from raygrid.io.lease import lease
from raygrid.io.paths import make_folder
from raygrid.study.run import RunOptions, run_study

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/proc/studies/tiny")  # nobody, not even root, can create it
# atomic_path raises its own error; the model of rsync works in a temporary folder of its own
OTHERS = {"raygrid/io/paths.py", "raygrid/io/files.py", "raygrid/study/cluster_file/rsync.py"}


def test_a_folder_and_its_parents_are_created(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", mode=0o700)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_created_is_named() -> None:
    with pytest.raises(StoreError, match=r"^/proc/studies/tiny cannot be created \(.*\); choose another folder, or"):
        make_folder(NOWHERE)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raygrid.io.paths.os.access", lambda *_: False)  # root may write to every folder
    with pytest.raises(StoreError, match=f"^{tmp_path} cannot be written to by this user; choose another folder, or"):
        make_folder(tmp_path)


def test_a_lock_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("raygrid.io.lease.os.open", refuse)
    with pytest.raises(StoreError, match=r"driver\.lock cannot be opened \(Permission denied\); change its owner"):
        lease(tmp_path).__enter__()


def test_a_run_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = RunOptions(study_dir=NOWHERE, data_root=tmp_path, num_cpus=1)
    assert exit_status(lambda: run_study(tiny(), options)) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"error: {NOWHERE} cannot be created")


def test_every_folder_is_created_here() -> None:
    modules = (ROOT / "raygrid").rglob("*.py")
    creating = {str(path.relative_to(ROOT)) for path in modules if re.search(r"\bmkdir\(|makedirs\(", path.read_text())}
    assert creating == OTHERS
