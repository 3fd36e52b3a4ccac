"""The identities of targets stay what they were: a changed one makes finished studies score their targets again."""

from pathlib import Path
from typing import Any

import pytest

from raygrid.spec import AnswerSpec, EndpointSpec, InputSpec, TargetSpec
from raygrid.store.target_identity import target_identity

IMAGENET = InputSpec(size=224, channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SOURCES = {  # kind -> its fields, with {folder} for the folder of its files
    "checkpoint": {"source": "clinic_network:make", "weights": "{folder}/clinic.safetensors", "received": "jpeg:90"},
    "export": {"source": "{folder}/clinic.pt2", "attacked_through": True},
    "onnx": {"source": "{folder}/clinic.onnx", "received": "png"},
    "callable": {"source": "clinic_network:answer", "answer": AnswerSpec(kind="probability")},
    "http": {
        "source": "https://clinic.test/predict",
        "input": InputSpec(size=224),
        "received": "dicom",
        "endpoint": EndpointSpec(version="3", batch_size=4, max_images=100),
    },
}


def declared(kind: str, folder: Path) -> TargetSpec:
    fields: dict[str, Any] = {"input": IMAGENET} | SOURCES[kind]
    fields = {k: v.format(folder=folder) if isinstance(v, str) else v for k, v in fields.items()}
    return TargetSpec(modality="pathology", label="clinic", kind=kind, **fields)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files that the targets name; no identity depends on where it is."""
    (tmp_path / "clinic.safetensors").write_bytes(b"weights")
    (tmp_path / "clinic.pt2").write_bytes(b"program")
    (tmp_path / "clinic.onnx").write_bytes(b"graph\n\x08location\x12\x0bclinic.data")
    (tmp_path / "clinic.data").write_bytes(b"tensors")
    (tmp_path / "clinic_network.py").write_bytes(b"raise RuntimeError('executed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "identity"),
    [
        ("checkpoint", "4701482332897c831a2582ef7d0c9139a39a1fd501d04f396e50d04ef7734272"),
        ("export", "cba963cecb3283e98d05983626e97eca8422d1594bbc536db02034489549660c"),
        ("onnx", "2a10a025e266eee3e5f158bafdc4e4d8e73e24b34c6d262e5de89d02eba74855"),
        ("callable", "3978411c383273f388fc7aa9f54a8553b556fdbe48fe6043d0eaa6268f3f9ae7"),
        ("http", "09079ee95bcd2247eed30fd0854a15f9bf16327413737b0368d15d85799f4cb5"),
    ],
)
def test_the_identity_of_each_kind_stays(kind: str, identity: str, files: Path) -> None:
    assert target_identity(declared(kind, files)) == identity
