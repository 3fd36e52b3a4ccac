"""Checks of a .pt2 file besides its operators: structures of inputs and outputs, names, one archive directory."""

import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raygrid.errors import WeightsError
from raygrid.targets.torch_export import load_program

Graph = dict[str, Any]
LEAF: Graph = {"type": None, "context": None, "children_spec": []}
OTHER = "holds .*, not a tuple, list or dict"
MARKER = "imported_by_a_program"
ENUM = {"__enum__": True, "fqn": f"{MARKER}:Kind", "name": "ONE"}
FACTORY = {"default_factory_module": MARKER, "default_factory_name": "Kind", "dict_context": ["a"]}


def node(kind: Any, context: Any, *children: Graph) -> Graph:
    return {"type": kind, "context": context, "children_spec": list(children)}


def tree(kind: Any, context: Any, *children: Graph) -> str:
    return json.dumps([1, node(kind, context, *children)])


IMPORTING = {
    "enum": tree("builtins.dict", json.dumps([ENUM]), LEAF),
    "defaultdict": tree("collections.defaultdict", FACTORY, LEAF),
}


def edited(source: Path, path: Path, change: Callable[[Graph], None]) -> Path:
    """Write a copy of a program whose graph went through `change`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                graph = json.loads(content)
                change(graph)
                content = json.dumps(graph).encode()
            new.writestr(name, content)
    return path


def with_tree(key: str, spec: Any) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        graph["graph_module"]["module_call_graph"][0]["signature"][key] = spec

    return change


def first_node(graph: Graph) -> Graph:
    found: Graph = graph["graph_module"]["graph"]["nodes"][0]
    return found


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a module that nothing has imported."""
    (tmp_path / f"{MARKER}.py").write_text("import enum\n\n\nclass Kind(enum.Enum):\n    ONE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, MARKER, None)  # so that the end of the test removes the module again
    del sys.modules[MARKER]
    torch.utils._pytree.treespec_loads.cache_clear()  # it imports nothing for a text that it has seen
    return MARKER


@pytest.fixture
def no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("PyTorch parsed the file"))


@pytest.mark.parametrize("key", ["in_spec", "out_spec"])
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (IMPORTING["enum"], "holds .*__enum__.*, not a tuple, list or dict"),
        (IMPORTING["defaultdict"], "holds .*defaultdict.*, not a tuple, list or dict"),
        (tree("builtins.tuple", json.dumps(ENUM), LEAF), OTHER),
        (
            tree("builtins.tuple", "null", node("builtins.dict", json.dumps([ENUM]), LEAF)),
            "holds .*, not a tuple, list or dict",
        ),
        (tree("collections.OrderedDict", json.dumps(["a"]), LEAF), OTHER),
        (tree("collections.namedtuple", f"{MARKER}.Kind", LEAF), "holds .*namedtuple.*, not a tuple, list or dict"),
        (tree(f"{MARKER}.Output", json.dumps([["a"], []]), LEAF), "holds .*Output.*, not a tuple, list or dict"),
        (tree("builtins.dict", json.dumps([["a"]]), LEAF), OTHER),
        (tree("builtins.dict", json.dumps(["a", "b"]), LEAF), OTHER),
        (tree("builtins.dict", json.dumps(["a=f()"]), LEAF), OTHER),
        (tree("builtins.dict", "[" * 100_000, LEAF), OTHER),
        (tree("builtins.list", None, LEAF), OTHER),
        (tree(None, None, LEAF), OTHER),
        (json.dumps([1, {**LEAF, "more": 1}]), OTHER),
        (json.dumps([2, LEAF]), "has the protocol 2; expected 1"),
        (json.dumps([True, LEAF]), "has the protocol True; expected 1"),
        (json.dumps([1]), "is not a protocol and a tree in JSON"),
        ("no JSON", "is not a protocol and a tree in JSON"),
        ([1, LEAF], "is not a protocol and a tree in JSON"),
        (None, "is not a protocol and a tree in JSON"),
    ],
)
@pytest.mark.usefixtures("no_loading")
def test_a_structure_of_more_than_tuples_lists_and_dicts_is_refused(
    key: str, spec: Any, message: str, target_files: Path, tmp_path: Path, marker: str
) -> None:
    path = edited(target_files / "clinic.pt2", tmp_path / "planted.pt2", with_tree(key, spec))
    with pytest.raises(WeightsError, match=f"its {key} {message}.*executes no code from a file"):
        load_program(path)
    assert marker not in sys.modules


@pytest.mark.parametrize("kind", IMPORTING)
def test_pytorch_alone_would_import_the_module(kind: str, target_files: Path, tmp_path: Path, marker: str) -> None:
    change = with_tree("out_spec", IMPORTING[kind])
    torch.export.load(edited(target_files / "clinic.pt2", tmp_path / "planted.pt2", change))
    assert marker in sys.modules


@pytest.mark.parametrize(
    ("depth", "message"), [(101, "is nested deeper than 100"), (10_000, "out_spec is not a|deeper")]
)
@pytest.mark.usefixtures("no_loading")
def test_a_deep_structure_is_refused(depth: int, message: str, target_files: Path, tmp_path: Path) -> None:
    opening = '{"type": "builtins.list", "context": "null", "children_spec": ['
    spec = f"[1, {opening * (depth - 1)}{json.dumps(LEAF)}{']}' * (depth - 1)}]"
    path = edited(target_files / "clinic.pt2", tmp_path / "planted.pt2", with_tree("out_spec", spec))
    with pytest.raises(WeightsError, match=f"({message}).*executes no code from a file"):
        load_program(path)


@pytest.mark.parametrize("depth", [900, 100_000])  # the JSON reader takes the first, but not the second
def test_a_deep_graph_ends_in_a_message(depth: int, target_files: Path, tmp_path: Path) -> None:
    path = edited(target_files / "clinic.pt2", tmp_path / "deep.pt2", lambda graph: graph.update(verifiers="HERE"))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b'"HERE"', b"[" * depth + b"]" * depth))
    with pytest.raises(WeightsError, match=r"deep\.pt2 cannot be opened"):
        load_program(path)


def named(**fields: Any) -> Callable[[Graph], None]:
    return lambda graph: first_node(graph).update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: first_node(g)["metadata"].update(source_fn_stack="a,torch.ctypes.cdll./tmp/planted"), "comes from"),
        (lambda g: first_node(g)["metadata"].update(source_fn_stack="a,relu;b,math.ctypes.cdll"), "comes from"),
        (lambda g: first_node(g)["metadata"].update(source_fn_stack="a,#other:operator"), "comes from"),
        (lambda g: first_node(g)["inputs"][0].update(arg={"as_operator": "torch.ctypes.cdll.c"}), "it calls 'torch.ct"),
        (named(target="torch.ops.aten.save.default"), "it calls 'torch.ops.aten.save"),
        (named(name="a\nprint()"), "a name in it is"),
        (with_tree("forward_arg_names", ["x=print()"]), "a forward_arg_names in it is"),
        (lambda g: g["graph_module"]["module_call_graph"][1].update(fqn='a"]'), "its fqn is"),
        (lambda g: g["range_constraints"].update({"print()": {}}), r"it holds the name 'print\(\)'"),
    ],
)
@pytest.mark.usefixtures("no_loading")
def test_a_name_that_could_be_resolved_or_compiled_is_refused(
    change: Callable[[Graph], None], message: str, target_files: Path, tmp_path: Path
) -> None:
    path = edited(target_files / "clinic.pt2", tmp_path / "planted.pt2", change)
    with pytest.raises(WeightsError, match=f"{message}.*executes no code from a file"):
        load_program(path)


def directory(archive: bytes) -> tuple[int, int, int]:
    """Return the number of entries, the size and the offset of a zip file's directory."""
    number, size, offset = struct.unpack_from("<HLL", archive, archive.rfind(b"PK\5\6") + 10)
    return number, size, offset


def two_directories(good: bytes, bad: bytes) -> bytes:
    """Return a zip file with two directories: Python reads `good`, the last; PyTorch `bad`, at the stated offset."""
    number, size, bad_offset = directory(bad)
    _, good_size, good_offset = directory(good)
    assert good_size == size
    bad, good = bad[: bad_offset + size], good[: good_offset + size]
    shift = len(bad) + good_offset - bad_offset  # Python adds it to the offset of each entry
    moved, position = bytearray(good), good_offset
    while position < len(good):
        name, extra, comment = struct.unpack_from("<3H", moved, position + 28)
        (start,) = struct.unpack_from("<L", moved, position + 42)
        struct.pack_into("<L", moved, position + 42, (len(bad) + start - shift) % 2**32)
        position += 46 + name + extra + comment
    return bad + bytes(moved) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, size, bad_offset, 0)


def test_pytorch_reads_the_entries_that_were_checked(target_files: Path, tmp_path: Path, marker: str) -> None:
    plain = edited(target_files / "clinic.pt2", tmp_path / "plain.pt2", lambda graph: None)
    planted = edited(plain, tmp_path / "planted.pt2", with_tree("out_spec", IMPORTING["enum"]))
    path = tmp_path / "both.pt2"
    path.write_bytes(two_directories(plain.read_bytes(), planted.read_bytes()))
    assert load_program(path).input_shape == (None, 3, 32, 32)
    assert marker not in sys.modules
    torch.export.load(path)  # what would have happened
    assert marker in sys.modules


class Returns(nn.Module):
    """Returns a structure around one tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleDict({"first layer-1": nn.Conv2d(3, 2, 3)})

    def forward(self, images: torch.Tensor) -> Any:
        scores = self.layers["first layer-1"](images).mean(dim=(2, 3))
        if self.kind == "tuple":
            return scores, (scores + 1,)
        if self.kind == "list":
            return [scores, scores + 1]
        return {"logits": scores, "more": {1: scores + 1}} if self.kind == "dict" else scores


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "tuple", "list", "dict"])
def test_tuples_lists_and_dicts_of_tensors_load(kind: str, strict: bool, tmp_path: Path) -> None:
    network, images = Returns(kind).eval(), torch.rand(2, 3, 8, 8)
    torch.export.save(torch.export.export(network, (images,), strict=strict), tmp_path / "real.pt2")
    program = load_program(tmp_path / "real.pt2")
    torch.testing.assert_close(program.network(images), network(images))
    assert program.input_shape == (2, 3, 8, 8)
