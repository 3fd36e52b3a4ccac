"""`import raygrid as rg`: its names, their docstrings, and how little the import loads."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import raygrid as rg

NAMES = {
    *("StudySpec", "ModalitySpec", "DatasetSpec", "SplitSpec", "Recipe", "ModelSpec", "EnsembleSpec"),
    *("model_grid", "PRETRAINED_ON"),
    *("AttackSpec", "TransferSpec", "attack", "attack_grid", "run_class_attack"),
    *("TargetSpec", "InputSpec", "AnswerSpec", "EndpointSpec", "Margins"),
    *("main", "run_study", "RunOptions", "plan_study"),
    *("open_study", "StudyFolder"),
    *("RaygridError", "__version__"),
}


def test_the_public_names_are_these() -> None:
    assert set(rg.__all__) == NAMES
    assert sorted(dir(rg)) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_can_be_imported(name: str) -> None:
    assert getattr(rg, name) is not None


@pytest.mark.parametrize("name", sorted(NAMES - {"PRETRAINED_ON", "__version__"}))
def test_each_name_has_a_docstring_of_its_own(name: str) -> None:
    text = inspect.getdoc(getattr(rg, name)) or ""
    assert len(text.split()) >= 8
    assert not text.startswith(f"{name}(")  # what dataclasses write themselves


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(rg.__file__).read_text())
    (guarded,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imported = {
        alias.asname: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert imported == rg._HOME


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'raygrid' has no attribute 'StudySpek'"):
        rg.StudySpek  # noqa: B018


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import raygrid", ("torch", "ray", "mlflow", "pandas", "numpy")),
        ("import raygrid as rg; rg.StudySpec; rg.attack_grid", ("torch", "ray", "mlflow")),
        ("import raygrid as rg; rg.open_study; rg.StudyFolder", ("torch", "ray", "mlflow")),
        ("import raygrid as rg; rg.main", ("torch", "ray", "mlflow")),
        ("import raygrid.scoring.engine, raygrid.models.zoo", ("ray", "mlflow", "h5py", "simplejpeg", "matplotlib")),
        ("import raygrid.data.images.decode", ("simplejpeg", "pydicom", "torch")),
    ],
)
def test_heavy_packages_are_imported_only_for_work(code: str, absent: tuple[str, ...]) -> None:
    check = f"{code}; import sys; print(*[name for name in {absent!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "\n"
