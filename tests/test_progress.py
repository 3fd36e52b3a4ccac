"""Progress lines: when they are printed, and the estimate of the time left."""

import logging
import signal
import subprocess
import sys

import pytest

from raygrid import progress
from raygrid.progress import Progress, tell


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def advance(stage: Progress, clock: Clock, seconds: float, detail: str = "") -> None:
    clock.seconds += seconds
    stage.advance(detail)


def test_lines_are_printed_at_most_every_five_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Progress("transfer eye: units", 5)
    for seconds in (1, 1, 4, 1, 1):
        advance(stage, clock, seconds)
    counts = [line.split()[3] for line in capsys.readouterr().out.splitlines()]
    assert counts == ["1/5", "3/5", "5/5"]


def test_the_time_left_is_estimated_from_the_pace_since_the_first_piece(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Progress("units", 10, done=1)
    for seconds in (3600, 10, 10, 10):  # an hour of start-up
        advance(stage, clock, seconds, "block")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "units 2/10 after 1:00:00  block"
    assert lines[2] == "units 4/10 after 1:00:20  block"  # too early for an estimate
    assert lines[3] == "units 5/10 after 1:00:30, about 0:50 left  block"


def test_a_failed_piece_is_reported_but_not_counted(
    clock: Clock, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Progress("units", 2)
    with caplog.at_level(logging.INFO, logger="raygrid"):
        stage.fail("block 1", "no memory")
        tell("done")
    assert stage.done == 0
    assert capsys.readouterr().out.splitlines() == ["units 0/2 after 0:00  block 1 FAILED: no memory", "done"]
    assert [record.getMessage() for record in caplog.records] == ["block 1 failed: no memory", "done"]


def test_quoted_text_adds_no_line(
    clock: Clock, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Progress("units", 2)
    with caplog.at_level(logging.INFO, logger="raygrid"):
        tell("note: a\nb", "\x1b[2Kc")
        stage.fail("block 1", "status 500: \r\ndone", "second line")
        clock.seconds += 10
        stage.note("d\ne", "f")
    shown = r"""note: a\nb
\x1b[2Kc
units 0/2 after 0:00  block 1 FAILED: status 500: \r\ndone
second line
units 0/2 after 0:10  d\ne
f
"""
    assert capsys.readouterr().out == shown
    assert [record.getMessage() for record in caplog.records] == [
        "note: a\\nb\n\\x1b[2Kc",
        "block 1 failed: status 500: \\r\\ndone\nsecond line",
    ]


def test_a_closed_pipe_ends_the_program_without_a_traceback() -> None:
    code = "from raygrid.progress import tell\nfor line in range(100000): tell(str(line))\nprint('went on')"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert writer.stdout.readline() == "0\n"
    writer.stdout.close()  # as head does after its lines
    assert writer.wait(timeout=60) == 128 + signal.SIGPIPE
    assert writer.stderr.read() == ""
    writer.stderr.close()
