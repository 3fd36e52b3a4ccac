"""The checks of a cluster file, one after another."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from raygrid.study.cluster_file.config import ClusterFile, Finding, merge, on_node, read_mapping, strings
from raygrid.study.cluster_file.copies import check_copies
from raygrid.study.cluster_file.mounts import check_mounts
from raygrid.study.cluster_file.packages import added_commands, check_packages
from raygrid.study.cluster_file.repeats import check_repeats
from raygrid.study.cluster_file.starts import TOKEN_FILE, check_starts, check_token

PLACEHOLDER = "REPLACE"
_NAME_GROUPS = ("SecurityGroupIds", "NetworkInterfaces", "LaunchTemplate")  # where Ray reads security groups of a node


def check_cluster_file(path: Path, *, template: bool = False) -> list[str]:
    """Return the faults of a cluster file, one sentence each; none if `ray up` can use it.

    Args:
        template: accept values that the user has yet to fill in (`REPLACE`), and a token that is yet to be made.

    Local paths are relative to the working folder, as in `ray up`. Raises DataError if the file is not YAML or cannot
    be read.
    """
    return [finding.text for finding in inspect_cluster_file(path, template=template) if finding.is_fault]


def inspect_cluster_file(path: Path, *, template: bool = False) -> list[Finding]:
    """Return the faults of a cluster file, as `check_cluster_file` does, and notes on the rest.

    Raises DataError if the file is not YAML or cannot be read.
    """
    file, fault = merge(read_mapping(path))
    if file is None:  # the other checks rely on the schema
        return [Finding(fault)]
    found = [
        *_node_types(file),
        *([] if template else _placeholders(file)),
        *_sources(file, template),
        *_syntax(file),
        *added_commands(file),
        *check_copies(file),
        *check_packages(file),
        *check_mounts(file),
        *check_repeats(file),
        *check_token(file, template=template),
        *check_starts(file),
    ]
    return list(dict.fromkeys(found))  # nodes share commands


def _node_types(file: ClusterFile) -> Iterator[Finding]:
    """Yield the faults of node types that Ray itself would find only when it starts a node."""
    named = file.merged["provider"].get("security_group")
    for name, node in (file.given.get("available_node_types") or {}).items():
        where, config = f"available_node_types/{name}", node.get("node_config") or {}
        if file.provider == "aws" and not (named or any(config.get(key) for key in _NAME_GROUPS)):
            yield Finding(
                f"{where}: expected SecurityGroupIds in node_config, got none: the group that Ray creates admits SSH "
                "from everywhere; name a security group"
            )
        starts_on_demand = name != file.given.get("head_node_type") and not node.get("min_workers")
        # only on AWS Ray looks the resources up
        if file.provider not in ("aws", "local") and starts_on_demand and not node.get("resources"):
            yield Finding(
                f"{where}: expected resources such as {{CPU: 16, GPU: 1}}, got none, so no work starts a node; add them"
            )


def _placeholders(file: ClusterFile) -> Iterator[Finding]:
    for where, value in strings(file.given):
        if PLACEHOLDER in value:
            yield Finding(f"{where}: {value!r} is still to be filled in")


def _sources(file: ClusterFile, template: bool) -> Iterator[Finding]:
    for remote, local in file.file_mounts.items():
        is_open = template and PLACEHOLDER in local
        if not (is_open or on_node(remote) == TOKEN_FILE or Path(local).expanduser().exists()):
            yield Finding(f"file_mounts: {local} does not exist (relative to {Path.cwd()}); correct the path")
    for name in () if template else ("ssh_private_key", "ssh_public_key"):
        key = (file.merged.get("auth") or {}).get(name)
        if key and not Path(key).expanduser().exists():
            yield Finding(f"auth/{name}: {key} does not exist; name the SSH key of the user {file.ssh_user}")


def _syntax(file: ClusterFile) -> Iterator[Finding]:
    for step in file.steps:
        checked = subprocess.run(["bash", "-n"], input=step.text, capture_output=True, text=True, errors="replace")
        if checked.returncode:
            reason = next(iter(checked.stderr.splitlines()), "bash ended without a message")
            yield Finding(f"{step.where}: bash cannot parse it: {reason}; correct the command")
