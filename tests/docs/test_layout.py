"""How tests are laid out: no test file imports another one, none reaches for a private name of raygrid.

The cases of a test have a fixed order: pytest-xdist compares the order of its two processes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each import in a file; the name is "" for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_a_file_imports_no_test_and_no_private_name(path: Path) -> None:
    found = list(imports(path))
    assert [module for module, _ in found if module.rpartition(".")[2].startswith("test_")] == []
    assert [f"{m}.{name}" for m, name in found if m.startswith("raygrid") and is_private(name)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_private_name_is_replaced(path: Path) -> None:
    replaced = [
        argument.value.rpartition(".")[2]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
        for argument in node.args[:2]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    assert [name for name in replaced if is_private(name)] == []


def orders_by_hash(node: ast.expr) -> bool:
    """Whether an expression is a set, or the difference or union of one, which has another order in each process."""
    if isinstance(node, ast.BinOp):
        return orders_by_hash(node.left) or orders_by_hash(node.right)
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return is_call or isinstance(node, (ast.Set, ast.SetComp))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_cases_come_from_a_set(path: Path) -> None:
    lines = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parametrize"
        for argument in node.args[1:2]
        if orders_by_hash(argument)
    ]
    assert lines == [], "sort the cases"
