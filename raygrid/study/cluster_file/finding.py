"""One sentence about a cluster file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Where something was found, what it is, why it matters on a node, and the remedy.

    A fault keeps nodes from working, exposes them, or sends data out. A note depends on the image or on files that
    the check does not see.
    """

    text: str
    is_fault: bool = True


def note(text: str) -> Finding:
    return Finding(text, is_fault=False)
