"""The checks that every spec uses for its fields."""

from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from raygrid.errors import SpecError, unknown_name

_LARGEST = 1e300  # of a number: beyond it, products of two overflow


def require(condition: bool, message: str) -> None:
    """Raise SpecError with `message` if `condition` is false."""
    if not condition:
        raise SpecError(message)


def require_known(kind: str, value: object, known: Collection[str]) -> None:
    """Raise SpecError, with near misses, if a name of some `kind` is not among the `known` ones."""
    if value not in known:
        require(isinstance(value, str), f"{kind} is {value!r}; expected one of {', '.join(known)}")
        raise SpecError(unknown_name(kind, str(value), known))


def number(name: str, value: Any, expected: str = "a number") -> float:
    """Return a value as a Python number; an int stays an int, and float32's 0.02 becomes 0.02.

    Raises SpecError, with the `name` of the field and the words of `expected`, unless it is a finite real number.
    """
    require(_is_number(value), f"{name} is {value!r}; expected {expected}")
    if isinstance(value, np.floating):
        return float(str(value))  # the shortest decimal, as it was typed: float() would append float32's rounding
    return int(value) if isinstance(value, Integral) else float(value)


def whole_number(name: str, value: Any, expected: str = "a whole number") -> int:
    """Return a value as an int; NumPy's integers are accepted.

    Raises SpecError, with the `name` of the field and the words of `expected`, unless it is a whole number: neither
    True, nor 2.0, nor "2".
    """
    require(_is_number(value) and isinstance(value, Integral), f"{name} is {value!r}; expected {expected}")
    return int(value)


def truth(name: str, value: object) -> bool:
    """Return a value as a bool. Raises SpecError, with the `name` of the field, unless it is True or False."""
    require(isinstance(value, (bool, np.bool_)), f"{name} is {value!r}; expected True or False")
    return bool(value)


def text(name: str, value: object) -> str:
    """Return a value that is text. Raises SpecError, with the `name` of the field, if it is not."""
    require(isinstance(value, str), f"{name} is {value!r}; expected text")
    return str(value)


def sequence(name: str, value: Any, of: str) -> tuple[Any, ...]:
    """Return the entries of a tuple, list or array as a tuple. Raises SpecError, with the `name` of the field, if it is
    none of them.

    Args:
        of: the kind of its entries, for the message.
    """
    many = isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes))
    require(many, f"{name} is {value!r}; expected a tuple of {of}")
    return tuple(value)


def numbers(name: str, value: object) -> tuple[float, ...]:
    """Return a list or tuple of numbers as a tuple of Python numbers. Raises SpecError if it is none."""
    return tuple(number(name, one, "numbers") for one in sequence(name, value, "numbers"))


def _is_number(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return False
    try:
        return abs(float(value)) < _LARGEST  # false for NaN
    except OverflowError:  # of a whole number
        return False
