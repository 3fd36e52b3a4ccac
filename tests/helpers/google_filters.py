"""Filters of lists in Google's API, as far as Ray uses them: `=`, `:*`, AND, OR, NOT and parentheses."""

import re
from collections.abc import Mapping
from typing import Any

from google_rules import GoogleError

_TOKEN = re.compile(r"\s*(\(|\)|=|:\*|[^\s()=:]+)")


def matches(expression: str, item: Mapping[str, Any]) -> bool:
    """Return whether an item passes a filter; an empty filter passes all. Raises GoogleError if it cannot be read."""
    if not expression:
        return True
    filtered = _Filter(expression, item)
    result = filtered.either()
    filtered.expect_end()
    return result


class _Filter:
    """A recursive descent over the words of one filter."""

    def __init__(self, expression: str, item: Mapping[str, Any]) -> None:
        self._expression, self._item = expression, item
        self._words = _TOKEN.findall(expression)
        if "".join(self._words) != re.sub(r"\s", "", expression):
            self._fail()

    def expect_end(self) -> None:
        if self._words:
            self._fail()

    def either(self) -> bool:
        result = self._all()
        while self._next_is("OR"):
            result = self._all() or result
        return result

    def _all(self) -> bool:
        result = self._one()
        while self._next_is("AND"):
            result = self._one() and result
        return result

    def _one(self) -> bool:
        if self._next_is("NOT"):
            return not self._one()
        if self._next_is("("):
            result = self.either()
            if not self._next_is(")"):
                self._fail()
            return result
        if len(self._words) < 2:
            self._fail()
        value: Any = self._item
        for part in self._words.pop(0).split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if self._next_is(":*"):
            return value is not None
        if not self._next_is("=") or not self._words:
            self._fail()
        return bool(value == self._words.pop(0))

    def _next_is(self, word: str) -> bool:
        if self._words[:1] == [word]:
            self._words.pop(0)
            return True
        return False

    def _fail(self) -> None:
        raise GoogleError(400, f"Invalid list filter expression: {self._expression}")
