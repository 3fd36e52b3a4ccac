"""docs/how-to/cluster-local.yaml on three machines: a laptop, a head and a worker, with the commands of its page."""

import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from lab import Lab, missing
from page_commands import commands_of
from small_site import NODES

ROOT = Path(__file__).parents[2]
PAGE = "how-to/cluster-local.md"
FILE = "docs/how-to/cluster-local.yaml"
PROGRAM = "tests/helpers/tiny_grid.py"
# What the page tells the reader to fill in, then the sizes, and the small study.
CHANGES = {
    "head_ip: REPLACE": f"head_ip: {NODES['node1']}",
    "worker_ips: [REPLACE]": f"worker_ips: [{NODES['node2']}]",
    "ssh_user: REPLACE": "ssh_user: ubuntu",
    "RAYGRID_CACHE=REPLACE": "RAYGRID_CACHE=/tmp/raygrid",
    "--disable-usage-stats": "--disable-usage-stats --num-cpus=1",
    '  "~/raygrid/analysis"': f'  "~/raygrid/{PROGRAM}": "{PROGRAM}"\n  "~/raygrid/analysis"',
}
POLL_S = 0.5


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if reason := missing(tmp_path_factory.mktemp("probe")):
        pytest.skip(reason)
    lab = Lab(ROOT / "tests" / "helpers" / "small_site.py", tmp_path_factory.mktemp("site"), ROOT)
    path = lab.root / lab.folder.relative_to("/") / "homes" / "laptop" / "raygrid" / FILE
    text = path.read_text()
    for old, new in CHANGES.items():
        assert old in text, f"{FILE} has no {old!r}"
        text = text.replace(old, new)
    path.write_text(text)
    yield lab
    lab.close()


def laptop(commands: str) -> str:
    """Return the shell commands that a person types on the laptop, in the checkout."""
    return f"set -e; cd ~/raygrid; [ ! -d .venv ] || source .venv/bin/activate\n{commands}"


def processes(lab: Lab, node: str) -> str:
    """Return the commands of the user's processes on a node."""
    return lab.run(node, "ps -u ubuntu -o args=", user="root", check=False).stdout


def wait_for_nodes(lab: Lab, count: int) -> None:
    """Wait until `ray status` lists the nodes."""
    status, log = commands_of(PAGE, "Start the cluster").splitlines()[-2:]
    deadline = time.monotonic() + 600
    while f" {count} local.cluster.node\n" not in (said := lab.run("laptop", laptop(status)).stdout):
        assert time.monotonic() < deadline, said + lab.run("laptop", laptop(log)).stdout
        time.sleep(POLL_S)


def run_study(lab: Lab) -> tuple[str, set[str]]:
    """Run the page's command with the small study; return its output, and the nodes that scored units."""
    command = commands_of(PAGE, "Run the study").replace("experiments/full_grid.py", PROGRAM)
    command = command.replace("--device cuda --data-root /shared/data", "--device cpu")
    log, scored = lab.folder / "study.log", set()
    deadline = time.monotonic() + 900
    with log.open("w") as output, lab.start("laptop", laptop(command), stdout=output) as running:
        while running.poll() is None:
            assert time.monotonic() < deadline, log.read_text()
            scored |= {node for node in NODES if "Scorer" in processes(lab, node)}
            time.sleep(POLL_S)
    assert running.returncode == 0, log.read_text()
    return log.read_text(), scored


def auc_of(output: Path) -> pd.DataFrame:
    keys = ["modality", "condition", "surrogate", "target", "attack", "epsilon"]
    return pd.read_parquet(output / "results" / "auc.parquet").sort_values(keys, ignore_index=True)


@pytest.mark.slow
def test_a_study_on_machines_of_ones_own(lab: Lab, finished: Path) -> None:
    lab.run("laptop", commands_of(PAGE, "Prepare the machines"))
    said = lab.run("laptop", laptop(commands_of(PAGE, "Start the cluster")), timeout=900).stdout
    assert "accepted by Ray's schema" in said
    wait_for_nodes(lab, len(NODES))
    for node in NODES:
        assert lab.run(node, "stat -c %a ~/.ray/auth_token").stdout == "600\n"

    said, scored = run_study(lab)
    assert "nothing is missing" in said
    assert scored == set(NODES)
    pd.testing.assert_frame_equal(
        auc_of(lab.folder / "shared" / "studies" / "paper"), auc_of(finished), check_exact=True
    )

    lab.run("laptop", laptop(commands_of(PAGE, "Stop the cluster")))
    deadline = time.monotonic() + 300
    while any(left := {node: processes(lab, node) for node in NODES}.values()):
        assert time.monotonic() < deadline, left
        time.sleep(POLL_S)
