"""Files and modules of targets: raygrid executes no code in them, and their content is the target's identity."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from target_models import opened, specs, target

from raygrid.errors import WeightsError
from raygrid.spec import AnswerSpec, EndpointSpec, InputSpec, TargetSpec
from raygrid.store.target_identity import target_identity


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def rewritten(target_files: Path, tmp_path: Path, change: Callable[[str, bytes], bytes], extra: str = "") -> Path:
    """Return a copy of the exported program whose entries went through `change`."""
    path = tmp_path / "planted.pt2"
    with zipfile.ZipFile(target_files / "clinic.pt2") as old, zipfile.ZipFile(path, "w") as new:
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
        (lambda n, b: b.replace(b"Symbol('s77'", b"eval(chr(49)"), "", "not a plain expression"),
        (lambda n, b: b, "clinic/data/aotinductor/model/code.so", "it holds 'data/aotinductor"),
        (lambda n, b: b, "clinic/data/constants/opaque_obj_0", "it holds 'data/constants/opaque"),
    ],
)
def test_a_program_that_could_run_code_is_refused(
    change: Callable[[str, bytes], bytes], extra: str, message: str, target_files: Path, tmp_path: Path
) -> None:
    path = rewritten(target_files, tmp_path, change, extra)
    with pytest.raises(WeightsError, match=f"{message}.*executes no code from a file"):
        opened(target("export", str(path)))


def test_a_pickle_in_a_program_stays_unread(target_files: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = rewritten(target_files, tmp_path, pickled_inputs(marker))
    with pytest.raises(WeightsError, match="its example inputs contain more than tensors"):
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


def test_the_identity_covers_everything_that_changes_an_answer(target_files: Path, tmp_path: Path) -> None:
    spec = specs(target_files)["onnx"]
    moved = tmp_path / "elsewhere.onnx"
    shutil.copy(target_files / "clinic.onnx", moved)
    assert target_identity(replace(spec, source=str(moved))) == target_identity(spec)
    moved.write_bytes(moved.read_bytes() + b"\n")
    other = [
        replace(spec, source=str(moved)),
        replace(spec, received="png"),
        replace(spec, input=InputSpec(black=-1)),
        replace(spec, answer=AnswerSpec(kind="probability")),
    ]
    assert len({target_identity(s) for s in (spec, *other)}) == 5


def test_the_limits_of_an_endpoint_do_not_change_its_identity() -> None:
    spec = target("http", "http://127.0.0.1:1/predict")
    same = EndpointSpec(batch_size=1, requests_per_second=9, timeout_s=1, retries=0, token_variable="T", max_images=5)
    assert target_identity(replace(spec, endpoint=same)) == target_identity(spec)
    assert target_identity(replace(spec, endpoint=EndpointSpec(version="2"))) != target_identity(spec)
    assert target_identity(replace(spec, source="http://127.0.0.1:2/predict")) != target_identity(spec)


def test_another_rounding_changes_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = TargetSpec(modality="m", label="t", kind="http", source="http://127.0.0.1:1/predict")
    files = replace(exact, received="png")
    before = target_identity(exact), target_identity(files)
    monkeypatch.setattr("raygrid.store.target_identity.LEVELS_VERSION", 1000)
    assert target_identity(exact) == before[0]
    assert target_identity(files) != before[1]


def test_the_identity_covers_tensors_beside_an_onnx_file(target_files: Path, tmp_path: Path) -> None:
    import onnx

    name = "weights " + "x" * 140  # a length that takes two bytes
    path = tmp_path / "large.onnx"
    save = {"save_as_external_data": True, "location": name, "size_threshold": 0}
    onnx.save_model(onnx.load(target_files / "clinic.onnx"), str(path), **save)
    spec = target("onnx", str(path))
    before = target_identity(spec)
    with (tmp_path / name).open("ab") as file:
        file.write(b"\0")
    assert target_identity(spec) != before
    (tmp_path / name).unlink()
    with pytest.raises(WeightsError, match=r"keeps tensors in weights x+, but .* has no such file"):
        target_identity(spec)


def test_the_identity_of_a_function_hashes_its_module_without_executing_it(
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
    with pytest.raises(WeightsError, match=r"the module their_package\.absent was not found"):
        target_identity(target("callable", "their_package.absent:scores"))


def test_the_identity_does_not_load_pytorch() -> None:
    code = (
        "import sys\nfrom raygrid.store.target_identity import target_identity\nfrom raygrid.spec import TargetSpec\n"
        "target_identity(TargetSpec(modality='m', label='l', kind='http', source='http://127.0.0.1'))\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
