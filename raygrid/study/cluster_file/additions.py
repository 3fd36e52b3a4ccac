"""Commands that Ray adds where the file does not have a list of commands."""

from collections.abc import Iterator

from raygrid.study.cluster_file.config import ClusterFile
from raygrid.study.cluster_file.finding import Finding, note
from raygrid.study.cluster_file.packages import installs_with_system_pip


def added_commands(file: ClusterFile) -> Iterator[Finding]:
    """Yield the commands that `ray up` would run although the file does not name them.

    It is a fault if one installs packages outside a container: the system's pip refuses on Debian 12 and Ubuntu 24.04.
    """
    harmless: dict[str, list[str]] = {}
    for step in file.steps:
        key = step.where.partition("[")[0]
        if step.is_rays and not step.in_container and any(map(installs_with_system_pip, step.commands)):
            yield Finding(
                f"{key}: absent, so Ray runs {step.text!r} with the system's pip, which refuses that on Debian 12 and "
                f"Ubuntu 24.04; add the list, or {key}: []"
            )
        elif step.is_rays:
            harmless.setdefault(key, []).append(repr(step.text))
    for key, texts in harmless.items():
        yield note(f"{key}: absent, so Ray runs {' and '.join(texts)}; add the list to choose the commands yourself")
