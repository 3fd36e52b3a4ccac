"""Conversion between frozen dataclasses and JSON values."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from raygrid import hashing
from raygrid.errors import SpecError, unknown_name
from raygrid.hashing import Json

T = TypeVar("T")
# Metadata of a field that was added later. A default value is not written, so that the signatures of older studies
# stay the same.
ABSENT_BY_DEFAULT = {"absent_by_default": True}


def to_plain(value: Any) -> Json:
    """Return a dataclass, mapping or sequence, and all values in it, as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {
            f.name: to_plain(v) for f, v in fields if not (f.metadata.get("absent_by_default") and v == _default(f))
        }
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return cast(Json, value)


def from_plain(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass of type `kind` from the JSON values of `to_plain`.

    Raises SpecError if a field is unknown, with near misses, or missing, or if a value is not valid for `kind`.
    """
    fields = dataclasses.fields(cast(Any, kind))
    known = [f.name for f in fields]
    for name in values:
        if name not in known:
            raise SpecError(f"{kind.__name__}: {unknown_name('field', name, known)}")
    for field in fields:
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in values and not optional:
            raise SpecError(f"{kind.__name__}: field {field.name!r} is missing; add it")
    hints = get_type_hints(kind, localns=vars(hashing))  # `Json` refers to itself by name
    return kind(**{name: _typed(hints[name], value) for name, value in values.items()})


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _typed(hint: Any, value: Any) -> Any:
    """Return `value` with the type of the annotation `hint`: dataclasses, tuples of them, or None."""
    if get_origin(hint) is types.UnionType:
        return None if value is None else _typed(next(h for h in get_args(hint) if h is not types.NoneType), value)
    if get_origin(hint) is tuple:
        return tuple(_typed(get_args(hint)[0], v) for v in value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value)
    return value
