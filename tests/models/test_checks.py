"""Checks of a trained model, and the effect of precisions, shuffles and grey levels on scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_zoo import MODEL, make_zoo

from raygrid.data.images.scale import to_unit_range
from raygrid.errors import StoreError, TrainingError
from raygrid.io.files import write_json
from raygrid.models import training
from raygrid.models.checks import verify_answers, verify_card
from raygrid.models.epoch import predict
from raygrid.models.training import train
from raygrid.models.zoo import freeze, load, load_frozen
from raygrid.scoring.engine import score_attacked, score_clean
from raygrid.spec import TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import SampleBatch, Samples

TRANSFER = TransferSpec(attacks=attack_grid((0.02,)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, samples: Samples) -> StudyFolder:
    zoo = make_zoo(tmp_path_factory.mktemp("verified"))
    train(zoo, MODEL, samples)
    return zoo


@pytest.fixture(scope="module")
def block(samples: Samples) -> SampleBatch:
    training = samples.training_set("d1", "train")
    ids = training.image_ids[:8]
    return SampleBatch(ids, ids, training.labels[:8], np.array(training.images[slice(0, 8)]))


class Changed(nn.Module):
    def __init__(self, network: nn.Module, change) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.network(images))


def answers(zoo: StudyFolder, samples: Samples, network: nn.Module) -> None:
    verify_answers(network, samples.training_set("d1", "validation"), zoo.model(MODEL).card["validation_auc"], "cpu")


def test_a_sound_model_passes_folded(trained: StudyFolder, samples: Samples) -> None:
    network = load_frozen(trained, MODEL)
    answers(trained, samples, network)
    verify_card(trained, MODEL, network, samples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.sigmoid, "probabilities, where logits are expected"),
        (torch.neg, r"AUC of 0\.\d+; expected 1\.0+, as in training"),
    ],
)
def test_other_outputs_are_refused(change, message: str, trained: StudyFolder, samples: Samples) -> None:
    with pytest.raises(TrainingError, match=message):
        answers(trained, samples, Changed(load_frozen(trained, MODEL), change).eval())


def test_small_logits_are_not_mistaken_for_probabilities(trained: StudyFolder, samples: Samples) -> None:
    """All logits of a barely trained network on a few images can be between 0 and 1."""
    network = Changed(load_frozen(trained, MODEL), lambda logits: 0.5 + 0.01 * logits).eval()
    values = predict(network, samples.training_set("d1", "validation").images, "cpu")
    assert ((values > 0) & (values < 1)).all()
    answers(trained, samples, network)


def test_a_model_that_folds_wrongly_is_not_finished(tmp_path, samples: Samples, monkeypatch) -> None:
    zoo = make_zoo(tmp_path)
    monkeypatch.setattr(training, "freeze", lambda *args: Changed(freeze(*args), torch.neg).eval())
    with pytest.raises(TrainingError, match="network folded for attack"):
        train(zoo, MODEL, samples)
    assert not zoo.model(MODEL).is_trained


def test_training_mode_is_refused(trained: StudyFolder, samples: Samples) -> None:
    with pytest.raises(StoreError, match=f"toy/{MODEL.name} is in training mode"):
        verify_card(trained, MODEL, load(trained, MODEL).train(), samples)


def test_other_labels_are_refused(tmp_path: Path, trained: StudyFolder, samples: Samples) -> None:
    zoo = make_zoo(tmp_path)
    write_json(zoo.model(MODEL).path / "card.json", {**trained.model(MODEL).card, "labels": ["other"]})
    with pytest.raises(StoreError, match=r"trained for \['other'\], the samples have \['finding'\]"):
        verify_card(zoo, MODEL, load_frozen(trained, MODEL), samples)


def test_scoring_in_bfloat16_reports_its_change(trained: StudyFolder, block: SampleBatch) -> None:
    targets = [load_frozen(trained, MODEL)]
    exact = score_clean(targets, block, TRANSFER, device="cpu")
    rough = score_clean(targets, block, replace(TRANSFER, scoring="bfloat16"), device="cpu")
    assert exact.bfloat16_change == 0
    assert rough.bfloat16_change == pytest.approx(float(np.abs(rough.logits - exact.logits).max()))
    assert 0 < rough.bfloat16_change < 0.5


def test_crafting_in_bfloat16_gives_other_images_in_the_same_budget(trained: StudyFolder, block: SampleBatch) -> None:
    network = load_frozen(trained, MODEL)
    scores = {
        precision: score_attacked(
            network, [network], block, replace(TRANSFER, crafting=precision), seed=1, device="cpu"
        )
        for precision in ("float32", "bfloat16")
    }
    one, two = scores["float32"], scores["bfloat16"]
    assert one.adversarial_sha256 != two.adversarial_sha256
    assert one.num_gradients == two.num_gradients == 20
    assert np.abs(one.logits - two.logits).max() < 1


def test_a_spatial_shuffle_changes_the_control_alone(trained: StudyFolder, block: SampleBatch) -> None:
    network = load_frozen(trained, MODEL)
    flat, spatial = (
        score_attacked(network, [network], block, replace(TRANSFER, shuffle=shuffle), seed=1, device="cpu")
        for shuffle in ("flat", "spatial")
    )
    is_control = [case.condition == "control" for case in flat.cases]
    assert np.array_equal(flat.logits[:, ~np.array(is_control)], spatial.logits[:, ~np.array(is_control)])
    assert not np.array_equal(flat.logits[:, is_control], spatial.logits[:, is_control])


class Recorder(torch.nn.Module):
    """A target that keeps its input images."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(images.clone())
        return images.mean(dim=(1, 2, 3))[:, None]


def test_a_target_of_grey_levels_gets_them_inside_the_budget(trained: StudyFolder, block: SampleBatch) -> None:
    exact, in_levels = Recorder(), Recorder()
    scores = score_attacked(
        load_frozen(trained, MODEL), [exact, in_levels], block, TRANSFER, seed=1, device="cpu", in_levels=[1]
    )
    clean = to_unit_range(block.images)
    assert len(exact.shown) == len(in_levels.shown) == len(scores.cases)
    for case, whole, fine in zip(scores.cases, in_levels.shown, exact.shown, strict=True):
        levels = (whole - clean) * 127.5
        assert (levels - levels.round()).abs().max() < 1e-3
        assert case.attack is not None
        assert levels.abs().max() <= int(case.attack.epsilon * 127.5) + 1e-3
        assert torch.equal(levels.round(), ((fine - clean) * 127.5 * (1 + 1e-6)).trunc())
    assert not np.array_equal(scores.logits[0], scores.logits[1])
