"""The exception tree as it is drawn, and hints for misspelt names."""

import ast
import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import raygrid
from raygrid import errors
from raygrid.data.damage import DamagedFileError
from raygrid.errors import DataError, RaygridError, did_you_mean, listed, one_line, unknown_name

CLASSES = [
    kind
    for kind in (*vars(errors).values(), DamagedFileError)
    if inspect.isclass(kind) and issubclass(kind, RaygridError)
]
LINE_BREAKS = [c for c in map(chr, range(0x110000)) if len(f"{c}.".splitlines()) > 1]


def subclasses_of(kind: type[Exception]) -> dict[str, str]:
    """Return the name of each class below `kind`, and the name of its parent."""
    found: dict[str, str] = {}
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= {child.__name__: kind.__name__, **subclasses_of(child)}
    return found


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        node = re.match(r"([│ ]*(?:├── |└── ))?([A-Z]\w+Error)\b", line)
        if node is None:
            continue
        depth = len(node[1] or "") // 4
        path[depth:] = [node[2]]
        if depth:
            drawn[node[2]] = path[depth - 1]
    assert drawn == subclasses_of(RaygridError)
    assert len(drawn) == 10


def test_every_class_has_a_summary_and_advice() -> None:
    for name in subclasses_of(RaygridError):
        assert "\n\n" in (getattr(errors, name).__doc__ or ""), name


def test_a_wrong_declaration_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="wrong"):
        raise errors.SpecError("wrong")


def test_a_misspelt_name_gets_similar_names() -> None:
    assert did_you_mean("densnet121", ["densenet121", "vgg16"]) == " did you mean 'densenet121'?"
    assert did_you_mean("zzz", ["densenet121"]) == ""
    assert unknown_name("attack", "zzz", []) == "unknown attack 'zzz'; Known: none"


def test_a_long_list_of_known_names_is_cut() -> None:
    message = unknown_name("label", "zzz", [f"label{k:02d}" for k in range(30)])
    assert message.endswith("label23 and 6 more")
    assert listed(["a", "b"], limit=2) == "a, b"
    assert listed(["a", "b", "c"], limit=2, separator="; ") == "a; b; …"


def test_a_message_shows_no_control_characters() -> None:
    quoted = "list.txt, row 2: got \0a \x1b[31mred \u202eb \ud800, écran 眼"
    error = DataError(quoted)
    assert str(error) == one_line(quoted) == r"list.txt, row 2: got \x00a \x1b[31mred \u202eb \ud800, écran 眼"
    str(error).encode()


@pytest.mark.parametrize("kind", CLASSES)
def test_quoted_text_adds_no_line(kind: type[RaygridError]) -> None:
    assert len(LINE_BREAKS) == 10
    for line_break in LINE_BREAKS:
        error = kind(f"a.dcm: got {line_break}error: all is well", f"second{line_break}line")
        assert [line.partition("\\")[0] for line in str(error).splitlines()] == ["a.dcm: got ", "second"]
        again = error.with_context(f"target{line_break}: ", f"{line_break}; remedy")
        assert len(str(again).splitlines()) == 2
    assert str(kind("a\r\nb")) == r"a\r\nb"


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_is_copied_and_sent_unchanged(kind: type[RaygridError]) -> None:
    error = kind("\x1b\n" * 5000, "x" * 5000, r"as written: \n", "")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(same) is kind
        assert same.lines == error.lines
        assert str(same) == str(error)


def test_an_error_gets_a_context_and_keeps_its_lines() -> None:
    error = errors.StoreError("s3://bucket refuses access", "Check the credentials")
    again = error.with_context("target 'm': ", " (read from s3://bucket)")
    assert type(again) is errors.StoreError
    assert again.lines == ("target 'm': s3://bucket refuses access", "Check the credentials (read from s3://bucket)")
    assert str(errors.StoreError("first").with_context("before ", " after")) == "before first after"
    assert str(errors.StoreError().with_context("before", " after")) == "before after"
    assert (str(errors.StoreError()), errors.StoreError().lines) == ("", ())


def test_a_long_line_of_a_message_keeps_its_place_and_its_remedy() -> None:
    for filler in ("x", "\n"):
        error = DataError(f"table.csv, row 2: got {filler * 10**6}; repair the row", "second line")
        first, second = error.lines
        assert len(first) <= 2000
        assert first.startswith("table.csv, row 2: got " + one_line(filler))
        assert first.endswith(one_line(filler) + "; repair the row")
        assert second == "second line"
    assert str(DataError("x" * 2000)) == "x" * 2000


def test_lines_are_given_as_arguments() -> None:
    """A line break in a literal would be shown as an escape."""
    wrong = [
        f"{path.name}:{call.lineno}"
        for path in sorted(Path(raygrid.__file__).parent.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and is_message(call)
        and any(breaks_a_line(literal.value) for literal in literals_in(call))
    ]
    assert not wrong


def test_the_search_for_literals_finds_line_breaks() -> None:
    for code, found in {
        r'StoreError(f"{a}\nb")': True,
        r'tell("a", "\n".join(b))': True,
        r'errors.DataError("a", *b.split("\n"))': False,
    }.items():
        call = ast.parse(code, mode="eval").body
        assert isinstance(call, ast.Call)
        assert is_message(call)
        assert any(breaks_a_line(literal.value) for literal in literals_in(call)) == found


def is_message(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    return name.endswith(("Error", "Warning")) or name in ("tell", "note", "fail")


def literals_in(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield the literals below a node, except the separators of `split`."""
    if isinstance(node, ast.Constant):
        yield node
    is_split = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split"
    for child in ast.iter_child_nodes(node):
        if not (is_split and isinstance(child, ast.Constant)):
            yield from literals_in(child)


def breaks_a_line(text: object) -> bool:
    return isinstance(text, str) and not set(LINE_BREAKS).isdisjoint(text)
