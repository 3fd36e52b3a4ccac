"""How every benchmark here measures: warm-up, contenders in turn, median and spread, ratios within one run."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "torchvision", "timm", "ray", "numpy", "pandas", "pyarrow", "pillow", "h5py")

Contender = Callable[[], int]


def compare(
    contenders: Mapping[str, Contender],
    *,
    rounds: int,
    reference: str,
    unit: str,
    warm_up: Mapping[str, Contender] | None = None,
) -> dict[str, Any]:
    """Return how many units per second each contender does, and its ratio to the reference.

    Each contender, or its smaller stand-in `warm_up`, runs once unmeasured; then all run in turn, `rounds` times, the
    order reversed every other round, so that a drift of the machine meets all alike. The ratio is taken within each
    round.

    Args:
        contenders: name -> function that does the work and returns how many units it did.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for work in (warm_up or contenders).values():
        work()
    for number in range(rounds):
        names = list(contenders)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            begun = time.perf_counter()
            count = contenders[name]()
            rates[name].append(count / (time.perf_counter() - begun))
    result = {
        name: {
            f"{unit} per second": _median_and_spread(rates[name]),
            f"ratio to {reference}": _median_and_spread(
                [a / b for a, b in zip(rates[name], rates[reference], strict=True)]
            ),
        }
        for name in contenders
    }
    for name, values in result.items():
        shown = "; ".join(
            f"{what} {v['median']:.4g} ({v['lowest']:.4g} to {v['highest']:.4g})" for what, v in values.items()
        )
        print(f"  {name}: {shown}", flush=True)
    return {"rounds": rounds, **result}


def write_result(name: str, about: str, result: Mapping[str, Any]) -> None:
    """Write results/<name>.json: what was measured, on what, with which versions."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    values = {"benchmark": name, "about": " ".join(about.split()), **_machine(), "result": result}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(Path(__file__).parent.parent)}")


def add_to_result(name: str, part: str, result: Mapping[str, Any]) -> None:
    """Add one part to results/<name>.json, with its own commit and machine; replace the part if it is there."""
    path = RESULTS / f"{name}.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    machine = _machine()
    made = {"commit": machine["commit"], "processor": machine["processor"], "torch": machine["versions"]["torch"]}
    values["result"][part] = {**made, **result}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    print(f"{part} added to {path.relative_to(Path(__file__).parent.parent)}")


def _median_and_spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "lowest": round(min(values), 4),
        "highest": round(max(values), 4),
    }


def _machine() -> dict[str, Any]:
    model = next(
        (line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), platform.processor()
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "processor": model,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": commit.stdout.strip() or None,
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
