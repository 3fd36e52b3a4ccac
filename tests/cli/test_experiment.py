"""The command line of an experiment file."""

from pathlib import Path

import pytest

import raygrid as rg
from raygrid.cli import experiment
from raygrid.errors import MissingDataError, SpecError


def paper() -> rg.StudySpec:
    raise SpecError("the paper was chosen")


def demo() -> rg.StudySpec:
    raise SpecError("the demo was chosen")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "the paper was chosen"), (["--preset", "paper"], "the paper"), (["--preset", "demo"], "the demo was chosen")],
)
def test_a_preset_has_the_name_of_its_function_and_the_first_is_the_default(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        rg.main(paper, demo, arguments=arguments)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_help_is_the_docstring_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        rg.main(paper, demo, arguments=["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "The command line of an experiment file." in shown
    assert "--preset {demo,paper}" in shown
    assert "(default: paper)" in shown


def test_main_without_a_study_is_a_mistake_of_the_file() -> None:
    with pytest.raises(TypeError, match="at least one function that returns a StudySpec"):
        rg.main(arguments=[])


@pytest.mark.parametrize(("with_demo", "preset"), [(True, "paper"), (True, "demo"), (False, "paper")])
def test_missing_data_point_to_the_demo_where_there_is_one(
    with_demo: bool, preset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(study: rg.StudySpec, options: rg.RunOptions) -> None:
        raise MissingDataError("kaggle_dr is not in data/")

    study = rg.StudySpec(
        name="paper",
        seed=1,
        modalities=(
            rg.ModalitySpec(
                name="eye",
                dataset=rg.DatasetSpec(loader="phantom_fundus", image_size=32, channels=3),
                splits=rg.SplitSpec(test_fraction=0.2),
                recipe=rg.Recipe(epochs=1),
            ),
        ),
        models=rg.model_grid("eye", ("resnet18",), [("random", "d1", 0)]),
        transfer=rg.TransferSpec(attacks=rg.attack_grid((0.02,))),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("raygrid.study.run.run_study", run)
    presets = {"paper": lambda: study} | ({"demo": lambda: study} if with_demo else {})
    with pytest.raises(SystemExit) as ended:
        experiment.run_experiment(presets, description="", default="paper", arguments=["--preset", preset])
    assert ended.value.code == 1
    assert ("--preset demo needs no data" in capsys.readouterr().err) == (with_demo and preset == "paper")
