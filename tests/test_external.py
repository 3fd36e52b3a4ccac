"""A classifier that raygrid did not train answers as itself, in whatever form it comes."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from target_models import LABELS, SIZE, function, make_network, save_export, save_onnx, scores, target
from target_server import TargetServer
from torch import Tensor

from raygrid.attacks import Bfloat16, to_unit_range
from raygrid.datasets.decoding import decode_image
from raygrid.errors import DataError, RaygridError, SpecError, WeightsError
from raygrid.external import ExternalTarget, check_target, open_target, target_identity
from raygrid.external.conversion import converted
from raygrid.external.logits import to_logits
from raygrid.external.received import as_received, encode, to_levels
from raygrid.spec import AnswerSpec, EndpointSpec, InputSpec, TargetSpec

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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    save_file(make_network().state_dict(), folder / "clinic.safetensors")
    torch.save({"state_dict": make_network().state_dict()}, folder / "clinic.pt")
    for batch in (None, 4):
        save_onnx(folder / f"clinic{batch or ''}.onnx", batch)
        save_export(folder / f"clinic{batch or ''}.pt2", batch)
    return folder


def opened(spec: TargetSpec, folder: Path = Path("unused"), channels: int = 3) -> ExternalTarget:
    return open_target(spec, labels=LABELS, channels=channels, image_size=SIZE, answers_dir=folder)


def specs(files: Path) -> dict[str, TargetSpec]:
    return {
        "checkpoint": function("make_network", kind="checkpoint", weights=str(files / "clinic.safetensors")),
        "state_dict": function("make_network", kind="checkpoint", weights=str(files / "clinic.pt")),
        "export": target("export", str(files / "clinic.pt2")),
        "export of 4": target("export", str(files / "clinic4.pt2")),
        "onnx": target("onnx", str(files / "clinic.onnx")),
        "onnx of 4": target("onnx", str(files / "clinic4.onnx")),
        "callable": function("scores"),
        "tensor": function("as_tensor"),
        "list": function("as_list"),
        "probability": function("probabilities", answer=AnswerSpec(kind="probability")),
    }


@pytest.mark.parametrize(
    "form",
    [
        *("checkpoint", "state_dict", "export", "export of 4", "onnx", "onnx of 4"),
        *("callable", "tensor", "list", "probability"),
    ],
)
def test_a_target_answers_as_its_network(form: str, files: Path, unit: Tensor, raw: Tensor, images: np.ndarray) -> None:
    spec = specs(files)[form]
    found = opened(spec)
    check_target(spec, found, images)
    with torch.inference_mode():
        logits = found.eval()(unit)
        assert Bfloat16(found).eval()(unit).sub(raw).abs().max() < 1e-4  # whatever precision the study scores in
    assert logits.dtype == torch.float32
    assert raw.std() > 1
    assert (logits - raw).abs().max() < 1e-4


@pytest.mark.parametrize("received", ["exact", "png", "jpeg:80"])
def test_a_target_behind_http_is_the_function_that_it_serves(
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


def test_only_networks_follow_the_device(files: Path) -> None:
    sizes = {form: sum(p.numel() for p in opened(spec).parameters()) for form, spec in specs(files).items()}
    network = sum(p.numel() for p in make_network().parameters())
    assert {form for form, size in sizes.items() if size == network} == {
        *("checkpoint", "state_dict", "export", "export of 4")
    }
    assert sizes["onnx"] == sizes["callable"] == 0
    assert not any(m.training for spec in specs(files).values() for m in opened(spec).modules())


# --- how images arrive


def levels_between(channels: int) -> Tensor:
    """Return one image with every grey level, each a little off, in [-1, 1]."""
    off = torch.linspace(-0.49, 0.49, 256 * channels).view(1, channels, 16, 16)
    return (torch.arange(256 * channels).remainder(256).view(1, channels, 16, 16) + off) / 127.5 - 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("received", ["png", "dicom", "jpeg:75"])
def test_an_image_arrives_as_its_file_is_read(received: str, channels: int, tmp_path: Path) -> None:
    spec = function("scores", received=received)
    shown = levels_between(channels)
    path = tmp_path / f"image.{received[:3]}"
    path.write_bytes(encode(to_levels(shown)[0], spec))
    read = decode_image(path, channels)
    assert torch.equal(as_received(shown, spec), to_unit_range(read[None]))
    nearest = np.rint((shown.numpy().transpose(0, 2, 3, 1) + 1) * 127.5)[0]
    assert np.array_equal(read, nearest) is (received != "jpeg:75")


@pytest.mark.parametrize("received", ["png", "dicom", "jpeg:75"])
def test_equal_images_are_equal_files(received: str) -> None:
    spec = function("scores", received=received)
    first, second = np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)
    assert encode(first, spec) == encode(second, spec)
    second[0, 0] = 200
    assert encode(first, spec) != encode(second, spec)


def test_a_coarser_jpeg_changes_more(unit: Tensor) -> None:
    change = {q: (as_received(unit, function("scores", received=f"jpeg:{q}")) - unit).abs().mean() for q in (20, 95)}
    assert change[20] > 2 * change[95] > 0


# --- what a target takes

GREY = torch.tensor([-1.0, 0.2, 1.0]).view(1, 1, 1, 3).expand(1, 1, 2, 3)
COLOUR = torch.tensor([-1.0, 0.2, 1.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("spec", "images", "expected"),
    [
        (InputSpec(), GREY, [0, 0.6, 1]),
        (InputSpec(black=-1), GREY, [-1, 0.2, 1]),
        (InputSpec(black=1, white=0), GREY, [1, 0.4, 0]),
        (InputSpec(white=255, mean=(100.0,), std=(50.0,)), GREY, [-2, 1.06, 3.1]),
        (InputSpec(white=255, dtype="uint8"), GREY, [0, 153, 255]),
    ],
)
def test_pixels_are_scaled_as_declared(spec: InputSpec, images: Tensor, expected: list[float]) -> None:
    array = converted(images, spec)
    assert array.dtype == (torch.uint8 if spec.dtype == "uint8" else torch.float32)
    assert array[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_channels_come_as_declared() -> None:
    assert torch.equal(converted(GREY, InputSpec(channels=3)), (GREY.expand(1, 3, 2, 3) + 1) / 2)
    luminance = converted(COLOUR, InputSpec(channels=1))
    assert luminance.shape == (1, 1, 2, 2)
    assert luminance[0, 0, 0, 0].item() == pytest.approx(0.587 * 0.6 + 0.114)
    spec = InputSpec(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 0.5), bgr=True, channels_last=True)
    shown = converted(COLOUR, spec)
    assert shown.shape == (1, 2, 2, 3)
    assert shown[0, 0, 0].tolist() == pytest.approx([(1 - 0.3) / 0.5, 0.6 - 0.2, 0 - 0.1])


def test_the_size_is_changed_without_aliasing() -> None:
    stripes = torch.ones(1, 1, 64, 64)
    stripes[..., ::2] = -1
    small = converted(stripes, InputSpec(size=16))
    assert small.shape == (1, 1, 16, 16)
    assert (small - 0.5).abs().max() < 0.1  # picked, not averaged, the pixels would be 0 or 1
    assert converted(GREY[..., :2], InputSpec(size=7)).shape == (1, 1, 7, 7)


# --- what its answers mean


def logits_of(rows: Any, **declared: Any) -> np.ndarray:
    answer = AnswerSpec(**declared)
    return to_logits("target", np.atleast_2d(np.asarray(rows, np.float64)), answer, range(np.shape(rows)[-1]))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_a_probability_never_changes_its_rank(values: list[float]) -> None:
    logits = logits_of(np.sort(values)[:, None], kind="probability")[:, 0]
    assert np.isfinite(logits).all()
    assert (np.diff(logits) >= 0).all()


def test_probabilities_that_differ_keep_different_logits() -> None:
    end = np.cumprod(np.full(50, 0.5))  # 1/2, 1/4, ... to 2**-50
    both = np.concatenate([[0, 1e-323, 1e-320], end[::-1], 1 - end[1:], [1]])
    assert (np.diff(logits_of(both[:, None], kind="probability")[:, 0]) > 0).all()
    near = np.arange(0.05, 0.95, 1e-3, dtype=np.float32)
    pairs = np.stack([near, np.nextafter(near, np.float32(1))], axis=1)
    assert (np.diff(logits_of(pairs, kind="probability"), axis=1) > 0).all()


def test_exclusive_outputs_are_set_against_all_others() -> None:
    z = np.random.default_rng(0).normal(size=(40, 4)) * 3
    weights = np.exp(z)
    shares = weights / weights.sum(axis=1, keepdims=True)
    labels = ("a", "b", "c", "d")
    expected = np.log(shares / (1 - shares))
    assert logits_of(z, labels=labels, exclusive=True) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert logits_of(shares, kind="probability", labels=labels, exclusive=True) == pytest.approx(expected, rel=1e-5)
    certain = np.float32([[1, 1e-12], [1, 1e-9]])  # of which 1 - p has lost everything
    sure, surer = logits_of(certain, kind="probability", labels=("a", "b"), exclusive=True)[::-1, 0]
    assert sure < surer < 30


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
        (function("two_outputs"), r"array of \[6, 2\]; expected 6 rows of 3"),
        (function("transposed"), r"array of \[3, 6\]"),
        (function("text"), "no array of numbers"),
        (function("not_a_number"), "nan for image 1, output 2"),
        (function("scores", answer=PROBABILITY), "a probability from 0 to 1 was declared"),
        (function("probabilities"), "look like probabilities, where logits were declared"),
        (function("softmax"), r"sums to 1: .* exclusive=True"),
        (function("probabilities", answer=EXCLUSIVE), "exclusive classes were declared, and a row sums to"),
        (function("blind"), "does not look at them"),
        (function("batch_scaled"), "asked alone is answered otherwise"),
    ],
)
def test_a_broken_promise_is_found_by_the_check(spec: TargetSpec, message: str, images: np.ndarray) -> None:
    with pytest.raises(DataError, match=message):
        check_target(spec, opened(spec), images)


@pytest.mark.parametrize("spec", [function("timid"), function("softmax", answer=EXCLUSIVE)])
def test_the_check_lets_sound_answers_pass(spec: TargetSpec, images: np.ndarray) -> None:
    found = opened(spec)
    check_target(spec, found, images)
    assert found(to_unit_range(images)).shape == (6, 3)


def test_a_network_of_probabilities_is_found_out(images: np.ndarray, tmp_path: Path) -> None:
    network = torch.nn.Sequential(make_network(), torch.nn.Sigmoid()).eval()
    exported = torch.export.export(
        network, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(exported, tmp_path / "sigmoid.pt2")
    spec = target("export", str(tmp_path / "sigmoid.pt2"))
    with pytest.raises(DataError, match="probabilities, where logits were declared"):
        check_target(spec, opened(spec), images)
    sound = replace(spec, answer=PROBABILITY)
    check_target(sound, opened(sound), images)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (function("scores", answer=AnswerSpec(labels=("first", "secnd", "third"))), SpecError, "did you mean 'second'"),
        (function("scores", answer=AnswerSpec(labels=("first", "third"))), SpecError, "no output for 'second'"),
        (
            function("scores", input=InputSpec(mean=(0.1,) * 3, std=(1.0,) * 3, channels=0)),
            SpecError,
            "shown 1 channels",
        ),
        (function("scores", input=InputSpec(bgr=True)), SpecError, "set channels=3"),
        (function("absent"), WeightsError, "cannot be imported"),
        (function("LABELS"), SpecError, "is a tuple; expected a function"),
        (target("callable", "no_such_package.module:function"), WeightsError, "there is no module"),
        (function("no_network", kind="checkpoint", weights="/w.pt"), SpecError, r"returned a list"),
        (function("make_network", kind="checkpoint", weights="/absent.pt"), WeightsError, "/absent.pt is not there"),
        (target("onnx", "relative.onnx"), SpecError, "absolute path"),
        (target("export", "/absent.pt2"), WeightsError, "/absent.pt2 is not there"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(spec: TargetSpec, error: type[RaygridError], message: str) -> None:
    with pytest.raises(error, match=message):
        opened(spec, channels=1)


def test_files_for_other_images_are_refused(files: Path) -> None:
    for name, kind in (("clinic.onnx", "onnx"), ("clinic.pt2", "export")):
        with pytest.raises(SpecError, match=r"takes images of \[3, 32, 32\], and would be shown \[3, 64, 64\]"):
            opened(target(kind, str(files / name), input=InputSpec(size=64)))
    with pytest.raises(SpecError, match=r"takes images tensor\(float\); expected one input, tensor\(uint8\)"):
        opened(target("onnx", str(files / "clinic.onnx"), input=InputSpec(white=255, dtype="uint8")))


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    tensors = make_network().state_dict()
    tensors["fc.weight"] = torch.zeros(2, 2)
    tensors["extra"] = tensors.pop("conv1.0.weight")
    save_file(tensors, tmp_path / "other.safetensors")
    spec = function("make_network", kind="checkpoint", weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        WeightsError, match=r"1 absent from the file \(conv1.0.weight\); 1 not of .*\(extra\); 1 of another"
    ):
        opened(spec)


# --- nothing untrusted is executed


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def rewritten(files: Path, tmp_path: Path, change: Callable[[str, bytes], bytes], extra: str = "") -> Path:
    """Return a copy of the exported program whose entries went through `change`."""
    path = tmp_path / "planted.pt2"
    with zipfile.ZipFile(files / "clinic.pt2") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        if extra:
            new.writestr(extra, b"")
    return path


def pickled_inputs(marker: Path) -> Callable[[str, bytes], bytes]:
    torch.save({"inputs": Planted(marker)}, marker.with_name("inputs.pt"))
    content = marker.with_name("inputs.pt").read_bytes()
    return lambda name, old: content if name.endswith("sample_inputs/model.pt") else old


@pytest.mark.parametrize(
    ("change", "extra", "message"),
    [
        (lambda n, b: b.replace(b'"use_pickle": false', b'"use_pickle": true', 1), "", "is pickled"),
        (lambda n, b: b.replace(b"torch.ops.aten.relu_.default", b"torch.os.system"), "", "it calls 'torch.os.system'"),
        (lambda n, b: b.replace(b"Symbol('s77'", b"eval(chr(49)"), "", "no plain expression"),
        (lambda n, b: b, "clinic/data/aotinductor/model/code.so", "it holds 'data/aotinductor"),
        (lambda n, b: b, "clinic/data/constants/opaque_obj_0", "it holds 'data/constants/opaque"),
    ],
)
def test_a_program_that_could_run_code_is_refused(
    change: Callable[[str, bytes], bytes], extra: str, message: str, files: Path, tmp_path: Path
) -> None:
    path = rewritten(files, tmp_path, change, extra)
    with pytest.raises(WeightsError, match=f"{message}.*executes nothing from a file"):
        opened(target("export", str(path)))


def test_a_pickle_in_a_program_stays_unread(files: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = rewritten(files, tmp_path, pickled_inputs(marker))
    with pytest.raises(WeightsError, match="its example inputs are more than tensors"):
        opened(target("export", str(path)))
    assert not marker.exists()
    torch.export.load(path)  # what would have happened
    assert marker.exists()


@pytest.mark.parametrize(("kind", "name"), [("onnx", "damaged.onnx"), ("export", "damaged.pt2")])
def test_a_damaged_file_is_named(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(WeightsError, match=f"{name} cannot be opened"):
        opened(target(kind, str(tmp_path / name)))


# --- what stands for a target


def test_the_identity_is_that_of_everything_that_changes_an_answer(files: Path, tmp_path: Path) -> None:
    spec = specs(files)["onnx"]
    moved = tmp_path / "elsewhere.onnx"
    shutil.copy(files / "clinic.onnx", moved)
    assert target_identity(replace(spec, source=str(moved))) == target_identity(spec)
    moved.write_bytes(moved.read_bytes() + b"\n")
    other = [
        replace(spec, source=str(moved)),
        replace(spec, received="png"),
        replace(spec, input=InputSpec(black=-1)),
        replace(spec, answer=PROBABILITY),
    ]
    assert len({target_identity(s) for s in (spec, *other)}) == 5


def test_how_an_endpoint_is_asked_is_no_part_of_its_identity() -> None:
    spec = target("http", "http://127.0.0.1:1/predict")
    same = EndpointSpec(batch_size=1, requests_per_second=9, timeout_s=1, retries=0, token_variable="T", max_images=5)
    assert target_identity(replace(spec, endpoint=same)) == target_identity(spec)
    assert target_identity(replace(spec, endpoint=EndpointSpec(version="2"))) != target_identity(spec)
    assert target_identity(replace(spec, source="http://127.0.0.1:2/predict")) != target_identity(spec)


def test_tensors_beside_an_onnx_file_are_part_of_it(files: Path, tmp_path: Path) -> None:
    import onnx

    name = "weights " + "x" * 140  # a length that takes two bytes
    path = tmp_path / "large.onnx"
    save = {"save_as_external_data": True, "location": name, "size_threshold": 0}
    onnx.save_model(onnx.load(files / "clinic.onnx"), str(path), **save)
    spec = target("onnx", str(path))
    before = target_identity(spec)
    with (tmp_path / name).open("ab") as file:
        file.write(b"\0")
    assert target_identity(spec) != before
    (tmp_path / name).unlink()
    with pytest.raises(WeightsError, match=r"keeps tensors in weights x+, which is not beside it"):
        target_identity(spec)


def test_a_function_is_known_by_its_module_which_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('executed')\n")
    (package / "model.py").write_text("raise RuntimeError('executed')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = target("callable", "their_package.model:scores")
    before = target_identity(spec)
    (package / "model.py").write_text("raise RuntimeError('executed by an import')\n")
    assert target_identity(spec) != before
    with pytest.raises(WeightsError, match=r"cannot be imported \(RuntimeError: executed"):
        opened(spec)
    with pytest.raises(WeightsError, match=r"no module their_package\.absent"):
        target_identity(target("callable", "their_package.absent:scores"))


def test_asking_for_an_identity_does_not_load_pytorch() -> None:
    code = (
        "import sys\nfrom raygrid.external import target_identity\nfrom raygrid.spec import TargetSpec\n"
        "target_identity(TargetSpec(modality='m', label='l', kind='http', source='http://127.0.0.1'))\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_specification_names_what_is_wrong_with_it() -> None:
    with pytest.raises(SpecError, match="set size and channels only"):
        target("http", "http://127.0.0.1", received="png", input=InputSpec(black=-1))
    with pytest.raises(SpecError, match="one per channel, or none"):
        InputSpec(mean=(1.0, 2.0), std=(1.0, 2.0))
