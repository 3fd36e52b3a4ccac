"""The study of `tiny_grid` as a program of its own."""

import subprocess
import sys
from pathlib import Path

EXPERIMENT = Path(__file__).with_name("tiny_grid.py")


def start(output: Path) -> subprocess.Popen[str]:
    # a relative path, as a person types it: the workers' own working directories must not matter
    command = [sys.executable, str(EXPERIMENT), "--output", output.name, "--num-cpus", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=output.parent)


def run(output: Path) -> str:
    process = start(output)
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    return text
