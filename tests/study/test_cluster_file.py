"""A cluster file is checked without a cloud: by Ray's own schema, and for what would go wrong on the way."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cluster_files
import pytest
import yaml

from raygrid.cli.commands import main
from raygrid.errors import DataError
from raygrid.study.cluster_file import check_cluster_file

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "cluster.yaml", ROOT / "docs" / "how-to" / "cluster-gcp.yaml"]
ours = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_files.write_project(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # with a token
    monkeypatch.chdir(ROOT)  # local paths count from where ray up is called


@ours
def test_ours_are_right_but_for_what_is_to_be_filled_in(path: Path) -> None:
    assert cluster_files.findings_of(path, template=True) == []
    faults = check_cluster_file(path)
    assert faults
    assert all("still to be filled in" in fault for fault in faults)


@ours
def test_ours_are_right_before_there_is_a_token(path: Path) -> None:
    Path("~/.ray/auth_token").expanduser().unlink()
    assert check_cluster_file(path, template=True) == []
    assert any("ray get-auth-token --generate" in fault for fault in check_cluster_file(path))


def _replace(config: dict[str, Any], pattern: str, replacement: str) -> None:
    """Replace a pattern in every command."""
    for key in [key for key in config if key.endswith("_commands")]:
        config[key] = [re.sub(pattern, replacement, text) for text in config[key]]


def _empty_environment(config: dict[str, Any]) -> None:
    token = cluster_files.TOKEN
    config["file_mounts"] = {"~/raygrid": str(Path("~/project").expanduser()), token: token}
    config["rsync_exclude"] = ["/.venv/**", "/.git/**", "/studies/**", "/data/**", "**/__pycache__/**"]
    _replace(config, r"\[ -x ~/raygrid/.venv/bin/python \]", "[ -d ~/raygrid/.venv ]")


def _absent_list(config: dict[str, Any]) -> None:
    del config["head_setup_commands"]


def _roots_folder(config: dict[str, Any]) -> None:
    config["initialization_commands"] = [text for text in config["initialization_commands"] if "chown" not in text]


def _hasty_apt(config: dict[str, Any]) -> None:
    _replace(config, r" -o DPkg::Lock::Timeout=\d+", "")
    config["initialization_commands"] = [text for text in config["initialization_commands"] if " update" not in text]


def _silent_mode(config: dict[str, Any]) -> None:
    del config["file_mounts"][cluster_files.TOKEN]
    _replace(config, r"RAY_AUTH_MODE=\w+ ", "")


def _usage(config: dict[str, Any]) -> None:
    _replace(config, " --disable-usage-stats", "")


def _second_run(config: dict[str, Any]) -> None:
    _replace(config, r"^\[ -x \S+ \] \|\| (?=.*uv venv)", "")
    _replace(config, r"^mountpoint -q /shared \|\| ", "")


@ours
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        pytest.param(
            _empty_environment,
            ["setup_commands[1] then creates none, and no worker joins"],
            marks=cluster_files.needs_rsync,
        ),
        (_absent_list, ["head_setup_commands: absent, so Ray runs"]),
        (_roots_folder, ["/shared belongs to root after the mount"]),
        (_hasty_apt, ["holds dpkg's lock", "run apt-get update before it"]),
        (_silent_mode, ["RAY_AUTH_MODE is not set, and a head that has ~/.ray/auth_token"]),
        (_usage, ["reports usage statistics"]),
        (_second_run, ["initialization_commands[3]", "setup_commands[1]"]),
    ],
)
def test_a_defect_of_an_earlier_form_is_named_and_nothing_else(
    tmp_path: Path, path: Path, edit: Callable[[dict[str, Any]], None], expected: list[str]
) -> None:
    config = yaml.safe_load(path.read_text())
    edit(config)
    changed = tmp_path / "cluster.yaml"
    changed.write_text(yaml.safe_dump(config))
    faults = check_cluster_file(changed, template=True)
    assert len(faults) == len(expected)
    assert all(part in fault for part, fault in zip(expected, faults, strict=True))


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("idle_timeout_minuts",), 5, "did you mean 'idle_timeout_minutes'"),
        (("head_node_type",), "haed", "`head_node_type` must be one of"),
        (("max_workers",), "eight", "'eight' is not of type 'integer'"),
        (("provider",), "aws", "expected a mapping with a type"),
        (("file_mounts",), {"~/x": "no/such/folder"}, "no/such/folder does not exist"),
        (("setup_commands",), ["echo 'never closed"], "setup_commands[0]: bash cannot parse it"),
        (("head_start_ray_commands",), ["ray start --head --dashboard-host=0.0.0.0"], "can run code"),
        (("head_start_ray_commands",), ["ray start --head --dashboard-host 0.0.0.0"], "can run code"),
        (("head_start_ray_commands",), ["ray start --head"], "lacks --autoscaling-config"),
        (("auth",), {"ssh_private_key": "no/such/key"}, "no/such/key does not exist"),
        (("file_mounts",), ["~/x"], "is not of type 'object'"),
        (("available_node_types",), {"head": {"resources": {}, "node_config": {}}}, "admits SSH from everywhere"),
        (
            ("provider",),
            {"type": "gcp", "project_id": "p", "region": "r", "availability_zone": "z"},
            "no work starts a node",
        ),
    ],
)
def test_a_fault_is_named(tmp_path: Path, place: tuple[str, ...], value: object, fault: str) -> None:
    config = yaml.safe_load(FILES[0].read_text())
    config[place[0]] = value
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    assert any(fault in found for found in check_cluster_file(path))


def test_the_recipe_for_kubernetes_can_be_read() -> None:
    job = yaml.safe_load((ROOT / "docs" / "how-to" / "kuberay.yaml").read_text())
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 8


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "how-to").glob("cluster*.md")), ids=lambda page: page.name)
def test_the_commands_of_the_guides_can_be_read(page: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for block in [*blocks, (ROOT / "docs" / "how-to" / "slurm.sh").read_text()]:
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert not checked.returncode, checked.stderr


def test_a_long_text_is_read_in_seconds(tmp_path: Path) -> None:
    config = yaml.safe_load(FILES[0].read_text())
    config["setup_commands"] = ["true; " * 30_000, "echo )"]
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    start = time.monotonic()
    (fault,) = check_cluster_file(path, template=True)
    reason = "bash: line 1: syntax error near unexpected token `)'"
    assert fault == f"setup_commands[1]: bash cannot parse it: {reason}; correct the command"
    assert time.monotonic() - start < 60  # a comparison of each command with each takes minutes


def test_the_place_of_wrong_yaml_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("a:\n\t- b\n")
    with pytest.raises(DataError) as raised:
        check_cluster_file(path)
    start = f"{path}, line 2: expected a YAML file for ray up: found character '\\t' that cannot start any token"
    assert str(raised.value) == f"{start}; correct the file"


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


def test_the_command_prints_notes_and_looks_at_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in ("noted", "faulty")]
    for path, command in zip(paths, ("pip install x", "mkdir ~/x"), strict=True):
        config = cluster_files.sound()
        config["file_mounts"]["~/project"] = str(tmp_path / "project")
        config["setup_commands"].append(command)
        path.write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as stopped:
        main(["check-cluster", str(paths[0])])
    assert not stopped.value.code  # a note alone is no fault
    assert "note: setup_commands[3]: 'pip install x' uses the system's pip" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["check-cluster", str(paths[1]), str(paths[0])])
    shown = capsys.readouterr()
    assert f"{paths[0]}: accepted" in shown.out
    assert f"error: {paths[1]} has 1 fault:\n  setup_commands[3]: 'mkdir ~/x' fails" in shown.err
