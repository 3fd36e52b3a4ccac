"""Attacks of other packages in the units of a study: the trained network, equal draws, and notes beside the scores."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plug_ins import installed
from scored_zoo import as_row, opened, scorer_of, units_of
from torch import Tensor, nn
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.attacks import Ensemble, inner_networks, needs_trained_network
from raygrid.models.training import train
from raygrid.models.zoo import load_frozen, load_trained
from raygrid.scoring.examples import craft_examples
from raygrid.scoring.networks import open_trained
from raygrid.spec import AttackSpec, EnsembleSpec, TransferSpec, attack
from raygrid.store.folder import StudyFolder
from raygrid.store.scores import read_metadata
from raygrid.store.units import missing_files

OTHER = replace(MODEL, split="d2")
PAIR = EnsembleSpec(modality="toy", label="pair", members=(MODEL.name, OTHER.name))
SEEN: list[tuple[int, ...]] = []


@needs_trained_network
def hooking(
    network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, *, image_ids: tuple[str, ...]
) -> Tensor:
    """Move every image at random, and note how many normalisations each network has."""
    SEEN.append(tuple(sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in inner_networks(network)))
    assert len(image_ids) == len(images)
    assert network(images).shape == labels.shape
    return (images + spec.epsilon * (torch.rand_like(images) * 2 - 1)).clamp(-1, 1)


def idle(network: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
    return images


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    attacks = (attack("fgsm", 0.04), *installed(monkeypatch, hooking=hooking, idle=idle))
    folder = make_zoo(
        tmp_path / "study",
        replace(RECIPE, epochs=1),
        models=(MODEL, OTHER),
        ensembles=(PAIR,),
        transfer=TransferSpec(attacks=attacks, block_size=12),
    )
    make_samples(folder.samples_dir("toy"))
    for model in (MODEL, OTHER):
        train(folder, model, opened(folder))
    SEEN.clear()
    return folder


def test_a_plug_in_gets_the_trained_networks_and_repeats_in_any_order(zoo: StudyFolder, tmp_path: Path) -> None:
    missing = missing_files(units_of(zoo))
    scorer, rows = scorer_of(zoo), []
    for file in missing:
        rows.append(scorer(as_row(zoo, file)))
        assert rows[-1]["error"][0] == ""
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in load_trained(zoo, MODEL).modules())
    assert norms > 0
    assert set(SEEN) == {(norms,), (norms, norms)}  # the models, and the members of the ensemble
    told = "the plug-in attack 'idle' left every image unchanged; check its options"
    for file, row in zip(missing, rows, strict=True):
        attacked = file.unit.surrogate is not None
        assert row["notes"][0] == (told if attacked else "")
        assert read_metadata(file.path)["plugin_notes"] == ([told] if attacked else [])

    shutil.copytree(zoo.path, tmp_path / "again", ignore=shutil.ignore_patterns("scores", "perceptibility"))
    again = StudyFolder(tmp_path / "again", zoo.study, zoo.sample_signatures)
    other = scorer_of(again)
    torch.manual_seed(5)
    for old, file in reversed(list(zip(missing, missing_files(units_of(again)), strict=True))):
        assert other(as_row(again, file))["error"][0] == ""
        hashes = [read_metadata(path)["adversarial_sha256"] for path in (old.path, file.path)]
        assert hashes[0] == hashes[1]


def test_the_trained_form_is_the_network_that_was_folded(zoo: StudyFolder) -> None:
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        for surrogate, frozen in (
            (MODEL, load_frozen(zoo, MODEL)),
            (PAIR, Ensemble([load_frozen(zoo, MODEL), load_frozen(zoo, OTHER)])),
        ):
            trained = open_trained(zoo, surrogate, opened(zoo))
            assert not any(m.training for m in trained.modules())
            torch.testing.assert_close(trained(images), frozen(images), rtol=1e-3, atol=1e-4)


def test_figures_craft_with_plug_ins_too(zoo: StudyFolder) -> None:
    shown = craft_examples(zoo, "toy", opened(zoo), "hooking")
    assert list(shown) == ["clean", "hooking ε = 0.04"]
    assert (shown["clean"] != shown["hooking ε = 0.04"]).any()
