"""The check that every spec uses for its fields."""

from raygrid.errors import SpecError


def require(condition: bool, message: str) -> None:
    """Raise SpecError with `message` if `condition` is false."""
    if not condition:
        raise SpecError(message)
