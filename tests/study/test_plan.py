"""The plan: counts from the declaration, published sizes where the data are not there, the engine's own gradients."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from raygrid.errors import MissingDataError
from raygrid.models.memory import crafting_bytes, training_bytes
from raygrid.models.timing import Seconds, measure, num_gradients
from raygrid.spec import DatasetSpec, ModalitySpec, ModelSpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid
from raygrid.study import plan

_FILE = Path(__file__).resolve().parents[2] / "experiments" / "full_grid.py"
_SPEC = importlib.util.spec_from_file_location("full_grid_to_plan", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
full_grid = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(full_grid)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every pass take one second."""
    monkeypatch.setattr(plan, "measure", lambda *args: Seconds(1.0, 1.0, 1.0, 1000))


def test_gradients_are_those_of_the_engine() -> None:
    assert num_gradients(attack_grid((0.02, 0.04, 0.06))) == 52
    assert num_gradients(attack_grid([k / 100 for k in range(1, 7)])) == 100


def test_paper_study_is_planned_without_its_data(tmp_path: Path, second: None) -> None:
    work = plan.plan_study(full_grid.paper(), tmp_path / "study", tmp_path / "data").set_index("modality")
    radiology = work.loc["radiology"]
    assert radiology["test_images"] == 25_596
    assert radiology["training_images"] == round(86_524 / 2 * 0.9)
    assert radiology["gradient_passes"] == 12 * 52 * 25_596
    assert radiology["forward_passes"] == 25_596 * 12 * (1 + 12 * 6 * 2)
    assert radiology["transfer_s"] == radiology["gradient_passes"] + radiology["forward_passes"]
    recipe = full_grid.paper().modality("radiology")
    scratch = 2 * recipe.recipe.epochs * (3 * 0.5 + 0.25)  # d1 twice, d2, d2_half, two architectures
    tuned = 2 * recipe.finetune.epochs * 2 * 0.5
    assert radiology["training_passes"] == pytest.approx((scratch + tuned) * 86_524 * 0.9, rel=1e-4)
    assert work.loc["pathology", "test_images"] == 32_768
    assert work.loc["ophthalmology", "test_images"] == round(0.12 * 88_702)
    text = plan.describe(work.reset_index(), full_grid.paper(), price=None, device="test")
    assert "published size: ophthalmology, radiology, pathology" in text


def test_plan_counts_what_is_there_and_says_what_it_costs(tmp_path: Path, second: None) -> None:
    modality = ModalitySpec(
        name="toy",
        dataset=DatasetSpec(loader="phantom_tissue", image_size=32, channels=3, options={"patients": 40}),
        splits=SplitSpec(test_fraction=0.25),
        recipe=Recipe(epochs=2),
    )
    model = ModelSpec(modality="toy", arch="test_resnet", init="random", split="d1")
    transfer = TransferSpec(attacks=attack_grid((0.02,)))
    study = StudySpec(name="toy", seed=0, modalities=(modality,), models=(model,), transfer=transfer)
    work = plan.plan_study(study, tmp_path, tmp_path)
    row = work.iloc[0]
    assert row["num_missing"] == 1
    assert row["training_passes"] == 2 * row["training_images"] > 0
    hours = (row["training_s"] + row["transfer_s"]) / 3600
    text = plan.describe(work, study, price=3600.0, device="test")
    assert f"at 3600 per device hour: {3600 * hours:,.0f}" in text
    assert "in all 0." in text
    assert "e-0" not in text
    unknown = dataclasses.replace(
        modality,
        dataset=dataclasses.replace(modality.dataset, loader="table", options={"table": "x.csv", "labels": ["a"]}),
    )
    with pytest.raises(MissingDataError, match="cannot be planned without its label files"):
        plan.plan_study(dataclasses.replace(study, modalities=(unknown,)), tmp_path, tmp_path)


def test_a_plan_without_times_runs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "measure", lambda *args: pytest.fail("a network was run"))
    study = full_grid.demo()
    work = plan.plan_study(study, tmp_path / "study", tmp_path / "data", timed=False)
    text = plan.describe(work, study, price=None, device="test")
    assert "hours are unknown" in text
    assert "device hours" not in text
    assert "nan" not in text
    assert (work["zoo_bytes"] > 1e6).all()


def test_a_plan_names_the_memory_that_a_gpu_needs(tmp_path: Path, second: None) -> None:
    study = full_grid.paper()
    work = plan.plan_study(study, tmp_path / "study", tmp_path / "data").set_index("modality")
    fundus = study.modality("ophthalmology")
    largest = training_bytes("densenet121", fundus.dataset, fundus.recipe, num_outputs=1)
    assert work.loc["ophthalmology", "training_gpu_bytes"] == largest
    block = crafting_bytes("densenet121", fundus.dataset, num_images=study.transfer.block_size, num_outputs=1)
    assert work.loc["ophthalmology", "crafting_gpu_bytes"] == block
    text = plan.describe(work.reset_index(), study, price=None, device="test")
    (line,) = [line for line in text.splitlines() if "GPU memory of a block" in line]
    assert line.split("GB")[1].split()[0] == f"{block / 1e9:.0f}"


def test_memory_that_cannot_be_estimated_is_unknown(
    tmp_path: Path, second: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise NotImplementedError("no kernel for meta")

    monkeypatch.setattr(plan, "crafting_bytes", refuse)
    work = plan.plan_study(full_grid.demo(), tmp_path / "study", tmp_path / "data")
    text = plan.describe(work, full_grid.demo(), price=None, device="test")
    (line,) = [line for line in text.splitlines() if "GPU memory of a block" in line]
    assert line.split("GB")[1].split() == ["unknown", "unknown", "unknown", "0.00"]  # the source is not attacked


def test_calibration_measures_all_three_passes() -> None:
    dataset = DatasetSpec(loader="x", image_size=32, channels=1)
    seconds = measure(
        "test_resnet", dataset, Recipe(epochs=1, batch_size=4), TransferSpec(attacks=attack_grid((0.02,))), 2
    )
    assert 0 < seconds.forward < seconds.gradient
    assert seconds.step > 0
    assert seconds.num_parameters > 100_000
