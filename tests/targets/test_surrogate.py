"""A network that raygrid did not train as a surrogate: its gradients, its checks, its rows in the results."""

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from assessment_pages import AUCS, MODELS, TARGET, assessment, page, small_frame
from scored_zoo import opened, run_missing, units_of
from target_models import LABELS, SIZE, function, make_network, specs, target
from torch import Tensor, nn
from toy_zoo import MODEL, RECIPE, make_samples, make_zoo

from raygrid.analysis.frames import of_zoo, result_frames
from raygrid.analysis.tables import table1
from raygrid.attacks import Bfloat16
from raygrid.errors import SpecError
from raygrid.io.files import read_json, write_json
from raygrid.models.training import train
from raygrid.scoring import networks
from raygrid.scoring.networks import verify_external
from raygrid.spec import AnswerSpec, InputSpec, StudySpec, TargetSpec, TransferSpec, attack_grid
from raygrid.store.folder import StudyFolder
from raygrid.store.target_identity import target_identity
from raygrid.store.weight_sources import path_of_model
from raygrid.study.check_targets import check_targets
from raygrid.study.publish import write_results
from raygrid.study.run import track
from raygrid.study.track import default_uri
from raygrid.targets import check_surrogate, open_surrogate, open_target

TWO = (MODEL, replace(MODEL, split="d2"))
EXCLUSIVE = AnswerSpec(kind="probability", labels=LABELS, exclusive=True)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 2 - 1


def through(spec: TargetSpec) -> nn.Module:
    return open_surrogate(replace(spec, attacked_through=True), labels=LABELS, channels=3, image_size=SIZE)


def gradient(network: nn.Module, images: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(network(leaf)[:, 1].sum(), leaf)[0]


@pytest.mark.parametrize("form", ["checkpoint", "export", "export of 4"])
def test_gradients_are_those_of_the_network(form: str, target_files: Path, images: Tensor) -> None:
    network, surrogate = make_network(), through(specs(target_files)[form])
    check_surrogate(surrogate, images)
    expected = gradient(lambda shown: network((shown + 1) / 2), images)
    assert expected.abs().max() > 1e-3
    assert (gradient(surrogate.eval(), images) - expected).abs().max() < 1e-4 * expected.abs().max()


class Squashed(nn.Module):
    """The network with probabilities instead of logits."""

    def __init__(self, exclusive: bool) -> None:
        super().__init__()
        self.network, self.exclusive = make_network(), exclusive

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images) / 4
        return logits.softmax(dim=1) if self.exclusive else logits.sigmoid()


def test_one_of_two_classes_has_a_gradient_though_both_together_have_none(tmp_path: Path, images: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(5, 3, SIZE, SIZE),)), tmp_path / "two.pt2")
    answer = AnswerSpec(labels=("benign", "malign"), exclusive=True)
    spec = target("export", str(tmp_path / "two.pt2"), answer=answer, attacked_through=True)
    surrogate = open_surrogate(spec, labels=answer.labels, channels=3, image_size=SIZE)
    assert surrogate(images).sum(dim=1).abs().max() < 1e-5
    check_surrogate(surrogate, images)


def test_a_probability_keeps_its_gradient_where_the_study_crafts_in_bfloat16(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 1), nn.Sigmoid()).eval()
    with torch.no_grad():
        network[1].weight.fill_(1e-3)
        network[1].bias.fill_(8.0)
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, SIZE, SIZE),)), tmp_path / "sure.pt2")
    spec = target("export", str(tmp_path / "sure.pt2"), answer=AnswerSpec(kind="probability"), attacked_through=True)
    surrogate = open_surrogate(spec, labels=("finding",), channels=3, image_size=SIZE)
    leaf = torch.zeros(2, 3, SIZE, SIZE, requires_grad=True)
    found = torch.autograd.grad(Bfloat16(surrogate)(leaf).sum(), leaf)[0]
    assert found.flatten()[0] == pytest.approx(0.5e-3, rel=1e-2)  # images span [-1, 1], the network's [0, 1]


@pytest.mark.parametrize("answer", [AnswerSpec(kind="probability"), EXCLUSIVE])
def test_probabilities_have_the_gradients_of_their_logits(answer: AnswerSpec, tmp_path: Path, images: Tensor) -> None:
    program = torch.export.export(Squashed(answer.exclusive).eval(), (torch.zeros(5, 3, SIZE, SIZE),))
    torch.export.save(program, tmp_path / "p.pt2")
    spec = target("export", str(tmp_path / "p.pt2"), answer=answer)
    surrogate = through(spec)
    asked = open_target(spec, labels=LABELS, channels=3, image_size=SIZE, answers_dir=tmp_path)
    with torch.no_grad():
        assert (surrogate(images) - asked(images)).abs().max() < 1e-4
    network = make_network()

    def logits(shown: Tensor) -> Tensor:
        raw = network((shown + 1) / 2) / 4
        if not answer.exclusive:
            return raw
        others = [raw[:, [j for j in range(3) if j != k]].logsumexp(dim=1) for k in range(3)]
        return raw - torch.stack(others, dim=1)

    expected = gradient(logits, images)
    assert (gradient(surrogate, images) - expected).abs().max() < 1e-3 * expected.abs().max()


class Detached(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return images.flatten(1)[:, :3] * 2


def test_a_program_without_gradients_is_detected(tmp_path: Path, images: Tensor) -> None:
    torch.export.save(torch.export.export(Detached(), (torch.zeros(5, 3, SIZE, SIZE),)), tmp_path / "no.pt2")
    with pytest.raises(SpecError, match="the gradient of its answers is missing"):
        check_surrogate(through(target("export", str(tmp_path / "no.pt2"))), images)


OF_LEVELS = function("make_network", kind="checkpoint", weights="/w", input=InputSpec(white=255.0, dtype="uint8"))


@pytest.mark.parametrize("spec", [function("scores"), OF_LEVELS], ids=["a function", "of whole grey levels"])
def test_a_target_without_gradients_is_refused_as_a_surrogate(spec: TargetSpec) -> None:
    with pytest.raises(SpecError, match="has no gradients"):
        replace(spec, attacked_through=True)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Return two trained models, and the first again as an external checkpoint, all scored."""
    folder = tmp_path_factory.mktemp("study")
    recipe, transfer = (
        replace(RECIPE, epochs=1, augmentations=()),
        TransferSpec(attacks=attack_grid((0.12,)), block_size=16),
    )
    trained = make_zoo(folder, recipe, models=TWO, transfer=transfer)
    samples = make_samples(trained.samples_dir("toy"))
    for model in TWO:
        train(trained, model, samples)
    copy = TargetSpec(
        modality="toy",
        label="copy",
        kind="checkpoint",
        source="target_functions:first_network",
        weights=str(path_of_model(trained.model(MODEL).path)),
        input=InputSpec(black=-1.0, white=1.0),
    )
    zoo = StudyFolder(folder, replace(trained.study, targets=(copy,)), trained.sample_signatures)
    run_missing(zoo)
    grown = StudyFolder(
        folder, replace(zoo.study, targets=(replace(copy, attacked_through=True),)), zoo.sample_signatures
    )
    made = {"phantom": True, "versions": {}, "git_commit": None}
    write_json(
        folder / "study.json", {"study": grown.study.to_dict(), "samples": dict(grown.sample_signatures), **made}
    )
    verify_external(grown, grown.study.targets[0], samples)
    added = run_missing(grown)
    assert {file.unit.surrogate for file in added} == {grown.study.targets[0]}  # nothing else is computed again
    return grown


def test_attacks_through_a_target_equal_attacks_through_the_same_model(zoo: StudyFolder) -> None:
    frame = result_frames(zoo, "toy", opened(zoo))[0]
    keys = ["target", "attack", "condition"]
    own, copy = (frame[frame["surrogate"] == name].set_index(keys) for name in (MODEL.name, "external-copy"))
    assert len(own) == len(copy) == 3 * 2 * 2  # targets, attacks, conditions
    assert own["auc"].nunique() > 4
    assert (own["auc"] - copy["auc"].reindex(own.index)).abs().max() < 0.03  # their rounding turns a few signs
    assert set(copy["surrogate_arch"]) == {"external"}
    assert set(copy["surrogate_signature"]) == {target_identity(zoo.study.targets[0])}
    assert set(copy[copy["white_box"]].index.get_level_values("target")) == {"external-copy"}
    assert len(units_of(zoo)) == 2 * 4  # blocks; clean, two models, the copy


def test_comparisons_of_the_zoo_exclude_external_surrogates(zoo: StudyFolder) -> None:
    alone = StudyFolder(zoo.path, replace(zoo.study, targets=()), zoo.sample_signatures)
    frames = [result_frames(z, "toy", opened(z))[0] for z in (zoo, alone)]
    pd.testing.assert_frame_equal(*(table1(f, study=z.study) for f, z in zip(frames, (zoo, alone), strict=True)))
    pd.testing.assert_frame_equal(of_zoo(frames[0]).reset_index(drop=True), frames[1])
    assert len(frames[0]) > len(frames[1])


def test_another_declaration_of_the_same_file_is_the_same_network(zoo: StudyFolder) -> None:
    (copy,) = zoo.study.targets
    squeezed = replace(copy, label="squeezed", received="jpeg:90", attacked_through=False)
    other = replace(squeezed, label="other", weights="/elsewhere.safetensors")
    assert zoo.study.is_white_box(copy, squeezed)
    assert not zoo.study.is_white_box(copy, other)
    assert not zoo.study.is_white_box(MODEL, squeezed)


def test_a_surrogate_that_is_switched_on_later_is_checked(
    zoo: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(networks, "verify_external", lambda zoo, target, samples: tried.append(target.name))
    check_targets(zoo, None)
    assert tried == []  # all is done
    shutil.copytree(zoo.path, tmp_path / "study")
    grown = StudyFolder(tmp_path / "study", zoo.study, zoo.sample_signatures)
    shutil.rmtree(grown.path / "scores" / "modality=toy" / "surrogate=external-copy")
    check_targets(grown, None)
    assert tried == ["external-copy"]


def test_results_and_runs_of_a_zoo_with_an_external_surrogate(zoo: StudyFolder) -> None:
    write_results(zoo, again=True)
    track(zoo, None)
    results = zoo.path / "results"
    report = (results / "report.html").read_text()
    assert "external-copy → test_resnet-random-d1-0: AUC" in report
    assert "No pairing is missing" in report
    (one,) = read_json(results / "assessments.json")
    assert "An attacker who has the model itself leaves" in (results / one["page"]).read_text()
    client = mlflow.MlflowClient(default_uri(zoo.path))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "params.surrogate_arch = 'external'")
    assert {run.data.params["white_box"] for run in runs} == {"True", "False"}
    assert {run.data.params["same_arch"] for run in runs} == {"False"}


def test_a_study_with_an_external_surrogate_survives_json(zoo: StudyFolder) -> None:
    assert StudySpec.from_dict(zoo.study.to_dict()) == zoo.study
    assert zoo.study.to_dict()["targets"][0]["attacked_through"] is True
    plain = replace(zoo.study.targets[0], attacked_through=False)
    assert "attacked_through" not in replace(zoo.study, targets=(plain,)).to_dict()["targets"][0]
    assert target_identity(plain) == target_identity(zoo.study.targets[0])


def test_the_page_describes_an_attacker_with_the_model_itself() -> None:
    without, frame = assessment(), small_frame()
    assert without.white_box is None
    own = frame[frame["surrogate"] == MODELS[0].name]
    own = own.assign(
        surrogate=TARGET.name,
        surrogate_kind="external",
        surrogate_arch="external",
        surrogate_init="",
        surrogate_split="",
    )
    held = assessment(pd.concat([frame, own.assign(white_box=True, auc=0.25)], ignore_index=True))
    assert held.white_box is not None
    assert held.white_box.value == pytest.approx(0.25)
    assert held.attacked.value == pytest.approx(np.mean(list(AUCS.values())))  # as without it
    assert [s.name for s in held.surrogates] == [s.name for s in without.surrogates]
    assert "An attacker who has the model itself leaves 0.25 (" in page(held)
    assert "who has the model itself" not in page(without)


def test_the_page_marks_external_networks_among_the_look_alikes() -> None:
    frame = small_frame()
    other = frame[frame["surrogate"] == MODELS[0].name]
    other = other.assign(
        surrogate="external-public",
        surrogate_kind="external",
        surrogate_arch="external",
        surrogate_init="",
        surrogate_split="",
    )
    shown = page(assessment(pd.concat([frame, other], ignore_index=True)))
    assert "external-public" in shown
    assert "not trained by raygrid" in shown
    assert "An attacker who has a look-alike and may change each image by" in shown
    assert "the training data of external look-alikes are not known" in shown
    assert (
        assessment(pd.concat([frame, other])).paired_differences()[0].num_pairs
        == assessment().paired_differences()[0].num_pairs
    )
