"""Write docs/explanation/benchmarks.md from the result files. Run it after a benchmark."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "explanation" / "benchmarks.md"
_HEAD = """\
# Benchmarks

`benchmarks/page.py` writes this page from `benchmarks/results/`. A value from several rounds is the median (lowest to
highest). Contenders ran in turn, and ratios are taken within a round. `python benchmarks/NAME.py` runs a benchmark;
`make peers` installs the libraries to compare with.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written to {PAGE.relative_to(_ROOT)}")


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        versions = ", ".join(
            f"{name} {values['versions'][name]}" for name in ("torch", "ray") if values["versions"][name]
        )
        made = f"{values['gpu'] or values['processor']}, {versions}, commit {values['commit']}"
        parts.append(f"\n## {path.stem}\n\n{values['about']}\n\n{made}:\n\n")
        parts.append("".join(f"{line}\n" for line in _lines(values["result"])))
    return "".join(parts)


def _lines(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield nested bullets; a mapping that holds no further ones is one line."""
    for name, value in values.items():
        bullet = f"{'  ' * depth}- {name}"
        if not isinstance(value, Mapping) or _is_spread(value):
            yield f"{bullet}: {_text(value)}"
        elif all(not isinstance(part, Mapping) or _is_spread(part) for part in value.values()):
            yield f"{bullet}: " + "; ".join(f"{key} {_text(part)}" for key, part in value.items())
        else:
            yield bullet
            yield from _lines(value, depth + 1)


def _is_spread(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"median", "lowest", "highest"}


def _text(value: Any) -> str:
    if _is_spread(value):
        return f"{value['median']:.4g} ({value['lowest']:.4g} to {value['highest']:.4g})"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) if not any(isinstance(v, Mapping) for v in value) else _runs(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}" if isinstance(value, float) else str(value)


def _runs(runs: list[Mapping[str, Any]]) -> str:
    """Return a list of runs as the values that each measure had."""
    return "; ".join(f"{name} {_text([run[name] for run in runs])}" for name in runs[0])


if __name__ == "__main__":
    main()
