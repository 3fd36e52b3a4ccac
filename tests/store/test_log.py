"""The lines of log.jsonl, and the check of free space."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from raygrid.errors import StoreError
from raygrid.io.files import require_space
from raygrid.progress import Progress, tell
from raygrid.store.log import LOG_FILE, run_log


@pytest.fixture(autouse=True)
def study(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_every_finished_piece_is_a_line_even_if_the_terminal_skips_it(tmp_path: Path) -> None:
    with run_log(tmp_path):
        progress = Progress("transfer eye: units", 3)
        for number in range(3):
            progress.advance(f"block {number}")
        progress.fail("block 9", "a reason", "of two lines")
        tell("nothing is missing")
    lines = lines_of(tmp_path)
    assert [line["detail"] for line in lines if line["level"] == "info" and "done" in line] == [
        "block 0",
        "block 1",
        "block 2",
    ]
    assert {(line["stage"], line["total"]) for line in lines if "done" in line} == {("transfer eye: units", 3)}
    (failed,) = [line for line in lines if line["level"] == "error"]
    assert failed["message"] == "block 9 failed: a reason\nof two lines"
    assert [lines[0]["message"], lines[-2]["message"], lines[-1]["message"]] == [
        "run begins",
        "nothing is missing",
        "run ends",
    ]
    assert {"time", "host", "pid"} <= set(lines[0])


def test_runs_are_appended_with_the_error_that_stopped_them(tmp_path: Path) -> None:
    with pytest.raises(StoreError), run_log(tmp_path):
        raise StoreError("the disk is gone")
    with pytest.raises(ZeroDivisionError), run_log(tmp_path):
        1 / 0  # noqa: B018
    with pytest.raises(KeyboardInterrupt), run_log(tmp_path):
        raise KeyboardInterrupt
    tell("not of a run")
    first, second, third = (line for line in lines_of(tmp_path) if line["level"] == "error")
    assert (first["kind"], first["message"]) == ("StoreError", "run stops: the disk is gone")
    assert "traceback" not in first
    assert "1 / 0" in str(second["traceback"])
    assert (third["kind"], third["message"], "traceback" in third) == (
        "KeyboardInterrupt",
        "run stops: told to stop",
        False,
    )
    assert len(lines_of(tmp_path)) == 6


def test_a_run_whose_output_was_closed_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), run_log(tmp_path):
        raise SystemExit(141)
    last = lines_of(tmp_path)[-1]
    assert last["message"] == "run stops: the reader of its output ended"
    assert last["kind"] == "SystemExit"
    assert "traceback" not in last


def test_too_little_free_space_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 2 * 10**9, 2 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    require_space(tmp_path, 2e9, "the scores", "make room")
    with pytest.raises(StoreError, match=r"has 2\.0 GB free, the scores need 2\.1 GB; make room"):
        require_space(tmp_path, 2.1e9, "the scores", "make room")
