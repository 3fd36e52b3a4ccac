"""Functions that stand in for attacks of installed packages."""

from collections.abc import Callable
from typing import Any

import pytest

from raygrid.spec import AttackSpec, attack


class EntryPoint:
    """A stand-in for the entry point of an installed plug-in."""

    def __init__(self, craft: Callable[..., Any]) -> None:
        self.load = lambda: craft


def installed(monkeypatch: pytest.MonkeyPatch, **crafts: Callable[..., Any]) -> list[AttackSpec]:
    """Install functions as plug-ins by name; return an attack of epsilon 0.04 for each."""
    points = {name: EntryPoint(craft) for name, craft in crafts.items()}
    for place in ("raygrid.spec.attacks.plugins", "raygrid.attacks.plugins.plugins"):
        monkeypatch.setattr(place, lambda: points)
    return [attack(name, 0.04) for name in crafts]
