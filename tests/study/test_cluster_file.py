"""A cluster file is checked without a cloud: by Ray's own schema, and for what would go wrong on the way."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from raygrid.cli.commands import main
from raygrid.errors import DataError
from raygrid.study.cluster_file import check_cluster_file

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "cluster.yaml", ROOT / "docs" / "how-to" / "cluster-gcp.yaml"]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # local paths count from where ray up is called


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ours_are_right_but_for_what_is_to_be_filled_in(path: Path) -> None:
    assert check_cluster_file(path, template=True) == []
    faults = check_cluster_file(path)
    assert faults
    assert all("still to be filled in" in fault for fault in faults)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ray_runs_no_command_that_the_file_does_not_name(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    merged = prepare_config(config)  # what ray up works with: absent keys get Ray's defaults
    for commands in ("head_setup_commands", "worker_setup_commands"):
        assert merged[commands] == config["setup_commands"]
    assert merged["initialization_commands"] == config["initialization_commands"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_folder_that_is_left_out_is_left_out_whole(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    excluded = config["rsync_exclude"]
    assert {"/.venv", "/.git", "/studies", "/data", "__pycache__"} <= set(excluded)
    assert not [pattern for pattern in excluded if pattern.endswith("*")]  # rsync would create the folder, empty
    (create,) = (command for command in config["setup_commands"] if "uv venv" in command)
    assert create.startswith("[ -x ~/raygrid/.venv/bin/python ] ||")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_new_machine_is_made_ready(path: Path) -> None:
    commands = yaml.safe_load(path.read_text())["initialization_commands"]
    apt = [command for command in commands if "apt-get" in command]
    assert ["update" in command for command in apt] == [True, False]
    assert all("DPkg::Lock::Timeout=300" in command for command in apt)
    mount = next(place for place, command in enumerate(commands) if "mountpoint" in command)
    assert commands[mount + 1] == '[ -w /shared ] || sudo chown "$USER" /shared'


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("idle_timeout_minuts",), 5, "did you mean 'idle_timeout_minutes'"),
        (("head_node_type",), "haed", "`head_node_type` must be one of"),
        (("max_workers",), "eight", "'eight' is not of type 'integer'"),
        (("provider",), "aws", "expected a mapping with a type"),
        (("file_mounts",), {"~/x": "no/such/folder"}, "no/such/folder does not exist"),
        (("setup_commands",), ["echo 'never closed"], "setup_commands[0]: the shell cannot read it"),
        (("head_start_ray_commands",), ["ray start --head --dashboard-host=0.0.0.0"], "runs any code"),
        (("head_start_ray_commands",), ["ray start --head --dashboard-host 0.0.0.0"], "runs any code"),
        (("head_start_ray_commands",), ["ray start --head"], "lacks --autoscaling-config"),
        (("file_mounts",), ["~/x"], "is not of type 'object'"),
        (("available_node_types",), {"head": {"resources": {}, "node_config": {}}}, "opens SSH to the world"),
        (
            ("provider",),
            {"type": "gcp", "project_id": "p", "region": "r", "availability_zone": "z"},
            "no node would start",
        ),
    ],
)
def test_a_fault_is_named(tmp_path: Path, place: tuple[str, ...], value: object, fault: str) -> None:
    config = yaml.safe_load(FILES[0].read_text())
    config[place[0]] = value
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    assert any(fault in found for found in check_cluster_file(path, template=True))


def test_the_recipe_for_kubernetes_can_be_read() -> None:
    job = yaml.safe_load((ROOT / "docs" / "how-to" / "kuberay.yaml").read_text())
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 8


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("cluster*.md")), ids=lambda page: page.name)
def test_the_commands_of_the_guides_can_be_read(page: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for block in [*blocks, (ROOT / "docs" / "how-to" / "slurm.sh").read_text()]:
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert not checked.returncode, checked.stderr


@pytest.mark.parametrize("text", ["a: [1,", "- just\n- a list\n"])
def test_what_is_no_cluster_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="expected a YAML"):
        check_cluster_file(path)


def test_the_command_exits_with_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check-cluster", "cluster.yaml"])
    assert stopped.value.code == 1
    assert "SecurityGroupIds[0]: 'sg-REPLACE' is still to be filled in" in capsys.readouterr().err
