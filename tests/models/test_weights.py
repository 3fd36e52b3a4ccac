"""Where models start: He weights, weights of every source, and the errors of unavailable ones."""

import dataclasses
import math
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from toy_zoo import MODEL, make_zoo

from raygrid.errors import SpecError, StoreError, WeightsError
from raygrid.io.files import checksum, write_json
from raygrid.models import architectures
from raygrid.models.architectures import build_classifier, build_pretrained, check_architecture, start_from
from raygrid.spec import ModelSpec, Recipe, init_label
from raygrid.store.weight_sources import weights_identity


def saved(tmp_path: Path, arch: str, **options: object) -> tuple[Path, dict[str, torch.Tensor]]:
    torch.manual_seed(7)
    state = timm.create_model(arch, pretrained=False, **options).state_dict()
    path = tmp_path / f"{arch}.safetensors"
    save_file(state, path)
    return path, state


def test_random_weights_are_he_weights() -> None:
    network = build_classifier("densenet121", channels=3, num_outputs=1, seed=0).network
    for name in ("features.conv0", "features.denseblock2.denselayer3.conv2"):
        conv = network.get_submodule(name)
        fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)
        assert abs(conv.weight.mean().item()) < 0.1 * conv.weight.std().item()


@pytest.mark.parametrize(
    ("arch", "options", "tensor"),
    [
        ("inception_v3", {"aux_logits": True}, "Mixed_6b.branch7x7_2.conv.weight"),
        ("densenet121", {}, "features.denseblock3.denselayer9.conv2.weight"),
        ("test_efficientnet", {}, "conv_stem.weight"),
    ],
)
def test_pretrained_weights_are_really_loaded(tmp_path: Path, arch: str, options: dict, tensor: str) -> None:
    path, state = saved(tmp_path, arch, **options)
    classifier = build_pretrained(arch, f"file:{path}", channels=1, num_outputs=2, seed=0)
    own = classifier.network.state_dict()
    assert torch.equal(own[tensor], state[tensor])
    assert not any("Aux" in name for name in own)  # no auxiliary head is trained, attacked or scored
    side = 96
    assert classifier.eval()(torch.zeros(2, 1, side, side)).shape == (2, 2)


@pytest.mark.parametrize("classes", [14, 0])
def test_the_head_of_a_file_does_not_matter(tmp_path: Path, classes: int) -> None:
    path, state = saved(tmp_path, "densenet121", num_classes=classes)
    classifier = build_pretrained("densenet121", f"file:{path}", channels=1, num_outputs=3, seed=0)
    assert torch.equal(classifier.network.state_dict()["features.conv0.weight"], state["features.conv0.weight"])
    assert classifier.network.classifier.weight.shape[0] == 3


def test_wrapped_checkpoints_are_unwrapped(tmp_path: Path) -> None:
    _, state = saved(tmp_path, "test_resnet")
    path = tmp_path / "wrapped.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    classifier = build_pretrained("test_resnet", f"file:{path}", channels=3, num_outputs=1, seed=0)
    assert torch.equal(classifier.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_a_file_that_could_execute_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole_model.pth"
    torch.save(timm.create_model("test_resnet", pretrained=False), path)
    with pytest.raises(WeightsError, match="executes no code"):
        build_pretrained("test_resnet", f"file:{path}", channels=3, num_outputs=1, seed=0)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("cut.safetensors", b"\x08"), ("cut.pth", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} cannot be read"):
            build_pretrained("test_resnet", f"file:{tmp_path / name}", channels=3, num_outputs=1, seed=0)
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds a list"):
        build_pretrained("test_resnet", f"file:{tmp_path / 'list.pth'}", channels=3, num_outputs=1, seed=0)


def test_a_hub_model_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(
        architectures.timm, "create_model", lambda name, **o: create("test_efficientnet" if ":" in name else name)
    )
    with pytest.raises(WeightsError, match="is not the test_resnet that timm builds"):
        build_pretrained("test_resnet", "hub:some/model", channels=3, num_outputs=1, seed=0)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "test_efficientnet")
    with pytest.raises(WeightsError, match="does not fit"):
        build_pretrained("test_resnet", f"file:{path}", channels=3, num_outputs=1, seed=0)


def test_model_of_another_study_brings_its_weights_and_scaling(tmp_path: Path) -> None:
    source = build_classifier("test_resnet", channels=3, num_outputs=4, seed=1)
    source.scale.fill_(2.0)
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, tmp_path / "model.safetensors")
    write_json(tmp_path / "card.json", {"weights_sha256": checksum(tmp_path / "model.safetensors")})
    weights = f"model:{tmp_path}"
    classifier = build_pretrained("test_resnet", weights, channels=3, num_outputs=1, seed=0)
    assert torch.equal(classifier.network.state_dict()["conv1.0.weight"], source.network.state_dict()["conv1.0.weight"])
    assert torch.equal(classifier.scale, source.scale)
    assert classifier.network.fc.weight.shape[0] == 1
    write_json(tmp_path / "card.json", {"weights_sha256": "0" * 64})
    with pytest.raises(StoreError, match="not the file that its card describes"):
        build_pretrained("test_resnet", weights, channels=3, num_outputs=1, seed=0)


def test_start_from_another_architecture_is_refused() -> None:
    one, two = (build_classifier(a, channels=3, num_outputs=1, seed=0) for a in ("test_resnet", "test_efficientnet"))
    with pytest.raises(WeightsError, match="missing or have another shape"):
        start_from(one, two.state_dict())


def test_an_unreachable_hub_names_three_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, **options: object) -> None:
        raise OSError(f"no route to the host of {name}")

    monkeypatch.setattr(architectures.timm, "create_model", unreachable)
    for weights, name in (("hub", "densenet121.ra_in1k"), ("hub:some/model", "hf-hub:some/model")):
        with pytest.raises(WeightsError, match=rf"{name} could not be fetched.*Choose one"):
            build_pretrained("densenet121.ra_in1k", weights, channels=3, num_outputs=1, seed=0)


def test_architectures_and_tags_get_near_misses() -> None:
    check_architecture("densenet121.ra_in1k")
    with pytest.raises(SpecError, match=r"did you mean 'densenet121'"):
        check_architecture("densnet121")
    with pytest.raises(SpecError, match=r"did you mean.*densenet121\.ra_in1k"):
        check_architecture("densenet121.ra_in1")


def test_sources_have_identities(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "test_resnet")
    assert weights_identity("densenet121", "hub") == weights_identity("densenet121.ra_in1k", "hub")
    assert weights_identity("densenet121", "hub") != weights_identity("densenet121.tv_in1k", "hub")
    assert weights_identity("test_resnet", f"file:{path}") == f"sha256:{checksum(path)}"
    for weights, message in (
        ("file:relative.pth", "absolute path"),
        ("zip:/x", "unknown source of weights"),
        ("package:no_such_module", "not installed"),
    ):
        with pytest.raises((SpecError, WeightsError), match=message):
            weights_identity("test_resnet", weights)


def test_named_weights_must_be_declared(tmp_path: Path) -> None:
    model = ModelSpec(modality="toy", arch="test_resnet", init="weights:radiographs", split="d1")
    study = make_zoo(tmp_path, Recipe(epochs=1)).study
    with pytest.raises(SpecError, match="unknown weights 'radiographs/test_resnet'"):
        dataclasses.replace(study, models=(model,))
    weights = {"radiographs/test_resnet": f"file:{saved(tmp_path, 'test_resnet')[0]}"}
    declared = dataclasses.replace(study, models=(model,), weights=weights)
    assert declared.weights_of(model) == weights["radiographs/test_resnet"]
    assert declared.weights_of(MODEL) is None
    assert init_label(model.init) == "pre-trained, radiographs"
