"""Two figures on how docstrings read, held at the level of httpx and foolbox."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_WHATS = 1.5  # per 1,000 words; httpx has 0.0, foolbox 0.0, submitit 0.7
MOST_BARE_RETURNS = 0.01  # share of functions whose docstring begins with "Return what"


def docstrings(*kinds: type[ast.AST]) -> Iterator[str]:
    for path in (ROOT / "raygrid").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield text


def share_of_whats(texts: Iterator[str]) -> float:
    """Return how often "what" stands in 1,000 words of prose, code between backticks left out."""
    words = [word.lower() for text in texts for word in re.findall(r"[A-Za-z']+", re.sub(r"`[^`]*`", "", text))]
    return 1000 * words.count("what") / len(words)


def test_docstrings_name_the_thing() -> None:
    whats = share_of_whats(docstrings(ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    assert whats < MOST_WHATS


def test_functions_do_not_return_what() -> None:
    texts = list(docstrings(ast.FunctionDef, ast.AsyncFunctionDef))
    assert len(texts) > 500
    assert sum(text.startswith("Return what") for text in texts) / len(texts) < MOST_BARE_RETURNS


def test_the_figure_counts_words() -> None:
    assert share_of_whats(iter(["Return what a `what` holds, and what not."])) == 1000 * 2 / 7
