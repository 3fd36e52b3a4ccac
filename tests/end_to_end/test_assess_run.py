"""A study of somebody else's classifier through Ray, from the command line to its page."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from raygrid.io.files import read_json

HELPERS = Path(__file__).parents[1] / "helpers"


def run(*command: str) -> str:
    # workers find the function's module as the driver does; later commands by PYTHONPATH, as the docs say
    paths = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_classifier_is_assessed_and_running_again_finds_nothing_missing(tmp_path: Path) -> None:
    command = [str(HELPERS / "tiny_grid.py"), "--preset", "assess", "--output", str(tmp_path), "--num-cpus", "2"]
    said = run(*command)
    measured, trained = said.index("external-brightness has an AUC of"), said.index("train: models")
    assert measured < trained
    assert "nothing is missing" in said
    auc = pd.read_parquet(tmp_path / "results" / "auc.parquet")
    assert set(auc["target"]) == {"external-brightness"}
    assert len(auc) == 1 + 5 * 4 * 2  # clean; four models and an ensemble, four attacks, two conditions
    (one,) = read_json(tmp_path / "results" / "assessments.json")
    page = (tmp_path / "results" / one["page"]).read_text()
    assert one["headline"].split(" (")[0] in page.replace("&#39;", "'")
    report = (tmp_path / "results" / "report.html").read_text()
    assert one["page"] in report
    assert report.count("not attacked</td>") == 4  # the zoo is the attacker's alone
    assert 'class="missing"' not in report
    assert not (tmp_path / "results" / "tables").exists()
    again = run(*command)
    assert "nothing has changed" in again
    assert "mlflow: 0 new runs" in again
    assert "nothing is missing" in again
    (tmp_path / "results" / one["page"]).unlink()
    assert one["page"] in run(str(HELPERS.parents[1] / "analysis" / "make_assessment.py"), str(tmp_path))
    assert (tmp_path / "results" / one["page"]).read_text() == page
    assert "target pathology external-brightness" in run("-m", "raygrid.cli", "status", str(tmp_path))
    tried = run("-m", "raygrid.cli", "check-target", *command)
    assert "external-brightness has an AUC of" in tried
    assert "trying" not in tried  # it was
