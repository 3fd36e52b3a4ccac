"""Check the commands that start Ray on the head: autoscaler, dashboard, usage statistics."""

import os
import re
from collections.abc import Iterator

from raygrid.study.cluster_file.config import START, ClusterFile
from raygrid.study.cluster_file.finding import Finding

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
