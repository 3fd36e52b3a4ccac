"""A classifier that raygrid did not train gives the same answers in every form."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from target_models import LABELS, SIZE, function, make_network, opened, scores, specs, target
from target_server import TargetServer
from torch import Tensor

from raygrid.attacks import Bfloat16
from raygrid.data.images.scale import to_unit_range
from raygrid.errors import DataError, RaygridError, SpecError, WeightsError
from raygrid.spec import AnswerSpec, EndpointSpec, InputSpec, TargetSpec
from raygrid.spec.targets import FUNCTION, TARGET_KINDS, TargetKind
from raygrid.store.target_identity import target_identity
from raygrid.targets import check_target, open_target
from raygrid.targets.backends import BACKENDS, Ask, Context, PythonFunction, TorchBackend

FAST = EndpointSpec(requests_per_second=10_000, retries=0)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(4).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)


@pytest.fixture(scope="module")
def unit(images: np.ndarray) -> Tensor:
    """Images in [-1, 1] that lie between grey levels, as adversarial ones do."""
    noise = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return (to_unit_range(images) + (noise - 0.5) * 0.05).clamp(-1, 1)


@pytest.fixture(scope="module")
def raw(unit: Tensor) -> Tensor:
    with torch.inference_mode():
        return make_network()((unit + 1) / 2)


@pytest.mark.parametrize(
    "form",
    [
        *("checkpoint", "state_dict", "export", "export of 4", "onnx", "onnx of 4"),
        *("callable", "tensor", "list", "probability"),
    ],
)
def test_a_target_answers_as_its_network(
    form: str, target_files: Path, unit: Tensor, raw: Tensor, images: np.ndarray
) -> None:
    spec = specs(target_files)[form]
    found = opened(spec)
    check_target(spec, found, images)
    with torch.inference_mode():
        logits = found.eval()(unit)
        assert Bfloat16(found).eval()(unit).sub(raw).abs().max() < 1e-4  # whatever precision the study scores in
    assert logits.dtype == torch.float32
    assert raw.std() > 1
    assert (logits - raw).abs().max() < 1e-4


@pytest.mark.parametrize("received", ["exact", "png", "jpeg:80"])
def test_a_target_behind_http_answers_as_its_function(
    received: str, unit: Tensor, images: np.ndarray, tmp_path: Path
) -> None:
    def serve(arrays: list[np.ndarray]) -> np.ndarray:
        stack = np.stack(arrays)
        return scores(stack if received == "exact" else stack.transpose(0, 3, 1, 2).astype(np.float32) / 255)

    with TargetServer(serve) as server, torch.inference_mode():
        spec = target("http", server.url, received=received, endpoint=FAST)
        check_target(spec, opened(spec, tmp_path), images)
        logits = opened(spec, tmp_path)(unit)
    there = opened(function("scores", received=received))(unit)
    assert (logits - there).abs().max() < 1e-4
    assert received == "exact" or (there - opened(function("scores"))(unit)).abs().max() > 1e-3


def test_a_function_of_grey_levels_receives_them(unit: Tensor) -> None:
    levels = InputSpec(channels_last=True, white=255.0, dtype="uint8")
    rounded = opened(function("scores", received="png"))(unit)
    assert (opened(function("of_levels", input=levels, received="png"))(unit) - rounded).abs().max() < 1e-4
    assert (opened(function("of_levels", input=levels))(unit) - rounded).abs().max() < 1e-4


def test_only_networks_follow_the_device(target_files: Path) -> None:
    sizes = {form: sum(p.numel() for p in opened(spec).parameters()) for form, spec in specs(target_files).items()}
    network = sum(p.numel() for p in make_network().parameters())
    assert {form for form, size in sizes.items() if size == network} == {
        *("checkpoint", "state_dict", "export", "export of 4")
    }
    assert sizes["onnx"] == sizes["callable"] == 0
    assert not any(m.training for spec in specs(target_files).values() for m in opened(spec).modules())


def test_each_kind_has_a_backend_with_the_declared_gradients() -> None:
    assert BACKENDS.keys() == TARGET_KINDS.keys()
    with_gradients = {name for name, backend in BACKENDS.items() if isinstance(backend, TorchBackend)}
    assert with_gradients == {name for name, kind in TARGET_KINDS.items() if kind.has_gradients} != set()


def test_a_declaration_and_a_class_add_a_kind(
    unit: Tensor, raw: Tensor, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGET_KINDS, "negative", TargetKind(words="a function, negated", source=FUNCTION))

    class Negative(PythonFunction):
        def open(self, spec: TargetSpec, context: Context) -> Ask:
            ask = super().open(spec, context)
            return lambda images: -ask(images)

    monkeypatch.setitem(BACKENDS, "negative", Negative())
    spec = function("scores", kind="negative")
    check_target(spec, opened(spec), images)
    assert (opened(spec)(unit) + raw).abs().max() < 1e-4
    assert target_identity(spec) != target_identity(function("scores"))
    with pytest.raises(SpecError, match="has no gradients"):
        replace(spec, attacked_through=True)


def test_outputs_are_found_by_their_label(unit: Tensor, raw: Tensor) -> None:
    answer = AnswerSpec(labels=("third", "", "first"))
    spec = function("scores", answer=answer)
    found = open_target(spec, labels=("first", "third"), channels=3, image_size=SIZE, answers_dir=Path())
    assert (found(unit) - raw[:, [2, 0]]).abs().max() < 1e-4


# --- what is found before anything starts

PROBABILITY, EXCLUSIVE = AnswerSpec(kind="probability"), AnswerSpec(kind="probability", labels=LABELS, exclusive=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (function("two_outputs"), r"array of shape \[6, 2\]; expected 6 rows of 3"),
        (function("transposed"), r"array of shape \[3, 6\]"),
        (function("text"), "not an array of numbers"),
        (function("not_a_number"), "nan for image 1, output 2"),
        (function("scores", answer=PROBABILITY), "expected a probability from 0 to 1"),
        (function("probabilities"), "as probabilities are; expected logits"),
        (function("softmax"), r"sums to 1, as .* exclusive=True"),
        (function("probabilities", answer=EXCLUSIVE), "a row sums to .*; expected 1"),
        (function("blind"), "expected different answers"),
        (function("batch_scaled"), "if the image is sent alone"),
    ],
)
def test_the_check_finds_answers_that_contradict_the_declaration(
    spec: TargetSpec, message: str, images: np.ndarray
) -> None:
    with pytest.raises(DataError, match=message):
        check_target(spec, opened(spec), images)


@pytest.mark.parametrize("spec", [function("timid"), function("softmax", answer=EXCLUSIVE)])
def test_the_check_accepts_sound_answers(spec: TargetSpec, images: np.ndarray) -> None:
    found = opened(spec)
    check_target(spec, found, images)
    assert found(to_unit_range(images)).shape == (6, 3)


def test_a_network_of_probabilities_is_detected(images: np.ndarray, tmp_path: Path) -> None:
    network = torch.nn.Sequential(make_network(), torch.nn.Sigmoid()).eval()
    exported = torch.export.export(
        network, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(exported, tmp_path / "sigmoid.pt2")
    spec = target("export", str(tmp_path / "sigmoid.pt2"))
    with pytest.raises(DataError, match="as probabilities are; expected logits"):
        check_target(spec, opened(spec), images)
    sound = replace(spec, answer=PROBABILITY)
    check_target(sound, opened(sound), images)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (function("scores", answer=AnswerSpec(labels=("first", "secnd", "third"))), SpecError, "did you mean 'second'"),
        (
            function("scores", answer=AnswerSpec(labels=("first", "third"))),
            SpecError,
            "no output for the label 'second'",
        ),
        (
            function("scores", input=InputSpec(mean=(0.1,) * 3, std=(1.0,) * 3, channels=0)),
            SpecError,
            "the images have 1 channels",
        ),
        (function("scores", input=InputSpec(bgr=True)), SpecError, "set channels=3"),
        (function("absent"), WeightsError, "cannot be imported"),
        (function("LABELS"), SpecError, "is a tuple; expected a function"),
        (target("callable", "no_such_package.module:function"), WeightsError, "was not found"),
        (function("no_network", kind="checkpoint", weights="/w.pt"), SpecError, r"returned a list"),
        (function("make_network", kind="checkpoint", weights="/absent.pt"), WeightsError, "/absent.pt does not exist"),
        (target("onnx", "relative.onnx"), SpecError, "absolute path"),
        (target("export", "/absent.pt2"), WeightsError, "/absent.pt2 does not exist"),
    ],
)
def test_an_impossible_declaration_is_refused(spec: TargetSpec, error: type[RaygridError], message: str) -> None:
    with pytest.raises(error, match=message):
        opened(spec, channels=1)


def test_files_for_other_images_are_refused(target_files: Path) -> None:
    for name, kind in (("clinic.onnx", "onnx"), ("clinic.pt2", "export")):
        message = r"takes images of shape \[3, 32, 32\], but its InputSpec makes \[3, 64, 64\]"
        with pytest.raises(SpecError, match=message):
            opened(target(kind, str(target_files / name), input=InputSpec(size=64)))
    with pytest.raises(SpecError, match=r"takes images tensor\(float\); expected one input of type tensor\(uint8\)"):
        opened(target("onnx", str(target_files / "clinic.onnx"), input=InputSpec(white=255, dtype="uint8")))


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    tensors = make_network().state_dict()
    tensors["fc.weight"] = torch.zeros(2, 2)
    tensors["extra"] = tensors.pop("conv1.0.weight")
    save_file(tensors, tmp_path / "other.safetensors")
    spec = function("make_network", kind="checkpoint", weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        WeightsError, match=r"1 absent from the file \(conv1.0.weight\); 1 not in .*\(extra\); 1 of another"
    ):
        opened(spec)


def test_a_specification_names_its_mistake() -> None:
    with pytest.raises(SpecError, match="set size and channels only"):
        target("http", "http://127.0.0.1", received="png", input=InputSpec(black=-1))
    with pytest.raises(SpecError, match="one per channel, or none"):
        InputSpec(mean=(1.0, 2.0), std=(1.0, 2.0))
