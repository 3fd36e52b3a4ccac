"""The actor that attacks and scores units, called without Ray: crafted images, their number and their surrogates."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scored_zoo import as_row, changed, opened, run_missing, scorer_of, units_of
from torch import Tensor, nn
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.analysis.frames import perceptibility_frame, result_frames
from raygrid.analysis.operating_point import SPECIFICITY
from raygrid.attacks import Ensemble, crafter
from raygrid.data.images.scale import to_unit_range
from raygrid.errors import StoreError
from raygrid.models.training import train
from raygrid.models.zoo import load_frozen
from raygrid.scoring import scorer as scorer_module
from raygrid.scoring.engine import score_attacked
from raygrid.scoring.model_offload import ModelOffload
from raygrid.spec import EnsembleSpec, TransferSpec, attack, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.scores import cases_of, read_logits, read_metadata, transfer_facts
from raygrid.store.units import ScoreFile, missing_files, score_files

MODELS = (MODEL, replace(MODEL, split="d2"))
PAIR = EnsembleSpec(modality="toy", label="pair", members=tuple(m.name for m in MODELS))
TRANSFER = TransferSpec(attacks=attack_grid((0.02, 0.04, 0.06)), block_size=16)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Return two trained models and their ensemble."""
    recipe = replace(RECIPE, epochs=1, augmentations=())
    zoo = make_zoo(tmp_path_factory.mktemp("study"), recipe, models=MODELS, ensembles=(PAIR,), transfer=TRANSFER)
    samples = make_samples(zoo.samples_dir("toy"))
    for model in MODELS:
        train(zoo, model, samples)
    return zoo


@pytest.fixture(scope="module")
def crafted(zoo: StudyFolder) -> tuple[list[ScoreFile], Counter[bytes]]:
    """Return the finished files, and how often each clean image was the point of a gradient."""
    seen: Counter[bytes] = Counter()
    original: Callable[..., object] = crafter.loss_gradient

    def counting(surrogate: nn.Module, images: Tensor, *rest: object, **options: object) -> object:
        seen[b"gradients"] += len(images)
        seen.update(image.numpy().tobytes() for image in images)
        return original(surrogate, images, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crafter, "loss_gradient", counting)
        return run_missing(zoo), seen


def test_each_image_is_crafted_once_per_surrogate_whatever_the_number_of_targets(zoo: StudyFolder, crafted) -> None:
    _, seen = crafted
    samples = opened(zoo)
    num_surrogates = len(zoo.study.surrogates_of("toy"))
    assert num_surrogates == 3
    assert samples.num_test == 24
    assert seen[b"gradients"] == 52 * samples.num_test * num_surrogates
    images = to_unit_range(samples.test_block(0, samples.num_test).images)
    assert {seen[image.numpy().tobytes()] for image in images} == {num_surrogates}
    facts = transfer_facts(zoo.units("toy"))
    assert facts["gradients_per_image"] == 52
    assert set(facts["unmoved"]) == {a.key for a in TRANSFER.attacks}
    assert {counts["attacked"] for counts in facts["unmoved"].values()} == {samples.num_test * num_surrogates}


def test_decisions_and_perceptibility_accompany_the_aucs(zoo: StudyFolder, crafted) -> None:
    samples = opened(zoo)
    auc, decisions = result_frames(zoo, "toy", samples)
    keys = ["condition", "surrogate", "target", "attack", "epsilon"]
    both = decisions.merge(auc, on=keys, suffixes=("", "_macro"))
    assert len(both) == len(decisions) == len(auc)  # there is one finding
    assert both["auc"].tolist() == both["auc_macro"].tolist()
    assert (both["white_box"] == both["white_box_macro"]).all()
    assert (decisions.loc[decisions["condition"] == "clean", "fooled"] == 0).all()
    assert (decisions.loc[decisions["condition"] == "clean", "specificity"] >= SPECIFICITY).all()
    means = perceptibility_frame(zoo, "toy")
    assert len(means) == 3 * 2 * len(TRANSFER.attacks)  # surrogates, conditions
    assert set(means["num_images"]) == {samples.num_test}
    assert (means["linf"] <= means["epsilon"] + 5e-7).all()


def test_an_ensemble_is_attacked_by_its_mean_logits(zoo: StudyFolder, crafted) -> None:
    (file, *_) = [f for f in crafted[0] if f.unit.surrogate == PAIR]
    block = opened(zoo).test_block(file.unit.start, file.unit.stop)
    members = [load_frozen(zoo, model) for model in MODELS]
    expected = score_attacked(Ensemble(members), members, block, TRANSFER, seed=zoo.study.seed, device="cpu")
    written = read_logits([file.unit], list(block.image_ids), expected.cases, 1)
    assert np.array_equal(written, expected.logits)
    assert expected.adversarial_sha256 == read_metadata(file.path)["adversarial_sha256"]
    images = to_unit_range(block.images)
    with torch.no_grad():
        mean = (members[0](images) + members[1](images)) / 2
        torch.testing.assert_close(Ensemble(members)(images), mean)


def test_against_its_members_an_ensemble_is_white_box(zoo: StudyFolder, crafted) -> None:
    frame = result_frames(zoo, "toy", opened(zoo))[0]
    rows = frame[frame["surrogate"] == "ensemble-pair"]
    assert len(rows) == 2 * 2 * len(TRANSFER.attacks)
    assert rows["white_box"].all()
    assert set(rows["surrogate_split"]) == {"mixed"}
    assert set(rows["surrogate_init"]) == {"random"}
    assert rows["surrogate_signature"].nunique() == 1
    assert len(frame[frame["white_box"]]) == 4 * 2 * len(TRANSFER.attacks)


def test_models_that_take_turns_and_units_in_another_order_give_the_same_scores(
    zoo: StudyFolder, crafted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(zoo.path, tmp_path / "study", ignore=shutil.ignore_patterns("scores", "perceptibility"))
    again = StudyFolder(tmp_path / "study", zoo.study, zoo.sample_signatures)
    (size,) = {*ModelOffload({m.name: load_frozen(zoo, m) for m in MODELS}, "cpu").sizes.values()}
    monkeypatch.setattr("raygrid.scoring.model_offload.free_bytes", lambda device: size + 1)
    scorer = scorer_of(again)
    for file in reversed(missing_files(units_of(again))):  # in another order, too
        assert not scorer(as_row(again, file))["error"][0]
    for old, (new,) in zip(crafted[0], score_files(units_of(again)), strict=True):
        assert read_metadata(old.path)["adversarial_sha256"] == read_metadata(new.path)["adversarial_sha256"]
        assert pq.read_table(old.path, partitioning=None).equals(pq.read_table(new.path, partitioning=None))


def test_other_members_make_other_units(zoo: StudyFolder, crafted) -> None:
    turned = replace(PAIR, members=PAIR.members[::-1])
    missing = missing_files(units_of(changed(zoo, ensembles=(turned,))))
    assert [(f.unit.surrogate, f.unit.block) for f in missing] == [(turned, 0), (turned, 1)]


def test_scores_are_where_the_docs_say(zoo: StudyFolder, crafted) -> None:
    folders = {file.path.parent.parent.name for file in crafted[0]}
    assert folders == {"surrogate=clean", *(f"surrogate={s.name}" for s in zoo.study.surrogates_of("toy"))}


def test_the_documented_query_reads_one_pairing(zoo: StudyFolder, crafted, tmp_path: Path) -> None:
    for modality in ("pathology", "radiology"):  # models have the same names in both
        shutil.copytree(zoo.path / "scores" / "modality=toy", tmp_path / "scores" / f"modality={modality}")
    for path in (tmp_path / "scores" / "modality=radiology").rglob("block-*.parquet"):
        one = pq.read_table(path, partitioning=None)
        twice = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * len(one), np.float32)), 2)  # two findings
        pq.write_table(one.set_column(one.schema.get_field_index("logits"), "logits", twice), path)
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "read-scores.md").read_text()
    blocks = re.findall(r"```(python|sql)\n(.*?)```", text.replace("STUDY", str(tmp_path)), re.DOTALL)
    found = []
    for language, block in blocks:
        names: dict[str, pd.DataFrame] = {}
        if language == "python":
            exec(block, names)
            scores = names["scores"]
            found.append(scores if isinstance(scores, pd.DataFrame) else scores.to_pandas())
        else:
            found.append(duckdb.sql(block).df())
    assert len(found) == 3
    units = [unit for unit in units_of(zoo) if unit.surrogate == MODELS[0]]
    ids = opened(zoo).test_table()["image_id"].tolist()
    cases = cases_of(zoo.study, MODELS[0])
    expected = read_logits(units, ids, cases, 1)[1]  # (cases, images, outputs) of the second target
    place = {(c.condition, c.attack_name, c.epsilon): k for k, c in enumerate(cases)}
    for scores in found:
        assert len(scores) == len(cases) * len(ids)
        for row in scores.itertuples():
            k = place[row.condition, row.attack, row.epsilon]
            assert list(row.logits) == expected[k, ids.index(row.image_id)].tolist()


@pytest.fixture
def copied(zoo: StudyFolder, crafted, tmp_path: Path) -> StudyFolder:
    """Return a finished study that a test may change."""
    shutil.copytree(zoo.path, tmp_path / "study")
    return StudyFolder(tmp_path / "study", zoo.study, zoo.sample_signatures)


def contents(zoo: StudyFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in zoo.path.glob("scores/**/*.parquet")}


def test_a_new_attack_computes_its_own_scores_alone(copied: StudyFolder) -> None:
    before, frame = contents(copied), result_frames(copied, "toy", opened(copied))[0]
    more = (attack("mi_fgsm", 0.04, steps=3), attack("fgsm", 0.01))
    larger = changed(copied, transfer=replace(TRANSFER, attacks=(*TRANSFER.attacks, *more)))
    written = run_missing(larger)
    assert {f.tile.attacks for f in written} == {more}
    assert {f.unit.surrogate for f in written} == set(larger.study.surrogates_of("toy"))
    assert len(written) == 2 * 3  # two blocks through three surrogates
    assert {read_metadata(f.path)["num_gradients"] for f in written} == {3}
    after = contents(larger)
    assert {path: after[path] for path in before} == before
    both = result_frames(larger, "toy", opened(larger))[0]
    known = {a.name for a in more}
    old = both[~both["attack"].isin(known) | (both["attack"].eq("fgsm") & (both["epsilon"] != 0.01))]
    pd.testing.assert_frame_equal(old.reset_index(drop=True), frame)
    assert len(both) == len(frame) + 2 * 2 * 2 * 3  # conditions x attacks x targets x surrogates


def test_a_new_target_answers_the_same_images_and_the_others_are_not_asked_again(
    zoo: StudyFolder, crafted, tmp_path
) -> None:
    small = StudyFolder(tmp_path / "study", replace(zoo.study, models=MODELS[:1], ensembles=()), zoo.sample_signatures)
    for part in ("zoo", "samples"):
        shutil.copytree(zoo.path / part, small.path / part)
    run_missing(small)
    grown = changed(small, models=MODELS)
    written = run_missing(grown)
    first, second = (m.name for m in MODELS)
    assert {(f.unit.surrogate, f.tile.names) for f in written} == {
        (None, (second,)),
        (MODELS[0], (second,)),
        (MODELS[1], (first, second)),
    }
    columns = ["image_id", "attack", "epsilon", "condition"]
    paths = list(grown.path.glob(f"perceptibility/modality=toy/surrogate={first}/**/*.parquet"))
    perceptibility = pd.concat(pd.read_parquet(path) for path in paths)
    assert len(perceptibility) == 24 * 2 * len(TRANSFER.attacks)
    assert not perceptibility.duplicated(columns).any()
    whole = result_frames(changed(zoo, ensembles=()), "toy", opened(zoo))[0]
    pd.testing.assert_frame_equal(result_frames(grown, "toy", opened(grown))[0], whole)


def test_other_images_than_the_stored_ones_are_refused(copied: StudyFolder) -> None:
    for path in copied.path.glob("scores/modality=toy/surrogate=*-d1-0/*/*.parquet"):
        table = pq.read_table(path, partitioning=None)
        facts = read_metadata(path)
        facts["adversarial_sha256"]["pgd@0.02"] = "0" * 64
        pq.write_table(table.replace_schema_metadata({b"raygrid": json.dumps(facts).encode()}), path)
    twin = replace(MODEL, instance=1)
    grown = changed(copied, models=(*MODELS, twin), ensembles=())
    train(grown, twin, opened(grown))
    scorer = scorer_of(grown)
    missing = missing_files(units_of(grown))
    file = next(f for f in missing if f.unit.surrogate == MODELS[0])
    error = scorer(as_row(grown, file))["error"][0]
    assert "pgd@0.02 gives other images" in error
    assert str(file.unit.folder) in error
    assert not file.path.exists()
    assert file.unit.failure_path.read_text().strip() == error


def test_an_error_of_a_network_costs_its_unit_alone(copied: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    more = replace(TRANSFER, attacks=(*TRANSFER.attacks, attack("fgsm", 0.01)))
    larger = changed(copied, transfer=more)
    scorer, (first, second, *_) = scorer_of(larger), missing_files(units_of(larger))
    with monkeypatch.context() as patch:
        patch.setattr(scorer_module, "score_attacked", lambda *_, **__: 1 / 0)
        assert "ZeroDivisionError" in scorer(as_row(larger, first))["error"][0]
    assert "Traceback" in first.unit.failure_path.read_text()
    unread = {**as_row(larger, first), "error": np.array(["not there"], dtype=object)}
    assert scorer(unread)["error"][0] == "not there"
    assert first.unit.failure_path.read_text() == "not there\n"  # of the last attempt, not of the one before
    assert not scorer(as_row(larger, second))["error"][0]
    assert not scorer(as_row(larger, first))["error"][0]
    assert not first.unit.failure_path.exists()


def test_readers_of_blocks_do_without_pytorch() -> None:
    asked = "import sys, raygrid.study.transfer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unread_block_is_reported_not_raised(copied: StudyFolder) -> None:
    (opened(copied).folder / "test.parquet").write_bytes(b"PAR1 damaged PAR1")
    larger = changed(copied, transfer=replace(TRANSFER, attacks=(attack("fgsm", 0.01),)))
    scorer, (first, *_) = scorer_of(larger), missing_files(units_of(larger))
    assert "damaged" in scorer(as_row(larger, first))["error"][0]
    assert "damaged" in first.unit.failure_path.read_text()


def test_a_flipped_bit_in_a_score_file_is_detected(copied: StudyFolder) -> None:
    path = next(iter(copied.path.glob("scores/modality=toy/surrogate=clean/*/*.parquet")))
    data = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(0)
    (logits,) = [
        c for c in (group.column(k) for k in range(group.num_columns)) if c.path_in_schema.startswith("logits")
    ]
    begin = logits.dictionary_page_offset or logits.data_page_offset
    data[begin + logits.total_compressed_size - 8] ^= 1  # at the end of the last page; checksums leave out its header
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=path.name):
        result_frames(copied, "toy", opened(copied))[0]


def test_a_score_file_without_its_tile_is_made_again(copied: StudyFolder) -> None:
    (path,) = copied.path.glob("scores/modality=toy/surrogate=clean/*/_tile-*.json")
    path.unlink()
    assert [f.unit.surrogate for f in missing_files(units_of(copied))] == [None, None]
