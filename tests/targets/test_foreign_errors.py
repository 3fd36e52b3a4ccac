"""Whatever a target raises or returns ends in one line that names it; sound answers of any form are read."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from broken_targets import Failing, OneWay, Tuple
from safetensors.torch import save_file
from target_models import LABELS, SIZE, make_network, opened, scores, target
from torch import Tensor, nn

from raygrid.attacks import Crafter, Ensemble
from raygrid.data.images.scale import to_unit_range
from raygrid.errors import DataError, StoreError, WeightsError
from raygrid.scoring.engine import score_clean
from raygrid.spec import TargetSpec, TransferSpec, attack
from raygrid.store.samples import SampleBatch
from raygrid.targets import check_surrogate, check_target, open_surrogate


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(4).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)


def broken(name: str, **changes: object) -> TargetSpec:
    return target("callable", f"broken_targets:{name}", **changes)


def checkpoint(network: type[nn.Module] | str, folder: Path) -> TargetSpec:
    """Return the spec of a factory of `broken_targets`, with weights that fit its network."""
    name = network if isinstance(network, str) else network.__name__
    path = folder / f"{name}.safetensors"
    save_file({f"network.{key}": tensor for key, tensor in make_network().state_dict().items()}, path)
    return target("checkpoint", f"broken_targets:{name}", weights=str(path))


RAISED = {
    "runtime_error": "RuntimeError: the licence has run out; fix the target",
    "memory_error": "MemoryError; free memory",
    "wordless": "WordlessError; fix",
    "unprintable": "UnprintableError; fix",
    "cancelled": "CancelledError; fix",
    "stop_iteration": "StopIteration",
    "recursion_error": "RecursionError: maximum depth",
    "end_of_script": "SystemExit: 3",
}


@pytest.mark.parametrize("name", RAISED)
def test_any_exception_becomes_one_line_that_names_the_target(name: str, images: np.ndarray) -> None:
    found, sent = opened(broken(name)), to_unit_range(images)
    for ask in (found, found.answers, lambda sent: check_target(found.spec, found, images)):
        with pytest.raises(DataError) as caught:
            ask(sent)
        line = str(caught.value)
        assert line.startswith(f"target 'clinic', a Python function: broken_targets:{name} raised {RAISED[name]}")
        assert "\n" not in line
        assert caught.value.__cause__ is not None


def test_an_error_of_raygrid_inside_a_target_keeps_its_class(images: np.ndarray) -> None:
    with pytest.raises(StoreError, match="target 'clinic': the study is gone"):
        opened(broken("their_store_error"))(to_unit_range(images))


def test_an_interrupt_passes(images: np.ndarray) -> None:
    with pytest.raises(KeyboardInterrupt):
        opened(broken("interrupt"))(to_unit_range(images))


def test_the_other_targets_go_on(images: np.ndarray) -> None:
    names = ["runtime_error", "end_of_script", "none", "infinite", "list_of_tensors"]
    block = SampleBatch(tuple("abcdef"), tuple("abcdef"), np.zeros((6, 3), np.uint8), images)
    transfer = TransferSpec(attacks=(attack("fgsm", 0.02),))
    found = score_clean([opened(broken(name)) for name in names], block, transfer, device="cpu")
    assert sorted(found.failed) == [0, 1, 2, 3]
    assert np.isfinite(found.logits[4]).all()


# --- answers

ANSWERED = {
    "none": "answered with None: return the answers, not an array of numbers",
    "exiting_array": "answered with a ExitingArray, not an array",
    "dictionary": "answered with a dict of 'logits', not an array of numbers",
    "texts": "answered with a list, not an array of numbers",
    "missing_value": "answered with a list, not an array of numbers",
    "ragged": "answered with a list, not an array of numbers",
    "masked": "answered with an array with masked values",
    "complex_numbers": "answered with a ndarray of complex64, not an array of numbers",
    "generator": "answered with a generator, not an array of numbers",
    "infinite": "answered inf for image 0, output 1; expected 6 rows of 3 numbers",
    "too_large": r"for image 0, output 0; expected 6 rows of 3 numbers, each at most 1e\+38",
    "one_short": r"array of shape \[5, 3\]; expected 6 rows of 3",
    "extra_axis": r"array of shape \[1, 6, 3\]; expected 6 rows of 3",
}


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_of_another_kind_are_named(name: str, images: np.ndarray) -> None:
    with pytest.raises(DataError, match=f"^target 'clinic' .*{ANSWERED[name]}") as caught:
        opened(broken(name))(to_unit_range(images))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["list_of_tensors", "frame", "objects", "unmasked"])
def test_numbers_in_any_container_are_read(name: str, images: np.ndarray) -> None:
    sent = to_unit_range(images)
    expected = scores(((sent + 1) / 2).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(broken(name))(sent).numpy() == pytest.approx(expected, abs=1e-4)


# --- networks


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("failing_factory", "a PyTorch network from a file of weights: .* raised FileNotFoundError: config.yaml; fix"),
        ("exiting_factory", "raised SystemExit: usage: train.py --data DATA"),
        ("absent_factory", "cannot be imported .AttributeError"),
    ],
)
def test_a_factory_that_fails_is_named(name: str, message: str, tmp_path: Path) -> None:
    spec = checkpoint(name, tmp_path)
    for start in (opened, through):
        with pytest.raises(WeightsError, match=f"^target 'clinic'.*{message}"):
            start(spec)


def test_a_module_that_ends_like_a_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_script.py").write_text("import sys\nsys.exit('usage: predict.py IMAGE')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot be imported \(SystemExit: usage: predict.py IMAGE\)"):
        opened(target("callable", "their_script:scores"))


def through(spec: TargetSpec) -> nn.Module:
    return open_surrogate(replace(spec, attacked_through=True), labels=LABELS, channels=3, image_size=SIZE)


def test_a_network_that_fails_is_named_as_target_and_as_surrogate(images: np.ndarray, tmp_path: Path) -> None:
    sent, spec = to_unit_range(images), checkpoint(Failing, tmp_path)
    message = "^target 'clinic', a PyTorch network .* raised ValueError: negative dimension"
    for network in (opened(spec), through(spec)):
        with pytest.raises(DataError, match=message):
            network(sent)
    with pytest.raises(DataError, match=message):
        check_surrogate(through(spec), sent)


def test_a_network_with_two_outputs_is_named(images: np.ndarray, tmp_path: Path) -> None:
    sent, spec = to_unit_range(images), checkpoint(Tuple, tmp_path)
    for network in (opened(spec), through(spec)):
        with pytest.raises(DataError, match="answered with a tuple"):
            network(sent)


@pytest.mark.parametrize("batch", [None, 4])
def test_a_program_of_any_batch_size_that_answers_with_a_dict_is_named(
    batch: int | None, images: np.ndarray, tmp_path: Path
) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = make_network()

        def forward(self, shown: Tensor) -> dict[str, Tensor]:
            return {"logits": self.network(shown)}

    shapes = None if batch else ({0: torch.export.Dim("n")},)
    program = torch.export.export(Named(), (torch.zeros(batch or 2, 3, SIZE, SIZE),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "named.pt2")
    spec = target("export", str(tmp_path / "named.pt2"))
    with pytest.raises(DataError, match="target 'clinic' answered with a dict of 'logits', not an array"):
        opened(spec)(to_unit_range(images))


def test_a_folder_is_named(tmp_path: Path) -> None:
    for spec in (target("onnx", str(tmp_path)), checkpoint("Failing", tmp_path)):
        with pytest.raises(WeightsError, match="is a folder, such as a TensorFlow model"):
            opened(replace(spec, weights=str(tmp_path)) if spec.weights else spec)


def test_a_derivative_that_fails_is_named(images: np.ndarray, tmp_path: Path) -> None:
    spec = checkpoint(OneWay, tmp_path)
    assert opened(spec)(to_unit_range(images)).shape == (6, 3)
    with pytest.raises(DataError, match=r"target 'clinic', .* raised NotImplementedError: no derivative of this op"):
        check_surrogate(through(spec), to_unit_range(images))


def test_weights_that_do_not_fit_name_the_target(tmp_path: Path) -> None:
    spec = checkpoint(Failing, tmp_path)
    torch.save({"network.conv1.0.weight": torch.zeros(2)}, spec.weights)
    with pytest.raises(WeightsError, match=r"^target 'clinic': .* does not fit the network; tensors: "):
        opened(spec)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_backward_pass_that_fails_while_crafting_names_attack_and_target(tmp_path: Path, bfloat16: bool) -> None:
    spec = replace(checkpoint(OneWay, tmp_path), attacked_through=True)
    surrogate = open_surrogate(spec, labels=LABELS, channels=3, image_size=SIZE)
    shown, labels = torch.zeros(2, 3, SIZE, SIZE), torch.ones(2, len(LABELS))
    for network in (surrogate, Ensemble([make_network().eval(), surrogate])):
        with pytest.raises(
            DataError, match=r"^fgsm@0\.02: surrogate 'clinic' raised NotImplementedError: no der.*; fix"
        ):
            list(Crafter(network, bfloat16=bfloat16).craft(shown, labels, [attack("fgsm", 0.02)]))


def test_a_backward_pass_of_raygrids_own_networks_keeps_its_exception() -> None:
    shown, labels = torch.zeros(2, 3, SIZE, SIZE), torch.ones(2, len(LABELS))
    with pytest.raises(NotImplementedError, match="no derivative"):
        list(Crafter(OneWay()).craft(shown, labels, [attack("fgsm", 0.02)]))
