"""Check how nodes start Ray: whether workers start and may join, who reaches the dashboard, usage statistics.

`ray start --head` turns token authentication on automatically if a token exists, for example in ~/.ray/auth_token,
which raygrid's clusters on one machine create. `ray start --address` never does: a worker needs RAY_AUTH_MODE=token,
and the token.
"""

import os
import re
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath

from raygrid.study.cluster_file.config import START, ClusterFile, Finding, Node, on_node
from raygrid.study.cluster_file.packages import START_UP_FILE
from raygrid.study.cluster_file.shell import Command

TOKEN_FILE = PurePosixPath("~/.ray/auth_token")
_MODE = re.compile(r"RAY_AUTH_MODE\s*[=:]\s*[\"']?(\w+)")
_MAKES_TOKEN = re.compile(r"RAY_AUTH_TOKEN|auth_token|get-auth-token")
_MAKE = "(umask 077; ray get-auth-token --generate > /dev/null)"
_BOTH = "in head_start_ray_commands and worker_start_ray_commands"
_HEAD_START = re.compile(r"\bray\s+start\b.*--head\b", re.DOTALL)
_AUTOSCALER_1 = "RAY_enable_autoscaler_v2=0"
_OF_RAY_UP = "RAY_UP_enable_autoscaler_v2"  # read by ray up itself
_SAYS_USAGE = re.compile(r"--disable-usage-stats|\bray (dis|en)able-usage-stats|RAY_USAGE_STATS_ENABLED=[\"']?[01]")


def check_starts(file: ClusterFile) -> Iterator[Finding]:
    """Yield faults of the commands that start Ray on the head."""
    head = next(node for node in file.nodes if node.is_head)
    starts = [step for step in head.steps if step.stage == START and "ray start" in step.text]
    text = "\n".join(step.text for step in starts)
    has_workers = len(file.nodes) > 1 and file.merged.get("max_workers") != 0
    if starts and has_workers and "--autoscaling-config" not in text:
        yield Finding(
            "head_start_ray_commands: ray start lacks --autoscaling-config=~/ray_bootstrap_config.yaml, so no worker "
            "would start; add it"
        )
    if (
        starts
        and has_workers
        and file.provider == "local"
        and _AUTOSCALER_1 not in text
        and os.environ.get(_OF_RAY_UP, "1") == "1"
    ):
        yield Finding(
            "head_start_ray_commands: ray up turns on version 2 of Ray's autoscaler, which starts no "
            f"worker on machines of your own; set {_AUTOSCALER_1} before ray start"
        )
    everywhere = "\n".join([*file.run_options(head), *(step.text for step in head.steps)])
    for step in starts:
        if re.search(r"--dashboard-host[= ](?!127\.0\.0\.1|localhost)", step.text):
            of_ray = " (Ray's default)" if step.is_rays else ""
            yield Finding(
                f"head_start_ray_commands{of_ray}: anyone who reaches the dashboard can run code; expected "
                "--dashboard-host=127.0.0.1; set it, and use `ray dashboard`, which forwards the dashboard through SSH"
            )
        if _HEAD_START.search(step.text) and not _SAYS_USAGE.search(everywhere):
            yield Finding(
                f"{step.where}: ray start --head reports usage statistics to Ray's developers; add "
                "--disable-usage-stats, or RAY_USAGE_STATS_ENABLED=1 before it if you agree"
            )


def check_token(file: ClusterFile, *, template: bool) -> Iterator[Finding]:
    """Yield the faults that keep workers from joining, or the token from being secret.

    Args:
        template: accept that this machine has no token yet.
    """
    yield from _local_token(file, template)
    nodes = [node for node in file.nodes if _starts_ray(node)]
    head = next((node for node in nodes if node.is_head), None)
    workers = [node for node in nodes if not node.is_head]
    if head is None or not workers:  # nothing to agree on
        return
    modes = {node.name: _mode(node, file) for node in nodes}
    for worker in workers:
        yield from _disagreement(modes[head.name], modes[worker.name], worker.name)
    if "token" in modes.values():
        without = [node.name for node in nodes if modes[node.name] == "token" and not _has_token(node, file)]
        if without:
            yield Finding(
                f"file_mounts: RAY_AUTH_MODE=token, but no entry copies the token to {', '.join(without)}, so ray "
                f'start fails there; add "{TOKEN_FILE}": "{TOKEN_FILE}"'
            )


def _disagreement(head: str, worker: str, name: str) -> Iterator[Finding]:
    if head == worker == "":
        yield Finding(
            "head_start_ray_commands: RAY_AUTH_MODE is not set, and a head that has ~/.ray/auth_token requires a "
            "token, which workers do not send; set RAY_AUTH_MODE=token (and mount the token) or RAY_AUTH_MODE=disabled "
            f"{_BOTH}"
        )
    elif head == "":
        yield Finding(
            f"head_start_ray_commands: RAY_AUTH_MODE is not set, but it is {worker} on {name}: the head requires "
            f"a token only if it has ~/.ray/auth_token; set the same value {_BOTH}"
        )
    elif head == "token" and worker != "token":
        yield Finding(
            f"worker_start_ray_commands: RAY_AUTH_MODE is {worker or 'not set'} on {name}, but token on the head, "
            f"which refuses a worker without a token; set RAY_AUTH_MODE=token {_BOTH}"
        )
    elif head != "token" and worker == "token":
        yield Finding(
            f"head_start_ray_commands: RAY_AUTH_MODE is {head}, but token on {name}; set the same value {_BOTH}",
        )


def _local_token(file: ClusterFile, template: bool) -> Iterator[Finding]:
    for remote, local in file.file_mounts.items():
        if on_node(remote) != TOKEN_FILE:
            continue
        path = Path(local).expanduser()
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if not path.exists():
            if not template:
                yield Finding(f"file_mounts: {local} does not exist, so nodes get no token; create it with {_MAKE}")
        elif mode & 0o077:
            yield Finding(
                f"file_mounts: expected mode 600 for {local}, got {mode:o}: other users can read the token, here and "
                f"on every node, and run code on the cluster; run chmod 600 {local}"
            )


def _starts_ray(node: Node) -> bool:
    return any(_is_start(command) for step in node.steps if step.stage == START for command in step.commands)


def _is_start(command: Command) -> bool:
    """Whether a command is `ray start`, by another program (`conda run`) as well."""
    return any(word.rpartition("/")[2] == "ray" and after == "start" for word, after in pairwise(command.words))


def _mode(node: Node, file: ClusterFile) -> str:
    """Return the RAY_AUTH_MODE with which a node starts Ray, or an empty text."""
    texts = file.run_options(node)
    texts += [step.text for step in node.steps if step.stage != START and START_UP_FILE.search(step.text)]
    mode = next((found for text in reversed(texts) for found in reversed(_MODE.findall(text))), "")
    for step in node.steps:  # every step has a shell of its own: an export elsewhere has no effect
        exported = ""
        for command in step.commands if step.stage == START else ():
            own = command.variables.get("RAY_AUTH_MODE", exported)
            if command.program == "export":
                exported = own
            elif _is_start(command):
                mode = own or mode
    return mode.lower()


def _has_token(node: Node, file: ClusterFile) -> bool:
    mounted = [on_node(remote) for remote in file.file_mounts]
    if not node.is_head:
        mounted += [on_node(path) for path in file.merged.get("cluster_synced_files") or []]
    if any(path == TOKEN_FILE or path in TOKEN_FILE.parents[:1] for path in mounted):
        return True
    texts = [*file.run_options(node), *(step.text for step in node.steps)]
    return any(_MAKES_TOKEN.search(text) for text in texts)
