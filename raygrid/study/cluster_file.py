"""Checks of a cluster file for `ray up`, without a cloud: Ray's schema, and faults that Ray finds too late."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from raygrid.errors import DataError, did_you_mean

PLACEHOLDER = "REPLACE"
_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def check_cluster_file(path: Path, *, template: bool = False) -> list[str]:
    """Return the faults of a cluster file, one sentence each; none if `ray up` can use it.

    Args:
        template: accept values that the user has yet to fill in (`REPLACE`).

    Local paths are relative to the working folder, as in `ray up`. Raises DataError if the file is not YAML or cannot
    be read.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: expected a YAML file for ray up: {error}; correct the file") from error
    if not isinstance(config, dict):
        raise DataError(
            f"{path}: expected a YAML mapping with cluster_name, provider and available_node_types; add them"
        )
    found = list(_against_schema(config))
    if found:  # the other checks rely on the schema
        return found
    found += _nodes(config)
    if not template:
        found += [
            f"{where}: {value!r} is still to be filled in" for where, value in _strings(config) if PLACEHOLDER in value
        ]
    found += [
        f"file_mounts: {local} does not exist (relative to {Path.cwd()})"
        for local in (config.get("file_mounts") or {}).values()
        if not Path(str(local)).expanduser().exists()
    ]
    return [*found, *_commands(config)]


def _against_schema(config: dict[str, Any]) -> Iterator[str]:
    # Ray has no public check of a file: `ray up` itself calls these two first
    import ray.autoscaler
    from jsonschema import ValidationError, validate
    from ray.autoscaler._private.util import prepare_config, validate_config

    if not isinstance(config.get("provider"), dict):
        yield "provider: expected a mapping with a type, such as aws or gcp"
        return
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    try:
        validate(config, schema)  # first, because Ray relies on the types while it fills in defaults
        validate_config(prepare_config(config))
    except ValidationError as error:
        where = "/".join(str(part) for part in error.absolute_path)
        yield f"{where or 'top level'}: {error.message}{_hint(error)}"
    except Exception as error:  # all other errors of Ray's checks are about the file, too
        yield f"{type(error).__name__}: {error}"


def _nodes(config: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of node types that Ray would find only when it starts a node."""
    cloud = config["provider"].get("type")
    for name, node in (config.get("available_node_types") or {}).items():
        where = f"available_node_types/{name}"
        if cloud == "aws" and not node.get("node_config", {}).get("SecurityGroupIds"):
            yield f"{where}: no SecurityGroupIds: the group that Ray creates opens SSH to the world"
        if cloud != "aws" and not node.get("resources"):  # only on AWS Ray looks the resources up
            yield f"{where}: resources are empty, so no node would start; expected for example {{CPU: 16, GPU: 1}}"


def _hint(error: Any) -> str:
    if error.validator != "additionalProperties":
        return ""
    known = sorted(error.schema.get("properties", {}))
    return "".join(did_you_mean(name, known) for name in error.instance if name not in known)


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and text of every string in a nested value."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(part, f"{where}/{key}" if where else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _strings(part, f"{where}[{number}]")


def _commands(config: dict[str, Any]) -> Iterator[str]:
    for name in _COMMANDS:
        for number, command in enumerate(config.get(name) or []):
            checked = subprocess.run(["bash", "-n", "-c", str(command)], capture_output=True, text=True)
            if checked.returncode:
                yield f"{name}[{number}]: the shell cannot read it: {checked.stderr.strip()}"
    head = " ".join(str(command) for command in config.get("head_start_ray_commands") or [])
    if "ray start" in head and "--autoscaling-config" not in head:
        yield (
            "head_start_ray_commands: ray start lacks --autoscaling-config=~/ray_bootstrap_config.yaml, so no worker "
            "would ever start"
        )
    if re.search(r"--dashboard-host[= ](?!127\.0\.0\.1|localhost)", head):
        yield (
            "head_start_ray_commands: the dashboard runs any code sent to it; expected --dashboard-host=127.0.0.1 "
            "(`ray dashboard` forwards it through SSH)"
        )
