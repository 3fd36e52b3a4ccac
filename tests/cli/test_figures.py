"""`raygrid figures`, `raygrid tables` and the scripts in analysis/ need a study folder alone."""

import dataclasses
import runpy
from pathlib import Path

import pytest
from auc_frames import model, small_frame, small_study

from raygrid.cli import figures
from raygrid.cli.commands import main
from raygrid.io.files import write_json
from raygrid.store.folder import open_study
from raygrid.store.results import Results
from raygrid.study.publish import print_results

SCRIPTS = Path(__file__).resolve().parents[2] / "analysis"


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    inits = ("random", "pretrained_on:textures")
    models = [model(a, i, modality="pathology", instance=k) for a in "ab" for i in inits for k in (0, 1)]
    sources = [model(a, modality="textures") for a in "ab"]
    pathology, textures = small_study([models[0], *sources]).modalities
    study = dataclasses.replace(
        small_study([models[0]]),
        modalities=(pathology, dataclasses.replace(textures, source=True)),
        models=(*models, *sources),
    )
    write_json(tmp_path / "study.json", {"study": study.to_dict(), "samples": {}, "phantom": True, **MADE_BY})
    Results(tmp_path / "results").write("auc", small_frame(models))
    return tmp_path


MADE_BY = {"versions": {"raygrid": "0"}, "git_commit": None, "created": "2026-01-01T00:00:00+00:00"}


def run(script: str, study_dir: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [script, str(study_dir), *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    said = capsys.readouterr()
    assert (ended.value.code, said.err.partition(" ")[0]) in ((0, ""), (1, "error:"))
    return said.err or said.out


@pytest.mark.parametrize("script", ["make_tables.py", "make_epsilon_curves.py", "make_heat_maps.py", "make_effects.py"])
def test_each_names_the_files_it_wrote(script: str, study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [Path(line) for line in run(script, study_dir, capsys=capsys).splitlines()]
    assert paths
    assert all(path.stat().st_size > 0 for path in paths)


def test_a_phantom_study_beside_the_paper_says_that_it_is_one(
    study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run("compare_with_paper.py", study_dir, "--format", "svg", capsys=capsys)
    assert "not medical evidence" in said
    assert "0.38 / 0.90 [" in said  # Table 1, FGSM at 0.04
    assert "C1" in said
    figures = [study_dir / "figures" / f"beside_published_table{n}.svg" for n in (1, 2, 3)]
    assert all(str(path) in said and path.stat().st_size for path in figures)
    assert (study_dir / "results" / "beside_published.csv").read_text().count("\n") > 10


@pytest.mark.parametrize(
    "arguments",
    [["--format", "svg"], ["--condition", "control"], ["--epsilon", "0.04"], ["--condition=control", "--format=pdf"]],
)
def test_the_options_of_a_script_are_those_of_the_command(
    arguments: list[str], study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run("make_heat_maps.py", study_dir, *arguments, capsys=capsys)
    with pytest.raises(SystemExit):
        main(["figures", str(study_dir), "heat-maps", *arguments])
    assert capsys.readouterr().out == said
    assert said.count("heat_map_pathology_") == 2


def test_all_figures_are_drawn_at_once(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(figures.FIGURES, "example-images")  # needs trained networks
    with pytest.raises(SystemExit):
        main(["figures", str(study_dir), "all"])
    names = {path.name for path in (study_dir / "figures").iterdir()}
    assert {"epsilon_curves.png", "effects.png", "heat_map_pathology_fgsm_0.02_adversarial.png"} <= names
    assert len(capsys.readouterr().out.splitlines()) == len(names)


def test_a_figure_of_another_name_is_refused_with_those_there_are(
    study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["figures", str(study_dir), "heatmaps"])
    assert ended.value.code == 2
    assert "heat-maps" in capsys.readouterr().err


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("make_*.py")))
def test_each_says_in_a_line_that_a_folder_holds_no_study(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(script, tmp_path, capsys=capsys)
    assert said.startswith(
        f"error: {tmp_path} holds no study: {tmp_path / 'study.json'} does not exist; give the folder"
    )


def test_what_a_study_lacks_is_said_with_the_way_to_it(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no attack at epsilon 0.5; it has 0.02" in run(
        "make_heat_maps.py", study_dir, "--epsilon", "0.5", capsys=capsys
    )
    assert "names no targets of its own" in run("make_assessment.py", study_dir, capsys=capsys)
    frame = study_dir / "results" / "auc.parquet"
    frame.write_bytes(b"half a file")
    assert f"{frame} cannot be read" in run("make_tables.py", study_dir, capsys=capsys)
    frame.unlink()
    assert f"raygrid report {study_dir}" in run("make_tables.py", study_dir, capsys=capsys)
    assert not [path for path in study_dir.rglob("*") if path.suffix in (".png", ".csv")]


def test_models_that_did_not_learn_are_named_in_the_terminal_whatever_the_tables_involve(
    study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("make_tables.py", study_dir, capsys=capsys)
    zoo = open_study(study_dir)
    auc = zoo.results.auc()
    print_results(zoo)
    assert "did not learn" not in capsys.readouterr().out
    clean = (auc["condition"] == "clean") & (auc["target"] == "a-random-d1-1")
    assert clean.sum() == 1
    auc.loc[clean, "auc_low"] = 0.5
    zoo.results.write("auc", auc)
    print_results(zoo)
    said = capsys.readouterr().out
    assert "1 of the models did not learn" in said
    assert said.count("a-random-d1-1") == 1
