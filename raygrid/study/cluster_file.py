"""Whether a cluster file for `ray up` is right, without a cloud: Ray's own schema, and what it finds too late."""

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
    """Return what is wrong with a cluster file, a sentence each; none if `ray up` has all that it needs.

    Args:
        template: values that the user has yet to fill in (`REPLACE`) are not wrong.

    Local paths count from the working folder, as in `ray up`. Raises DataError if it is no YAML, or cannot be read.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: expected a YAML file for ray up: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: expected a YAML mapping with cluster_name, provider and available_node_types")
    found = list(_against_schema(config))
    if found:  # the rest takes the schema for granted
        return found
    found += _nodes(config)
    if not template:
        found += [
            f"{where}: {value!r} is yours to fill in" for where, value in _strings(config) if PLACEHOLDER in value
        ]
    found += [
        f"file_mounts: {local} is not there (looked in {Path.cwd()})"
        for local in (config.get("file_mounts") or {}).values()
        if not Path(str(local)).expanduser().exists()
    ]
    return [*found, *_commands(config)]


def _against_schema(config: dict[str, Any]) -> Iterator[str]:
    # Ray has no public way to check a file: these two are what `ray up` itself calls first
    import ray.autoscaler
    from jsonschema import ValidationError, validate
    from ray.autoscaler._private.util import prepare_config, validate_config

    if not isinstance(config.get("provider"), dict):
        yield "provider: expected a mapping with a type, such as aws or gcp"
        return
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    try:
        validate(config, schema)  # before Ray takes types for granted while it fills in defaults
        validate_config(prepare_config(config))
    except ValidationError as error:
        where = "/".join(str(part) for part in error.absolute_path)
        yield f"{where or 'top level'}: {error.message}{_hint(error)}"
    except Exception as error:  # whatever else Ray's checks raise is about the file
        yield f"{type(error).__name__}: {error}"


def _nodes(config: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the types of nodes, which Ray would find when it starts one."""
    cloud = config["provider"].get("type")
    for name, node in (config.get("available_node_types") or {}).items():
        where = f"available_node_types/{name}"
        if cloud == "aws" and not node.get("node_config", {}).get("SecurityGroupIds"):
            yield f"{where}: no SecurityGroupIds: the group that Ray makes is open to the world by SSH"
        if cloud != "aws" and not node.get("resources"):  # of AWS alone Ray knows what its machines have
            yield f"{where}: resources are empty, so none would start; expected such as {{CPU: 16, GPU: 1}}"


def _hint(error: Any) -> str:
    if error.validator != "additionalProperties":
        return ""
    known = sorted(error.schema.get("properties", {}))
    return "".join(did_you_mean(name, known) for name in error.instance if name not in known)


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a nested value with the place where it stands."""
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
            "head_start_ray_commands: ray start lacks --autoscaling-config=~/ray_bootstrap_config.yaml, so that no "
            "worker would ever come"
        )
    if re.search(r"--dashboard-host[= ](?!127\.0\.0\.1|localhost)", head):
        yield (
            "head_start_ray_commands: the dashboard runs any code that it is sent; expected --dashboard-host=127.0.0.1 "
            "(ray dashboard brings it through SSH)"
        )
