"""The exception tree as it is drawn, and hints for misspelt names."""

import pickle
import re

import pytest

from raygrid import errors
from raygrid.errors import DataError, RaygridError, did_you_mean, listed, unknown_name


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
    quoted = "list.txt, row 2: got \0a \x1b[31mred \u202eb \ud800\nécran 眼"
    shown = r"list.txt, row 2: got \x00a \x1b[31mred \u202eb \ud800" "\nécran 眼"
    error = pickle.loads(pickle.dumps(DataError(quoted)))  # Ray's workers send errors as pickles
    assert str(error) == shown
    str(error).encode()


def test_a_long_line_of_a_message_keeps_its_place_and_its_remedy() -> None:
    shown = str(DataError(f"table.csv, row 2: got {'x' * 10**6}; repair the row\nsecond line"))
    assert len(shown) < 2100
    assert shown.startswith("table.csv, row 2: got xxx")
    assert shown.endswith("xxx; repair the row\nsecond line")
    assert str(DataError("x" * 2000)) == "x" * 2000
