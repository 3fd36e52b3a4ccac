"""Networks in another precision than float32, files with other inputs or outputs: run rightly, or refused by name."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from target_models import LABELS, SIZE, function, make_network, opened, save_export, save_onnx, target
from torch import Tensor, nn

from raygrid.data.images.scale import to_unit_range
from raygrid.errors import SpecError, WeightsError
from raygrid.spec import AnswerSpec, InputSpec, TargetSpec
from raygrid.targets import check_surrogate, check_target, open_surrogate

PRECISIONS = {"half_network": torch.float16, "brain_network": torch.bfloat16, "double_network": torch.float64}
TOLERANCE = {torch.float16: 0.02, torch.bfloat16: 0.1, torch.float64: 1e-4}  # of the largest logit


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(4).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)


@pytest.fixture(scope="module")
def raw(images: np.ndarray) -> Tensor:
    with torch.inference_mode():
        return make_network()((to_unit_range(images) + 1) / 2)


def through(spec: TargetSpec) -> nn.Module:
    return open_surrogate(replace(spec, attacked_through=True), labels=LABELS, channels=3, image_size=SIZE)


def exported(network: nn.Module, dtype: torch.dtype, path: Path) -> TargetSpec:
    example = torch.zeros(2, 3, SIZE, SIZE, dtype=dtype)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)), path)
    return target("export", str(path))


def require_near(found: Tensor, raw: Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == torch.float32
    assert (found - raw).abs().max() < TOLERANCE[dtype] * raw.abs().max()


@pytest.mark.parametrize("factory", PRECISIONS)
@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
def test_a_network_runs_in_its_own_precision(
    factory: str, stored: torch.dtype, images: np.ndarray, raw: Tensor, tmp_path: Path
) -> None:
    state = make_network().state_dict()
    path = tmp_path / "weights.safetensors"
    save_file({name: t.to(stored) if t.is_floating_point() else t for name, t in state.items()}, path)
    spec = function(factory, kind="checkpoint", weights=str(path))
    found = opened(spec)
    check_target(spec, found, images)
    assert next(found.parameters()).dtype == PRECISIONS[factory]
    require_near(found(to_unit_range(images)), raw, torch.float16 if stored == torch.float16 else PRECISIONS[factory])


@pytest.mark.parametrize("dtype", PRECISIONS.values())
def test_an_exported_program_runs_in_its_own_precision(
    dtype: torch.dtype, images: np.ndarray, raw: Tensor, tmp_path: Path
) -> None:
    spec = exported(make_network().to(dtype), dtype, tmp_path / "p.pt2")
    found = opened(spec)
    check_target(spec, found, images)
    require_near(found(to_unit_range(images)), raw, dtype)


@pytest.mark.parametrize("factory", PRECISIONS)
def test_gradients_of_a_network_in_half_precision_are_those_in_float32(
    factory: str, images: np.ndarray, target_files: Path
) -> None:
    spec = function(factory, kind="checkpoint", weights=str(target_files / "clinic.safetensors"))
    surrogate, sent = through(spec), to_unit_range(images)
    check_surrogate(surrogate, sent)

    def gradient(network: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = sent.clone().requires_grad_()
        return torch.autograd.grad(1e-6 * network(leaf)[:, 1].sum(), leaf)[0]  # would be 0 in float16

    network = make_network().to(PRECISIONS[factory]).float()  # the weights are rounded once
    expected = gradient(lambda shown: network((shown + 1) / 2))
    assert gradient(surrogate) == pytest.approx(expected, abs=1e-3 * float(expected.abs().max()))


def test_a_program_in_float16_is_no_surrogate(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a program in float16, where small gradients become zero; export it in float"):
        through(exported(make_network().half(), torch.float16, tmp_path / "half.pt2"))
    for dtype in (torch.bfloat16, torch.float64):
        check_surrogate(through(exported(make_network().to(dtype), dtype, tmp_path / "p.pt2")), to_unit_range(images))


class OfLevels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()

    def forward(self, levels: Tensor) -> Tensor:
        return self.network(levels.float() / 255)


def test_a_program_of_grey_levels_needs_them_declared(images: np.ndarray, raw: Tensor, tmp_path: Path) -> None:
    spec = exported(OfLevels(), torch.uint8, tmp_path / "levels.pt2")
    with pytest.raises(SpecError, match="takes images of uint8, but its InputSpec makes float32; set dtype"):
        opened(spec)
    levels = InputSpec(white=255.0, dtype="uint8")
    assert (opened(replace(spec, input=levels))(to_unit_range(images)) - raw).abs().max() < 1e-3
    with pytest.raises(SpecError, match="takes images of float32, but its InputSpec makes uint8"):
        opened(target("export", str(save_export(tmp_path / "float.pt2")), input=levels))


# --- ONNX files


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_onnx_file_runs_in_its_own_precision(
    dtype: torch.dtype, batch: int, images: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "precise.onnx"
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))
    with torch.inference_mode():
        raw = network((to_unit_range(images) + 1) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(batch, 3, SIZE, SIZE, dtype=dtype)
        torch.onnx.export(network.to(dtype), (example,), str(path), dynamo=False)
    spec = target("onnx", str(path))
    found = opened(spec)
    require_near(found(to_unit_range(images)), raw, dtype)


def test_an_onnx_file_that_onnxruntime_cannot_run_is_named(tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64)
        torch.onnx.export(make_network().double(), (example,), str(path), dynamo=False)
    with pytest.raises(WeightsError, match=r"cannot be opened by onnxruntime .*Conv.*; export it in float32"):
        opened(target("onnx", str(path)))


def onnx_file(path: Path, nodes: list[Any], outputs: list[Any], kind: int = TensorProto.FLOAT, **shape: Any) -> str:
    """Write an ONNX file of one input, `images`, and return its path."""
    takes = helper.make_tensor_value_info("images", kind, shape.get("of", ["n", 3, SIZE, SIZE]))
    graph = helper.make_graph(
        nodes, "graph", shape.get("inputs", [takes]), outputs, [numpy_helper.from_array(np.array([1, 2, 3]), "axes")]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return str(path)


def mean(name: str = "answers") -> Any:
    return helper.make_node("ReduceMean", ["images", "axes"], [name], keepdims=0)


def numbers(name: str, kind: int = TensorProto.FLOAT, shape: Any = ("n",)) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def zip_map() -> list[Any]:
    """Return the nodes that scikit-learn's converter writes after the probabilities."""
    flat = helper.make_node("Flatten", ["images"], ["flat"])
    classes = helper.make_node(
        "ZipMap", ["flat"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[*range(3 * SIZE**2)]
    )
    return [flat, classes]


def map_output() -> Any:
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    one = helper.make_map_type_proto(TensorProto.INT64, number)
    return helper.make_value_info("maps", helper.make_sequence_type_proto(one))


def test_onnx_files_of_another_form_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    doubled = helper.make_node("Add", ["answers", "answers"], ["twice"])
    two = [numbers("images", shape=["n", 3, SIZE, SIZE]), numbers("age")]
    added = helper.make_node("Add", ["mean", "age"], ["answers"])
    words = helper.make_node("Cast", ["mean"], ["answers"], to=TensorProto.STRING)
    for message, content in (
        (
            r"has the outputs answers tensor\(float\), twice tensor\(float\); expected one tensor of numbers",
            ([mean(), doubled], [numbers("answers"), numbers("twice")]),
        ),
        (r"has the outputs maps seq\(map\(.*options=\{'zipmap': False\}", (zip_map(), [map_output()])),
        (
            r"has the outputs answers tensor\(string\)",
            ([mean("mean"), words], [numbers("answers", TensorProto.STRING)]),
        ),
    ):
        spec = target("onnx", onnx_file(path, *content))
        with pytest.raises(SpecError, match=f"target 'clinic': .*other.onnx {message}"):
            opened(spec)
    spec = target("onnx", onnx_file(path, [mean("mean"), added], [numbers("answers")], inputs=two))
    with pytest.raises(SpecError, match=r"takes images tensor\(float\), age tensor\(float\); expected one input"):
        opened(spec)
    spec = target("onnx", onnx_file(path, [mean()], [numbers("answers")], of=["n", SIZE, SIZE, 3]))
    with pytest.raises(SpecError, match=r"takes images of shape \[32, 32, 3\], .* or channels_last"):
        opened(spec)


def test_an_onnx_file_of_decisions_is_read(images: np.ndarray, tmp_path: Path) -> None:
    flat = helper.make_node("Flatten", ["images"], ["flat"])
    index = helper.make_node("ArgMax", ["flat"], ["class"], axis=1, keepdims=0)
    half = helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array([2]), "v"))
    odd = helper.make_node("Mod", ["class", "two"], ["answers"])
    path = onnx_file(tmp_path / "class.onnx", [flat, index, half, odd], [numbers("answers", TensorProto.INT64)])
    answer = AnswerSpec(kind="decision", labels=LABELS, exclusive=True)
    spec = target("onnx", path, answer=answer)
    expected = ((to_unit_range(images) + 1) / 2).flatten(1).argmax(1) % 2
    assert (opened(spec)(to_unit_range(images)).argmax(1) == expected).all()


def test_a_file_of_another_kind_is_named(target_files: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(make_network(), torch.zeros(1, 3, SIZE, SIZE)), str(script))
    for kind, path, message in (
        (
            "export",
            script,
            r"is a TorchScript program of torch\.jit\.save, not a program of torch\.export; where it was",
        ),
        ("export", target_files / "clinic.pt", r"a file of torch\.save, not a program.*kind='checkpoint'"),
        ("export", target_files / "clinic.onnx", r"an ONNX file, not a program of torch\.export; .*kind='onnx'"),
        ("onnx", target_files / "clinic.pt", r"a file of torch\.save, not an ONNX file; export the network to ONNX"),
        ("onnx", target_files / "clinic.pt2", r"a program of torch\.export, not an ONNX file"),
    ):
        with pytest.raises(WeightsError, match=f"target 'clinic': .*{message}"):
            opened(target(kind, str(path)))
    weights = function("make_network", kind="checkpoint", weights=str(save_onnx(tmp_path / "network.onnx")))
    with pytest.raises(WeightsError, match=r"target 'clinic': .*is an ONNX file; expected a state_dict, .*kind='onnx'"):
        opened(weights)
