"""The actor that attacks and scores units, called without Ray: what is crafted, how often, and through what."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.attacks import Ensemble, crafter, to_unit_range
from raygrid.engine import score_attacked
from raygrid.results import auc_frame, transfer_facts
from raygrid.samples import Samples, samples_dir
from raygrid.scores import Unit, missing_units, plan_units, read_logits, read_metadata
from raygrid.spec import EnsembleSpec, TransferSpec, attack_grid
from raygrid.training import train
from raygrid.transfer import _pack, _Scorer
from raygrid.zoo import Zoo

MODELS = (MODEL, replace(MODEL, split="d2"))
PAIR = EnsembleSpec(modality="toy", label="pair", members=tuple(m.name for m in MODELS))
TRANSFER = TransferSpec(attacks=attack_grid((0.02, 0.04, 0.06)), block_size=16)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Return two trained models and their ensemble."""
    recipe = replace(RECIPE, epochs=1, augmentations=())
    zoo = make_zoo(tmp_path_factory.mktemp("study"), recipe, models=MODELS, ensembles=(PAIR,), transfer=TRANSFER)
    samples = make_samples(samples_dir(zoo.study_dir, "toy", zoo.samples["toy"]))
    for model in MODELS:
        train(zoo, model, samples)
    return zoo


def opened(zoo: Zoo) -> Samples:
    return Samples(samples_dir(zoo.study_dir, "toy", zoo.samples["toy"]))


def run_units(zoo: Zoo) -> list[Unit]:
    """Do every missing unit of a zoo as an actor does; return all units."""
    samples = opened(zoo)
    units = plan_units(zoo, "toy", samples.num_test)
    job = {"study": zoo.study.to_dict(), "study_dir": str(zoo.study_dir), "samples": dict(zoo.samples)}
    scorer = _Scorer({**job, "modality": "toy", "device": "cpu"})
    for unit in missing_units(units):
        block = np.array([_pack(samples.test_block(unit.start, unit.stop))], dtype=object)
        said = scorer({"unit": np.array([units.index(unit)]), "block": block})
        assert not said["error"][0]
    return units


@pytest.fixture(scope="module")
def crafted(zoo: Zoo) -> tuple[list[Unit], Counter[bytes]]:
    """Return the finished units, and how often each clean image was the point of a first gradient, or any gradient."""
    seen: Counter[bytes] = Counter()
    original: Callable[..., object] = crafter.loss_gradient

    def counting(surrogate: nn.Module, images: Tensor, *rest: object, **options: object) -> object:
        seen[b"gradients"] += len(images)
        seen.update(image.numpy().tobytes() for image in images)
        return original(surrogate, images, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crafter, "loss_gradient", counting)
        return run_units(zoo), seen


def test_each_image_is_crafted_once_per_surrogate_whatever_the_number_of_targets(zoo: Zoo, crafted) -> None:
    _, seen = crafted
    samples = opened(zoo)
    num_surrogates = len(zoo.study.surrogates_of("toy"))
    assert num_surrogates == 3
    assert samples.num_test == 24
    assert seen[b"gradients"] == 52 * samples.num_test * num_surrogates
    images = to_unit_range(samples.test_block(0, samples.num_test).images)
    assert {seen[image.numpy().tobytes()] for image in images} == {num_surrogates}
    assert transfer_facts(zoo, "toy", samples.num_test)["gradients_per_image"] == 52


def test_a_study_with_fewer_targets_crafts_the_same_images(zoo: Zoo, crafted) -> None:
    units, _ = crafted
    alone = Zoo(zoo.study_dir, replace(zoo.study, models=MODELS[:1], ensembles=()), zoo.samples)
    ours = [u for u in run_units(alone) if u.surrogate == MODELS[0]]
    theirs = [u for u in units if u.surrogate == MODELS[0]]
    for one, other in zip(ours, theirs, strict=True):
        assert one.path != other.path
        one_facts, other_facts = read_metadata(one.path), read_metadata(other.path)
        assert one_facts["num_gradients"] == other_facts["num_gradients"] == 52
        assert one_facts["adversarial_sha256"] == other_facts["adversarial_sha256"]


def test_an_ensemble_is_attacked_by_its_mean_logits(zoo: Zoo, crafted) -> None:
    (unit, *_) = [u for u in crafted[0] if u.surrogate == PAIR]
    samples = opened(zoo)
    block = samples.test_block(unit.start, unit.stop)
    members = [zoo.load_frozen(model) for model in MODELS]
    expected = score_attacked(Ensemble(members), members, block, TRANSFER, seed=zoo.study.seed, device="cpu")
    names = [model.name for model in MODELS]
    written = read_logits([unit], list(block.image_ids), names, expected.cases, 1)
    assert np.array_equal(written, expected.logits)
    assert expected.adversarial_sha256 == read_metadata(unit.path)["adversarial_sha256"]
    images = to_unit_range(block.images)
    with torch.no_grad():
        mean = (members[0](images) + members[1](images)) / 2
        torch.testing.assert_close(Ensemble(members)(images), mean)


def test_against_its_members_an_ensemble_is_white_box(zoo: Zoo, crafted) -> None:
    frame = auc_frame(zoo, "toy", opened(zoo))
    rows = frame[frame["surrogate"] == "ensemble-pair"]
    assert len(rows) == 2 * 2 * len(TRANSFER.attacks)
    assert rows["white_box"].all()
    assert set(rows["surrogate_split"]) == {"mixed"}
    assert set(rows["surrogate_init"]) == {"random"}
    assert rows["surrogate_signature"].nunique() == 1
    assert len(frame[frame["white_box"]]) == 4 * 2 * len(TRANSFER.attacks)


def test_other_members_make_other_units(zoo: Zoo) -> None:
    turned = replace(PAIR, members=PAIR.members[::-1])
    other = Zoo(zoo.study_dir, replace(zoo.study, ensembles=(turned,)), zoo.samples)
    paths = [{u.path for u in plan_units(z, "toy", 24)} for z in (zoo, other)]
    assert len(paths[0] - paths[1]) == 2  # its two blocks; the models' own stay


def test_units_lie_where_a_stranger_looks_for_them(zoo: Zoo) -> None:
    folders = {Path(u.path).parent.parent.name for u in plan_units(zoo, "toy", 24)}
    assert folders == {"surrogate=clean", *(f"surrogate={s.name}" for s in zoo.study.surrogates_of("toy"))}
