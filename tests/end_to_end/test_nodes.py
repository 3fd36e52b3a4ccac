"""The transfer stage on three simulated nodes, one killed and another joining: the bits of one process without Ray."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from scored_zoo import run_missing
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.analysis.frames import result_frames
from raygrid.io.files import write_json
from raygrid.models.training import train
from raygrid.spec import ModelSpec, TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.scores import read_metadata
from raygrid.store.units import score_files

PROGRAM = Path(__file__).parents[1] / "helpers" / "transfer_on_nodes.py"
MODELS: tuple[ModelSpec, ...] = (MODEL, replace(MODEL, split="d2"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Return a study of two trained models, nothing scored: 18 units of 4 images."""
    transfer = TransferSpec(attacks=attack_grid((0.02, 0.04, 0.06)), block_size=4)
    zoo = make_zoo(tmp_path_factory.mktemp("study"), replace(RECIPE, epochs=1), models=MODELS, transfer=transfer)
    samples = make_samples(zoo.samples_dir("toy"))
    for model in MODELS:
        train(zoo, model, samples)
    write_json(zoo.path / "study.json", {"study": zoo.study.to_dict(), "samples": dict(zoo.sample_signatures)})
    return zoo


def run_on(zoo: StudyFolder, tmp_path: Path, *arguments: int) -> tuple[str, list[dict[str, str]], pd.DataFrame]:
    """Score a copy of the study on nodes; return what the program said, the hashes, and the AUC rows."""
    subprocess.run(["cp", "-r", str(zoo.path), str(tmp_path / "copy")], check=True)
    copy = StudyFolder(tmp_path / "copy", zoo.study, zoo.sample_signatures)
    command = [sys.executable, str(PROGRAM), str(copy.path), *map(str, arguments)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout, *results_of(copy)


def results_of(zoo: StudyFolder) -> tuple[list[dict[str, str]], pd.DataFrame]:
    """Return the hashes of the adversarial images, unit by unit, and the AUC rows."""
    samples = zoo.samples("toy")
    files = score_files(zoo.units("toy"))
    assert all(len(there) == 1 for there in files)
    return [read_metadata(file.path)["adversarial_sha256"] for (file,) in files], result_frames(zoo, "toy", samples)[0]


@pytest.fixture(scope="module")
def alone(prepared: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], pd.DataFrame]:
    """Return what the same units give in this process, one after the other."""
    copy = StudyFolder(tmp_path_factory.mktemp("alone") / "study", prepared.study, prepared.sample_signatures)
    shutil.copytree(prepared.path, copy.path)
    run_missing(copy)
    return results_of(copy)


@pytest.mark.slow
def test_nodes_that_are_lost_and_join_change_no_bit(prepared: StudyFolder, alone, tmp_path: Path) -> None:
    said, hashes, frame = run_on(prepared, tmp_path, 3, 4)
    assert "a node was killed" in said
    assert hashes == alone[0]
    pd.testing.assert_frame_equal(frame, alone[1], check_exact=True)


@pytest.mark.slow
def test_a_node_that_joins_gets_work() -> None:
    program = PROGRAM.with_name("growing_pipeline.py")
    said = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "2 nodes, 80 rows, each {1} times" in said.stdout
