"""Paths on a node in one spelling: `~/folder` for whatever is in the home of the user."""

import re
from pathlib import PurePosixPath


def on_node(path: str | PurePosixPath, user: str = "") -> PurePosixPath:
    """Return a path on a node with `$HOME` and `/home/USER` written as `~`.

    After a `~` in the middle, as from joining two paths, whatever comes before it is void.
    """
    text = re.sub(r"(^|/)\$\{?HOME\}?(?=/|$)", r"\1~", str(path))
    parts = PurePosixPath(text).parts
    parts = parts[max((place for place, part in enumerate(parts) if part == "~"), default=0) :]
    home = {"root": ("/", "root")}.get(user, ("/", "home", user))
    if user and parts[: len(home)] == home:
        parts = ("~", *parts[len(home) :])
    return PurePosixPath(*parts)
