"""A whole small grid through Ray: the real path, stopped by signals, equals an undisturbed one."""

import os
import re
import runpy
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from grid_runs import EXPERIMENT, run, start
from tiny_grid import tiny
from toy_zoo import make_zoo

from raygrid.cli.commands import main
from raygrid.errors import DataError, SpecError, WeightsError
from raygrid.io.files import write_json
from raygrid.models import architectures
from raygrid.store.scores import read_metadata
from raygrid.store.units import score_files
from raygrid.study.check_targets import require_scorable
from raygrid.study.run import RunOptions, missing_work, open_study, run_study


def stop_when(output: Path, pattern: str, count: int, by: signal.Signals) -> str:
    """Start the study, send its driver a signal as soon as `count` files match `pattern`; return what it said."""
    process = start(output)
    deadline = time.monotonic() + 300
    while len(list(output.glob(pattern))) < count:
        assert process.poll() is None, "the study ended before it could be stopped"
        assert time.monotonic() < deadline, f"{count} of {pattern} did not appear"
        time.sleep(0.02)
    os.kill(process.pid, by)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + by, text
    return text


def auc_of(output: Path) -> pd.DataFrame:
    keys = ["modality", "condition", "surrogate", "target", "attack", "epsilon"]
    return pd.read_parquet(output / "results" / "auc.parquet").sort_values(keys, ignore_index=True)


@pytest.mark.slow
def test_every_pairing_is_scored(finished: Path) -> None:
    zoo = open_study(finished)
    assert not any(missing_work(zoo).values())
    auc = auc_of(finished)
    attacked = auc[auc["condition"] != "clean"]
    per_pairing = len(zoo.study.transfer.attacks) * 2
    num_models = len(zoo.study.models_of("pathology"))
    assert len(attacked) == (num_models + 1) * num_models * per_pairing  # one ensemble
    assert attacked["white_box"].sum() == (num_models + 2) * per_pairing  # of two models
    assert set(attacked.loc[attacked["surrogate_kind"] == "ensemble", "surrogate_split"]) == {"mixed"}
    report = (finished / "results" / "report.html").read_text()
    assert "Generated phantoms" in report
    assert (finished / "mlflow.db").exists()


@pytest.mark.slow
def test_random_cells_are_traced_to_the_score_files_as_the_docs_say(finished: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "trace-a-number.md"
    text = page.read_text().replace("STUDY", str(finished))
    (recipe,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    before, _, after = re.split(r"^(cell = .*\n.*\n)", recipe, flags=re.MULTILINE)
    attacked = auc_of(finished).query("condition != 'clean'")
    for row in attacked.sample(5, random_state=1).to_dict("records"):
        names = ("modality", "surrogate", "target", "attack", "epsilon", "condition")
        found: dict[str, object] = {"cell": {name: row[name] for name in names}}
        exec(before + after, found)
        assert row["auc"] == pytest.approx(found["auc"], abs=1e-12), found["cell"]


@pytest.mark.slow
def test_a_cell_of_a_table_is_the_mean_of_its_rows(finished: Path) -> None:
    cells = pd.read_csv(finished / "results" / "tables" / "table1.csv").query("condition == 'adversarial'")
    rows = auc_of(finished).query("not white_box and target_init == 'random' and surrogate_init == 'random'")
    rows = rows.query("target_split == 'd1' and surrogate_split == 'd1' and condition == 'adversarial'")
    rows = rows.query("target_instance == 0 and surrogate_instance == 1")  # as published
    assert len(cells) == 4
    for cell in cells.to_dict("records"):
        behind = rows[(rows["attack"] == cell["attack"]) & (rows["epsilon"] == cell["epsilon"])]
        assert len(behind) == cell["num_pairings"] == 1
        assert cell["auc"] == pytest.approx(behind["auc"].mean(), abs=1e-12)


@pytest.mark.slow
def test_running_again_finds_nothing_missing(finished: Path) -> None:
    before = auc_of(finished)
    text = run(finished)
    assert "nothing has changed" in text
    assert "mlflow: 0 new runs" in text
    pd.testing.assert_frame_equal(before, auc_of(finished))


@pytest.mark.slow
def test_stopped_twice_gives_the_same_table(finished: Path, tmp_path: Path) -> None:
    for pattern, count, by in (
        ("zoo/*/*/card.json", 2, signal.SIGTERM),
        ("scores/*/*/*/block-*.parquet", 2, signal.SIGINT),
    ):  # SIGKILL in training: test_chaos; in the transfer stage: test_object_storage
        said = stop_when(tmp_path, pattern, count, by)
        _, line, after = said.partition("stopped; run the same command again to continue\n")
        assert line, said
        assert not after, said
        assert "FAILED" not in said
        assert "Traceback" not in said
    run(tmp_path)
    volatile = ["influence"]
    left, right = (auc_of(path) for path in (finished, tmp_path))
    pd.testing.assert_frame_equal(left.drop(columns=volatile), right.drop(columns=volatile), check_exact=True)
    hashes = []
    for path in (finished, tmp_path):
        zoo = open_study(path)
        units = zoo.units("pathology")
        hashes.append([read_metadata(file.path)["adversarial_sha256"] for (file,) in score_files(units)])
    assert hashes[0] == hashes[1]


def test_a_run_that_ends_at_its_first_check_leaves_no_folder(tmp_path: Path) -> None:
    options = RunOptions(study_dir=tmp_path / "study", data_root=tmp_path, only="targets")
    with pytest.raises(SpecError, match="declares no `targets`"):
        run_study(tiny(), options)
    assert not options.study_dir.exists()


def test_weights_that_cannot_be_had_are_told_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(architectures.timm, "create_model", unreachable)
    spec = replace(tiny(), models=tuple(replace(m, init="imagenet") for m in tiny().models[-2:-1]), ensembles=())
    options = RunOptions(study_dir=tmp_path / "study", data_root=tmp_path)
    with pytest.raises(WeightsError, match="weights of test_resnet could not be fetched from the hub"):
        run_study(spec, options)
    assert not options.study_dir.exists()


@pytest.mark.parametrize(("positives", "fits"), [(0, False), (2, True), (3, False)])
def test_test_images_of_one_class_are_found_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], positives: int, fits: bool
) -> None:
    zoo = make_zoo(tmp_path)
    counts = {"test": {"images": 3, "patients": 3, "positive_finding": positives}}
    shards = [{"file": "test-00000.parquet", "part": "test", "rows": 3}]
    manifest = {"labels": ["finding"], "counts": counts, "shards": shards}
    write_json(zoo.samples_dir("toy") / "manifest.json", manifest)
    require_scorable(zoo, warn_only=True)
    assert ("warning: toy: none of ['finding']" in capsys.readouterr().out) != fits
    with nullcontext() if fits else pytest.raises(DataError, match="among the 3 test images, so no AUC is defined"):
        require_scorable(zoo, warn_only=False)


def test_what_a_study_lacks_is_listed_by_modality_and_the_demo_is_pointed_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Path(__file__).parents[2] / "experiments" / "full_grid.py"
    monkeypatch.setattr(
        sys, "argv", [str(experiment), "--output", str(tmp_path / "study"), "--data-root", str(tmp_path)]
    )
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(experiment), run_name="__main__")
    said = capsys.readouterr().err
    assert said.startswith(f"error: the study cannot start: files are missing below {tmp_path} (--data-root)\n")
    assert re.findall(r"^  (\w+):$", said, re.MULTILINE) == ["ophthalmology", "radiology", "pathology"]
    assert said.endswith("--preset demo needs no data: it runs on generated images\n")


def test_a_study_without_targets_has_none_to_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("argv", "path"):  # the command sets both, for the file that it runs
        monkeypatch.setattr(sys, name, [*getattr(sys, name)])
    with pytest.raises(SystemExit, match="1"):
        main(["check-target", str(EXPERIMENT), "--output", str(tmp_path)])
    assert "study tiny declares no `targets`" in capsys.readouterr().err
