"""A cluster file in which check-cluster finds nothing, the project that it mounts, and changed forms of both."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from raygrid.study.cluster_file import inspect_cluster_file

_HAS_RSYNC = shutil.which("rsync") is not None
needs_rsync = pytest.mark.skipif(not _HAS_RSYNC, reason="needs rsync (Debian package rsync)")

NO_RSYNC = "rsync_exclude: not tried, because rsync is not installed on this machine"
TOKEN = "~/.ray/auth_token"
MOUNT = "sudo mount -t nfs4 fs-1.efs.eu-central-1.amazonaws.com:/ /shared"
WRITABLE = '[ -w /shared ] || sudo chown "$USER" /shared'
VENV = "[ -x ~/project/.venv/bin/python ] || ~/.uv/bin/uv venv -q ~/project/.venv"
INSTALL = "cd ~/project && ~/.uv/bin/uv pip install -q --python .venv/bin/python -c constraints.txt -e ."
HEAD_START = (
    "RAY_AUTH_MODE=token ray start --head --port=6379 --disable-usage-stats "
    "--autoscaling-config=~/ray_bootstrap_config.yaml"
)
WORKER_START = "RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379"
_FILES = {
    "pyproject.toml": '[project]\nname = "raygrid"\nreadme = "README.md"\nlicense-files = ["LICENSE"]\n',
    "README.md": "",
    "LICENSE": "",
    "constraints.txt": "",
    "raygrid/__init__.py": "",
    "raygrid/data/__init__.py": "",
    "raygrid/data/table.json": "{}",
}


def sound() -> dict[str, Any]:
    """Return the content of a file without any finding, for a project in the folder `project`."""
    node = {"InstanceType": "m6i.large", "SecurityGroupIds": ["sg-1"]}
    return {
        "cluster_name": "sound",
        "max_workers": 2,
        "provider": {"type": "aws", "region": "eu-central-1"},
        "auth": {"ssh_user": "ubuntu"},
        "available_node_types": {
            "head": {"resources": {}, "node_config": dict(node), "max_workers": 0},
            "worker": {"resources": {}, "node_config": dict(node), "max_workers": 2},
        },
        "head_node_type": "head",
        "file_mounts": {"~/project": "project", TOKEN: TOKEN},
        "rsync_exclude": ["/.venv", "/.git", "/studies", "/data", "__pycache__"],
        "initialization_commands": [
            "sudo apt-get -o DPkg::Lock::Timeout=300 update",
            "sudo apt-get -o DPkg::Lock::Timeout=300 install -y nfs-common",
            f"sudo mkdir -p /shared; mountpoint -q /shared || {MOUNT}",
            WRITABLE,
        ],
        "setup_commands": ["python3 -m venv ~/.uv && ~/.uv/bin/pip install uv", VENV, INSTALL],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": ["ray stop", HEAD_START],
        "worker_start_ray_commands": ["ray stop", WORKER_START],
    }


def local(**provider: Any) -> dict[str, Any]:
    """Return the content of such a file for your own machines."""
    config = sound()
    config["head_start_ray_commands"] = ["ray stop", f"RAY_enable_autoscaler_v2=0 {HEAD_START}"]
    config["provider"] = {"type": "local", **(provider or {"head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]})}
    for name in ("available_node_types", "head_node_type", "max_workers"):
        del config[name]
    return config


def write_project(folder: Path) -> Path:
    """Write a small project, and the token of the user whose home is the folder."""
    for name, text in _FILES.items():
        path = folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    token = folder / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o600)
    return folder / "project"


def found(config: dict[str, Any], folder: Path) -> list[tuple[str, bool]]:
    """Return the text of each finding in a file with this content, and whether it is a fault."""
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    return findings_of(path)


def findings_of(path: Path, *, template: bool = False) -> list[tuple[str, bool]]:
    """Return the text of each finding in a file, and whether it is a fault.

    The note on an absent rsync is about this machine, and left out.
    """
    findings = [(finding.text, finding.is_fault) for finding in inspect_cluster_file(path, template=template)]
    without_rsync = (f"{NO_RSYNC}; install it for ray up", False)
    return [finding for finding in findings if _HAS_RSYNC or finding != without_rsync]


def changed(**changes: Any) -> dict[str, Any]:
    """Return `sound()` with other values; None removes a key."""
    config = {**sound(), **changes}
    return {key: value for key, value in config.items() if value is not None}
