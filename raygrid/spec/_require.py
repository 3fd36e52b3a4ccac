"""The one way in which a contract is checked."""

from raygrid.errors import SpecError


def require(claim: bool, message: str) -> None:
    """Raise SpecError with `message` unless `claim` holds."""
    if not claim:
        raise SpecError(message)
