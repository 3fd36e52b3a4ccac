"""Paths on a node in one spelling: `~/folder` for whatever is in the home of the user."""

import re
from pathlib import PurePosixPath


def on_node(path: str | PurePosixPath) -> PurePosixPath:
    """Return a path on a node with `$HOME`, `/home/USER` and `/root` written as `~`.

    After a `~` in the middle, as from joining two paths, whatever comes before it is void.
    """
    text = re.sub(r"(^|/)\$\{?HOME\}?(?=/|$)", r"\1~", str(path))
    text = re.sub(r"^(/home/[^/]+|/root)(?=/|$)", "~", text)
    parts = PurePosixPath(text).parts
    return PurePosixPath(*parts[max((place for place, part in enumerate(parts) if part == "~"), default=0) :])
