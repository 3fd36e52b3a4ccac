"""The shell commands of a page of docs/, for tests that run them as a reader pastes them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def commands_of(page: str, heading: str) -> str:
    """Return the shell blocks below a heading of a page, up to the next heading of any level, one after the other.

    Raises ValueError if there is none.
    """
    text = (DOCS / page).read_text()
    parts = re.split(r"^#+ +(.*)$", text, flags=re.MULTILINE)  # text, heading, text, heading, ...
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    blocks = re.findall(r"^```bash\n(.*?)^```$", sections.get(heading, ""), re.MULTILINE | re.DOTALL)
    if not blocks:
        raise ValueError(f"docs/{page}: expected shell commands below the heading {heading!r}, found none")
    return "".join(blocks)
