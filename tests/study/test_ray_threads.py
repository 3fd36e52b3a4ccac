"""A run that is interrupted while Ray Data works: its last line is the last, and no second cluster starts."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "helpers" / "interrupted_pipeline.py"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["start", "step"])
def test_nothing_follows_the_last_line_of_a_stopped_run(moment: str) -> None:
    command = [sys.executable, str(PROGRAM), moment]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert ended.stdout.endswith("stopped; run the same command again to continue\n"), ended.stdout
    assert "Traceback" not in ended.stdout
    assert "Started a local Ray" not in ended.stdout
    assert ended.returncode == 130
