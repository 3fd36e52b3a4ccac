"""A Slurm cluster made of boxes, with raygrid installed as docs/how-to/cluster-slurm.md says."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lab import Lab
from page_commands import DOCS, commands_of
from slurm_lab import NODES

PAGE = "how-to/cluster-slurm.md"
_ROOT = Path(__file__).parents[2]
_WAITS = {"PENDING", "RUNNING", "CONFIGURING"}
# The sizes of a node of the lab. Without --exclusive, a second job may share it.
_SMALL = {
    "#SBATCH --nodes=4": "#SBATCH --nodes=2",
    "#SBATCH --gpus-per-node=4": "",
    "#SBATCH --cpus-per-task=32": "#SBATCH --cpus-per-task=1",
    "#SBATCH --mem=0": "#SBATCH --mem=1900M",
    "#SBATCH --exclusive": "",
    "--device cuda": "--device cpu",
    ' --data-root "$data"': "",
    "experiments/full_grid.py": "tests/helpers/tiny_grid.py",
}


class Cluster:
    """The lab, with raygrid installed in the home folder that its nodes share."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(Path(__file__).with_name("slurm_lab.py"), folder, _ROOT)
        self.home = self.lab.root / (folder / "home").relative_to("/")
        self.shared = folder / "shared"
        self.study = self.shared / "studies" / "paper"

    def install(self) -> None:
        """Run the commands of the page, and write the recipe with small sizes."""
        self.lab.run("one", commands_of(PAGE, "Install raygrid"), timeout=900)

        self.write_recipe()

    def write_recipe(self, name: str = "slurm.sh", changes: Mapping[str, str] | None = None) -> None:
        """Write the recipe into the cluster's docs, with small sizes and other changes.

        Raises AssertionError if a change does not apply.
        """
        recipe = (DOCS / "how-to" / "slurm.sh").read_text()
        for old, new in (_SMALL | dict(changes or {})).items():
            assert old in recipe, f"slurm.sh has no {old!r}"
            recipe = recipe.replace(old, new)
        (self.home / "raygrid" / "docs" / "how-to" / name).write_text(recipe)

    def submit(self, command: str = "") -> int:
        """Submit the recipe with the page's command, or another one; return the number of the job."""
        said = self.lab.run("one", command or commands_of(PAGE, "Submit it")).stdout
        return int(re.findall(r"^Submitted batch job (\d+)$", said, re.MULTILINE)[-1])

    def field(self, job: int, name: str) -> str:
        """Return a field of `scontrol show job`."""
        shown = self.lab.run("one", f"scontrol show job {job}").stdout
        return str(re.findall(rf"\b{name}=(\S*)", shown)[0])

    def log(self, job: int) -> str:
        """Return the output of a job."""
        path = self.home / "raygrid" / f"raygrid-{job}.log"
        return path.read_text() if path.exists() else ""

    def wait(self, job: int, until: Callable[[], bool], timeout: float = 600) -> None:
        """Wait until something holds. Raises AssertionError, with the job's output, if the job ends before."""
        deadline = time.monotonic() + timeout
        while not until():
            assert self.field(job, "JobState") in _WAITS, self.log(job)
            assert time.monotonic() < deadline, self.log(job)
            time.sleep(0.3)

    def units(self) -> int:
        """Return the number of scored units of the study."""
        return len(list(self.study.glob("scores/**/*.parquet")))

    def are_scoring(self) -> bool:
        """Whether each node has a process that scores."""
        return all("Scorer" in self.processes(node) for node in NODES)

    def processes(self, node: str) -> str:
        """Return the commands of the user's processes on a node."""
        return self.lab.run(node, "ps -u ubuntu -o args=", user="root", check=False).stdout

    def end_of(self, job: int, timeout: float = 600) -> tuple[str, str]:
        """Wait until a job has ended; return its state and its output. Raises AssertionError if it does not end."""
        deadline = time.monotonic() + timeout
        while (state := self.field(job, "JobState")) in _WAITS | {"COMPLETING"}:
            assert time.monotonic() < deadline, f"job {job} is {state} after {timeout} s\n{self.log(job)}"
            time.sleep(0.3)
        return state, self.log(job)

    def left(self) -> dict[str, str]:
        """Return the processes and temporary files of the user on each node."""
        files = "find /tmp /dev/shm -not -user root -not -name 'uv-*'"
        return {node: self.processes(node) + self.lab.run(node, files, user="root").stdout for node in NODES}
