"""Peak memory while raygrid prepares 20,000 PatchCamelyon patches: driver, Ray and its workers, on two CPUs.

The benchmark sums the proportional set size of the driver and all its descendants five times a second, and subtracts
their size when nothing was being prepared. Pages shared by several processes are counted once; Linux only.
"""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import preparation
from common import write_result

from raygrid.study.cluster import connected

NUM_PATCHES = 20_000
_PERIOD_S = 0.2


def main() -> None:
    """Lay the patches out, prepare them, and write the peak."""
    with tempfile.TemporaryDirectory() as name, connected(None, num_cpus=2):
        root = Path(name)
        preparation.lay_out_patches(root, NUM_PATCHES)
        idle, peak = _held(), 0
        stop = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(_PERIOD_S):
                peak = max(peak, _held())

        watcher = threading.Thread(target=watch)
        watcher.start()
        count = preparation.prepare(preparation.PATCH, root)
        stop.set()
        watcher.join()
    result = {
        "images": count,
        "idle, driver and Ray, MB": round(idle / 1e6),
        "peak, driver and Ray, MB": round(peak / 1e6),
    }
    print(result)
    write_result("preparation_memory", __doc__ or "", result)


def _held() -> int:
    """Return the proportional set size, bytes, of this process and all its descendants."""
    return sum(_proportional_set_size(process) for process in _family())


def _family() -> Iterator[Path]:
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[process.name] = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue  # it ended meanwhile
    found = {Path("/proc/self").resolve().name}
    while more := {name for name, parent in parents.items() if parent in found} - found:
        found |= more
    return (Path("/proc") / name for name in found)


def _proportional_set_size(process: Path) -> int:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
