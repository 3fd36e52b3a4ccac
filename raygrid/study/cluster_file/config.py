"""A cluster file as Ray works with it: merged with Ray's defaults, and the commands that each node runs in order.

It also has the terms of the checks: a finding, and a path on a node in one spelling.
"""

import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from raygrid.errors import DataError, did_you_mean, in_one_line
from raygrid.study.cluster_file.shell import Command, commands

# Their machines are new at every start: they boot for the first time, and nothing on them is prepared by hand.
CLOUDS = frozenset({"aws", "gcp", "azure", "aliyun"})
INITIALIZATION, SETUP, START = "initialization", "setup", "start"


@dataclass(frozen=True)
class Finding:
    """A sentence with the place in the file, the fault, its effect on a node, and the remedy.

    A fault keeps nodes from working, exposes them, or sends data out. A note depends on the image or on files that
    the check does not see.
    """

    text: str
    is_fault: bool = True


def note(text: str) -> Finding:
    return Finding(text, is_fault=False)


@dataclass(frozen=True)
class Step:
    """One entry of a list of commands. Each runs in a shell of its own.

    Attributes:
        where: place in the file, such as `setup_commands[0]`.
        stage: INITIALIZATION, SETUP or START.
        is_rays: from Ray's defaults, because the file does not have the list.
        in_container: runs inside the container that `docker` names.
    """

    where: str
    text: str
    stage: str
    is_rays: bool
    in_container: bool

    @cached_property
    def commands(self) -> list[Command]:
        return commands(self.text)


@dataclass(frozen=True)
class Node:
    """The head or one type of worker, with the steps that Ray runs on it in order."""

    name: str
    is_head: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class ClusterFile:
    """A cluster file.

    Attributes:
        given: the mapping in the file.
        merged: the same after Ray's `prepare_config`.
    """

    given: dict[str, Any]
    merged: dict[str, Any]

    @property
    def provider(self) -> str:
        return str(self.merged["provider"].get("type"))

    @property
    def is_cloud(self) -> bool:
        return self.provider in CLOUDS

    @property
    def has_container(self) -> bool:
        return bool((self.merged.get("docker") or {}).get("container_name"))

    @property
    def ssh_user(self) -> str:
        return str((self.merged.get("auth") or {}).get("ssh_user", ""))

    @property
    def file_mounts(self) -> dict[str, str]:
        """The local path of each path on the nodes."""
        return {str(remote): str(local) for remote, local in (self.merged.get("file_mounts") or {}).items()}

    @property
    def rsync_rules(self) -> list[str]:
        """The options that Ray gives rsync in every copy (SSHCommandRunner, ray/autoscaler/_private)."""
        excludes = [word for rule in self.merged.get("rsync_exclude") or [] for word in ("--exclude", str(rule))]
        filters = self.merged.get("rsync_filter") or []
        return [*excludes, *(word for name in filters for word in ("--filter", f"dir-merge,- {name}"))]

    @cached_property
    def nodes(self) -> list[Node]:
        """The head, then each type of worker."""
        types = self.merged.get("available_node_types") or {}
        head = self.merged.get("head_node_type")
        workers = [
            self._worker(name, node) for name, node in types.items() if name != head or node.get("max_workers", 0)
        ]
        steps = (
            *self._steps("initialization_commands", INITIALIZATION),
            *self._steps("setup_commands", SETUP),
            *self._steps("head_setup_commands", SETUP),
            *self._steps("head_start_ray_commands", START),
        )
        return [Node("head", True, steps), *workers]

    @property
    def steps(self) -> list[Step]:
        """The steps of all nodes, each once."""
        return list({step.where: step for node in self.nodes for step in node.steps}.values())

    def run_options(self, node: Node) -> list[str]:
        """Return the options with which the container of a node is started."""
        docker = self.merged.get("docker") or {}
        own = (self.merged.get("available_node_types") or {}).get(node.name, {}).get("docker") or {}
        keys = ("run_options", "head_run_options" if node.is_head else "worker_run_options")
        found = [option for section in (docker, own) for key in keys for option in section.get(key) or []]
        return [str(option) for option in found]

    def _worker(self, name: str, node: Mapping[str, Any]) -> Node:
        place = f"available_node_types/{name}/"
        own_setup = node.get("worker_setup_commands")  # replaces setup_commands, too
        own_initialization = node.get("initialization_commands")
        return Node(
            name,
            False,
            (
                *(
                    self._steps("initialization_commands", INITIALIZATION)
                    if own_initialization is None
                    else self._steps("initialization_commands", INITIALIZATION, place, own_initialization)
                ),
                *(
                    (*self._steps("setup_commands", SETUP), *self._steps("worker_setup_commands", SETUP))
                    if own_setup is None
                    else self._steps("worker_setup_commands", SETUP, place, own_setup)
                ),
                *self._steps("worker_start_ray_commands", START),
            ),
        )

    def _steps(self, key: str, stage: str, place: str = "", texts: list[str] | None = None) -> tuple[Step, ...]:
        is_rays = texts is None and key not in self.given
        if texts is None:
            texts = self._defaults(key) if is_rays else self.given[key]
        inside = self.has_container and stage != INITIALIZATION
        return tuple(
            Step(f"{place}{key}[{number}]", str(text), stage, is_rays, inside) for number, text in enumerate(texts)
        )

    def _defaults(self, key: str) -> list[str]:
        texts = list(self.merged.get(key) or [])
        if key in ("head_setup_commands", "worker_setup_commands"):  # Ray has put setup_commands in front
            texts = texts[len(self.merged.get("setup_commands") or []) :]
        return texts


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises DataError if there is none."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{line}: expected a YAML file for ray up: {error.problem}; correct the file") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: expected a YAML file for ray up: {in_one_line(error)}; correct the file") from error
    if not isinstance(config, dict):
        raise DataError(
            f"{path}: expected a YAML mapping with cluster_name, provider and available_node_types; add them"
        )
    return config


def merge(given: dict[str, Any]) -> tuple[ClusterFile | None, str]:
    """Return the file merged with Ray's defaults, and an empty text; or None and the fault that Ray finds.

    Ray has no public check of a file. `ray up` itself calls these two functions, in this order, so a value that
    is correct only after the merge, such as min_workers of a local provider, is accepted.
    """
    from click import ClickException
    from jsonschema import ValidationError, validate
    from ray.autoscaler._private.util import prepare_config, validate_config

    if "apiVersion" in given:
        return (
            None,
            f"expected a file for ray up, got a Kubernetes manifest (kind {given.get('kind')}); use kubectl apply -f",
        )
    if not isinstance(given.get("provider"), dict) or "type" not in given["provider"]:
        return None, "provider: expected a mapping with a type, such as aws or gcp; add it"
    try:
        with _without_warnings():
            merged = prepare_config(copy.deepcopy(given))
        validate_config(merged)
        return ClusterFile(given, merged), ""
    except ValidationError as error:
        return None, _shown(error)
    except (ClickException, ValueError, RuntimeError) as error:  # Ray's own words
        return None, str(error)
    except Exception as error:  # all other errors of Ray's checks are about the file, too
        try:
            validate(given, _schema())  # Ray relies on the types while it merges: the schema names the place
        except ValidationError as invalid:
            return None, _shown(invalid)
        except TypeError:  # the schema's patterns for names are tried on numbers, too
            return None, "keys: expected text before each colon, got another type; put quotes around the key"
        mounts = given.get("file_mounts") or {}
        wrong = next(
            (
                f"{remote}: expected a local path, got {local!r}"
                for remote, local in mounts.items()
                if not isinstance(local, str)
            ),
            "",
        )
        return None, f"file_mounts/{wrong}" if wrong else in_one_line(error)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Ray about the values that it fills in."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(level)


def strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and text of every string in a nested value."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from strings(part, f"{where}/{key}" if where else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from strings(part, f"{where}[{number}]")


def _schema() -> Any:
    import ray.autoscaler

    return json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))


def _shown(error: Any) -> str:
    where = "/".join(str(part) for part in error.absolute_path)
    hint = ""
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        hint = "".join(did_you_mean(str(name), known) for name in error.instance if name not in known)
    return f"{where or 'top level'}: {error.message}{hint}"


def on_node(path: str | PurePosixPath) -> PurePosixPath:
    """Return a path on a node with `$HOME`, `/home/USER` and `/root` written as `~`.

    If a `~` is in the middle, as after joining two paths, the part before it is dropped.
    """
    text = re.sub(r"(^|/)\$\{?HOME\}?(?=/|$)", r"\1~", str(path))
    text = re.sub(r"^(/home/[^/]+|/root)(?=/|$)", "~", text)
    parts = PurePosixPath(text).parts
    return PurePosixPath(*parts[max((place for place, part in enumerate(parts) if part == "~"), default=0) :])
