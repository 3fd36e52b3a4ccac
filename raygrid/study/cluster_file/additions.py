"""Commands that Ray adds where the file does not have a list of commands."""

from collections.abc import Iterator

from raygrid.study.cluster_file.config import START, ClusterFile
from raygrid.study.cluster_file.finding import Finding
from raygrid.study.cluster_file.packages import installs_with_system_pip


def added_commands(file: ClusterFile) -> Iterator[Finding]:
    """Yield each command that `ray up` would run although the file does not name it.

    It is a fault if the command installs packages outside a container: the system's pip refuses on Debian 12 and
    Ubuntu 24.04, or it installs another version of Ray.
    """
    for step in file.steps:
        if not step.is_rays:
            continue
        key = step.where.partition("[")[0]
        remedy = "write the list" if step.stage == START else f"write the list, or {key}: []"
        installs = any(installs_with_system_pip(command) for command in step.commands)
        why = (
            " with the system's pip, which Debian 12 and Ubuntu 24.04 refuse"
            if installs and not step.in_container
            else ""
        )
        yield Finding(
            f"{key}: absent, so Ray runs {step.text!r}{why}; {remedy}",
            is_fault=installs and not step.in_container,
        )
