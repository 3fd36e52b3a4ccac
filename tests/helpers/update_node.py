"""Set up one simulated node as Ray's autoscaler does: python update_node.py COMMAND.

The program `ssh` on PATH stands for the node. What the autoscaler writes to monitor.out goes to standard output.
"""

import subprocess
import sys

from ray.autoscaler._private.updater import NodeUpdater
from ray.autoscaler.node_provider import NodeProvider


class OneNode(NodeProvider):
    """A cloud with one running machine."""

    def __init__(self) -> None:
        super().__init__({}, "made-up")
        self.tags: dict[str, str] = {}

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self.tags |= tags

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self.tags

    def is_running(self, node_id: str) -> bool:
        return True

    def is_terminated(self, node_id: str) -> bool:
        return False

    def internal_ip(self, node_id: str) -> str:
        return "192.0.2.1"

    def external_ip(self, node_id: str) -> str:
        return "192.0.2.1"


if __name__ == "__main__":
    NodeUpdater(
        node_id="i-1",
        provider_config={},
        provider=OneNode(),
        auth_config={"ssh_user": "ubuntu", "ssh_private_key": "/dev/null"},
        cluster_name="made-up",
        file_mounts={},
        initialization_commands=[],
        setup_commands=["echo an earlier command", sys.argv[1]],
        ray_start_commands=[],
        runtime_hash="",
        file_mounts_contents_hash="",
        is_head_node=False,
        rsync_options={},
        use_internal_ip=True,
        node_resources={},
        node_labels={},
        process_runner=subprocess,
    ).run()
