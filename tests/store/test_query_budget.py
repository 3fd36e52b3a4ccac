"""The cells that a budget covers: counted by hand, the most informative first, more with a larger budget."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from auc_frames import model, small_frame, small_study
from toy_zoo import MODEL, make_samples, make_zoo

from raygrid.analysis.tables import missing_pairings
from raygrid.io.files import write_text
from raygrid.spec import EndpointSpec, EnsembleSpec, StudySpec, TargetSpec, TransferSpec, attack, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.query_budget import allowance, likeliest_first, num_requests, strongest_first
from raygrid.store.units import Unit, images_beyond_budgets, missing_files, not_asked
from raygrid.study.clean import find_unused
from raygrid.study.plan import describe_external
from raygrid.study.status import describe_status

TUNED = replace(MODEL, init="weights:mine")
TWIN, OTHER = replace(MODEL, instance=1), replace(MODEL, split="d2")
PAIR = EnsembleSpec(modality="toy", label="pair", members=(MODEL.name, OTHER.name))
ENDPOINT = TargetSpec(modality="toy", label="clinic", kind="http", source="http://127.0.0.1:9/none")
NUM_TEST = 24  # test images of toy_zoo


def limited(max_images: int, **changes: object) -> TargetSpec:
    return replace(ENDPOINT, endpoint=replace(EndpointSpec(batch_size=10, **changes), max_images=max_images))


def study_with(folder: Path, *targets: TargetSpec, **changes: object) -> StudyFolder:
    transfer = TransferSpec(attacks=attack_grid((0.02, 0.04)), block_size=16)
    zoo = make_zoo(folder, models=(MODEL, OTHER), transfer=transfer, targets=targets, **changes)
    if not zoo.has_samples("toy"):
        make_samples(zoo.samples_dir("toy"))
    return zoo


def test_the_strongest_attack_comes_first_and_makes_its_curve_before_the_next() -> None:
    attacks = (*attack_grid((0.02, 0.06, 0.04)), attack("mi_fgsm", 0.04))
    assert [a.key for a in strongest_first(attacks)] == [
        *("pgd@0.06", "pgd@0.04", "pgd@0.02"),
        "mi_fgsm@0.04",
        *("fgsm@0.06", "fgsm@0.04", "fgsm@0.02"),
    ]


def test_ensembles_and_pretrained_surrogates_come_first_and_twins_last(tmp_path: Path) -> None:
    weights = {"mine/test_resnet": "file:/nowhere.safetensors"}
    study = make_zoo(tmp_path, models=(TWIN, MODEL, OTHER, TUNED), ensembles=(PAIR,), weights=weights).study
    assert likeliest_first(study, study.surrogates_of("toy")) == [PAIR, TUNED, MODEL, OTHER, TWIN]


@pytest.mark.parametrize(
    ("max_images", "cells", "images"),
    [
        (0, 8, 26 + 8 * 48),  # no limit: two to try it, clean ones, two surrogates and four attacks
        (26, 0, 26),  # the clean images alone
        (73, 0, 26),  # 47 are left, a cell takes 48
        (74, 1, 74),
        (26 + 5 * 48, 5, 26 + 5 * 48),
        (10_000, 8, 26 + 8 * 48),
    ],
)
def test_a_budget_covers_clean_images_then_whole_cells(
    tmp_path: Path, max_images: int, cells: int, images: int
) -> None:
    target = limited(max_images)
    plan = allowance(study_with(tmp_path, target).study, target, NUM_TEST)
    assert (plan.num_asked, plan.num_images) == (cells, images)
    assert plan.num_images_of_all == 26 + 8 * 48
    assert plan.cells[0] == (MODEL.name, "pgd@0.04")
    assert plan.left_out == set(plan.cells[cells:])


def test_requests_are_counted_by_block(tmp_path: Path) -> None:
    target = limited(0)
    study = study_with(tmp_path, target).study
    # blocks of 16 and 8 images, requests of 10: 2 + 1 for each case; clean, and two for each of three cells
    assert num_requests(study, target, NUM_TEST, 3) == 3 * (1 + 2 * 3)


def test_units_cover_the_budget_and_a_larger_one_adds_cells(tmp_path: Path) -> None:
    def asked(max_images: int) -> set[tuple[str, str, int]]:
        zoo = study_with(tmp_path, limited(max_images), zoo_as_targets=False)
        files = missing_files(zoo.units("toy"))
        assert all(file.tile.names == ("external-clinic",) for file in files)
        return {
            ("clean" if f.unit.surrogate is None else f.unit.surrogate.name, key, f.unit.block)
            for f in files
            for key in ([a.key for a in f.tile.attacks] or [""])
        }

    clean = {("clean", "", block) for block in (0, 1)}
    first = {(MODEL.name, "pgd@0.04", block) for block in (0, 1)}
    second = {(OTHER.name, "pgd@0.04", block) for block in (0, 1)}
    assert asked(26) == clean
    assert asked(74) == clean | first
    assert asked(122) == clean | first | second
    assert len(asked(0)) == 2 * (1 + 8)


def test_models_of_the_zoo_have_no_budget(tmp_path: Path) -> None:
    zoo = study_with(tmp_path, limited(74))
    tiles = {
        (f.tile.names, tuple(a.key for a in f.tile.attacks))
        for f in missing_files(zoo.units("toy"))
        if f.unit.surrogate == MODEL
    }
    both = (MODEL.name, OTHER.name)
    assert tiles == {
        (both, ("fgsm@0.02", "fgsm@0.04", "pgd@0.02")),
        ((*both, "external-clinic"), ("pgd@0.04",)),
    }


def finish(zoo: StudyFolder, units: list[Unit]) -> None:
    """Complete all requested work."""
    for file in missing_files(units):
        file.describe_tile()
        write_text(file.path, "scores")


def test_cells_beyond_a_budget_are_reported_and_not_missing(tmp_path: Path) -> None:
    zoo = study_with(tmp_path / "study", limited(74), zoo_as_targets=False)
    units = zoo.units("toy")
    finish(zoo, units)
    assert missing_files(units) == []
    (key,) = not_asked(units)
    assert key == ("toy", "external-clinic")
    assert not_asked(units)[key] == {
        *((MODEL.name, a) for a in ("fgsm@0.02", "fgsm@0.04", "pgd@0.02")),
        *((OTHER.name, a) for a in ("fgsm@0.02", "fgsm@0.04", "pgd@0.02", "pgd@0.04")),
    }
    text = describe_status(zoo)
    assert "1 of 8 (surrogate, attack) cells are covered; for the rest, set max_images=410 (336 more images)" in text
    assert "FAILED" not in text


def test_a_budget_that_is_spent_early_waits_for_a_larger_one(tmp_path: Path) -> None:
    zoo = study_with(tmp_path, limited(74), zoo_as_targets=False)
    units = zoo.units("toy")
    (unit,) = [u for u in units if u.surrogate == MODEL and u.block == 0]
    assert unit in [file.unit for file in missing_files(units)]
    unit.write_spent(["external-clinic"])
    assert unit not in [file.unit for file in missing_files(units)]
    assert images_beyond_budgets(units) == {"external-clinic": 2 * 16}  # adversarial and control of the first block
    assert (MODEL.name, "pgd@0.04") in not_asked(units)["toy", "external-clinic"]
    larger = study_with(tmp_path, limited(75), zoo_as_targets=False)
    again = larger.units("toy")
    assert images_beyond_budgets(again) == {}
    assert [u.block for u in (f.unit for f in missing_files(again)) if u.surrogate == MODEL] == [0, 1]


def test_a_plan_reports_the_queries_to_an_endpoint_and_their_time(tmp_path: Path) -> None:
    study = study_with(tmp_path, limited(122, requests_per_second=0.001)).study
    text = "\n".join(describe_external(study, "toy", NUM_TEST))
    assert "target toy external-clinic (http): 122 images" in text  # 2 to try it, 24 clean, two cells of 48
    # clean and four cases, each in blocks of 16 and 8 images: 2 + 1 requests of up to 10; 15 of 1000 seconds
    assert "15 requests of up to 10, at 0.001 a second 4.17 hours" in text
    assert "budget of 122 images covers: the clean images and 2 of 8 (surrogate, attack) cells" in text
    assert "for all, set max_images=410 (288 more images)" in text


def test_answers_are_no_leftovers_while_the_study_names_their_target(tmp_path: Path) -> None:
    zoo = study_with(tmp_path, ENDPOINT)
    write_text(zoo.answers(ENDPOINT) / "answers", "dear")
    write_text(tmp_path / "answers" / "toy" / "external-old" / "answers", "of another")
    write_text(tmp_path / "answers" / "toy" / "notes" / "mine", "of the user")
    assert [unused.path for unused in find_unused(zoo)] == [tmp_path / "answers" / "toy" / "external-old"]


def test_pairings_beyond_a_budget_are_not_missing() -> None:
    first, second = model("a"), model("b")
    endpoint = replace(ENDPOINT, modality="eye")
    study: StudySpec = replace(small_study([first, second]), targets=(endpoint,))
    frame = small_frame([first, second])
    target = {
        "target": "external-clinic",
        "target_kind": "external",
        "target_arch": "external",
        "target_init": "",
        "target_split": "",
    }
    mine = frame[frame["target"] == first.name].assign(**target, white_box=False)
    there = mine[(mine["surrogate"] != second.name) | (mine["attack"] == "pgd")]
    whole = pd.concat([frame, there], ignore_index=True)
    lacking = missing_pairings(whole, study)
    assert lacking[["surrogate", "target", "missing"]].to_numpy().tolist() == [[second.name, "external-clinic", 4]]
    unasked = {("eye", "external-clinic"): {(second.name, "fgsm@0.02"), (second.name, "fgsm@0.04")}}
    assert missing_pairings(whole, study, unasked).empty
