"""The copies that Ray makes with rsync: from this machine to the head, and from the head to each worker."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from raygrid.study.cluster_file.config import ClusterFile, Finding, note, on_node
from raygrid.study.cluster_file.environments import created_environments, trusted_environments
from raygrid.study.cluster_file.project import check_projects, project_name
from raygrid.study.cluster_file.rsync import COPIED, EMPTY, Copy, RsyncError, SlowRsyncError, arrivals, copy, has_rsync

_LARGE = 200e6  # bytes of one folder
_SLOW = 10e9  # bytes that take minutes to read


def check_copies(file: ClusterFile) -> Iterator[Finding]:
    """Yield the folders and files that the rsync rules copy to the nodes, or exclude, by mistake."""
    environments = _environments(file)
    yield from _tests_of_folders(file)
    sources = {on_node(remote): Path(local).expanduser() for remote, local in file.file_mounts.items()}
    sources = {target: source for target, source in sources.items() if source.exists()}
    synced = [on_node(path) for path in file.merged.get("cluster_synced_files") or []]
    for source in sources.values():
        yield from _unreadable(source)
    if not (sources or synced):
        return
    if not has_rsync():
        yield note("rsync_exclude: not tried, because rsync is not installed on this machine; install it for ray up")
        return
    try:
        copies = [copy(file.rsync_rules, source, target) for target, source in sources.items()]
        for one in copies:
            if one.source.is_dir():
                yield from _filters(file, one)
                yield from _copied_environments(file, one.target, one.source, environments)
                yield from _needless(file, one, environments)
        for target in synced:
            yield from _copied_environments(file, target, None, environments)
        yield from check_projects(file, copies)
    except RsyncError as error:
        yield Finding(str(error), is_fault=not isinstance(error, SlowRsyncError))


def _environments(file: ClusterFile) -> dict[PurePosixPath, str]:
    """Return the virtual environments that the commands create, each with the step that creates it."""
    return {folder: step.where for step in reversed(file.steps) for folder in created_environments(step)}


def _filters(file: ClusterFile, copied: Copy) -> Iterator[Finding]:
    for name in file.merged.get("rsync_filter") or []:
        if not (copied.source / str(name)).is_file():
            yield note(
                f"rsync_filter: {copied.source} has no file {name!r} with patterns, so this entry excludes nothing "
                "there; write patterns into rsync_exclude"
            )


def _copied_environments(
    file: ClusterFile, target: PurePosixPath, source: Path | None, environments: Mapping[PurePosixPath, str]
) -> Iterator[Finding]:
    """Yield the virtual environments that would reach a node before its set-up creates them."""
    inside = [folder for folder in environments if folder.is_relative_to(target) and folder != target]
    relative = [folder.relative_to(target) for folder in inside]
    for folder, name, state in zip(inside, relative, _trial(file, source, relative), strict=True):
        if state == EMPTY:
            tests = [step.where for step in file.steps if folder in trusted_environments(step)]
            then = f"{tests[0]} then creates none, and no worker joins" if tests else "it is no virtual environment"
            yield Finding(
                f"rsync_exclude: {folder} reaches the nodes as an empty folder, because the rules exclude only its "
                f'contents: {then}; exclude the folder itself with "/{name}"'
            )
        elif state == COPIED:
            yield Finding(
                f"rsync_exclude: {folder} is copied to every worker before {environments[folder]} creates it there, "
                f'and its Python is that of another machine; add "/{name}"'
            )


def _trial(file: ClusterFile, source: Path | None, folders: list[PurePosixPath]) -> list[str]:
    names = file.merged.get("rsync_filter") or []
    filters = [path for name in names if source is not None and (path := source / str(name)).is_file()]
    return arrivals(file.rsync_rules, folders, filters)


def _tests_of_folders(file: ClusterFile) -> Iterator[Finding]:
    for step in file.steps:
        for folder in sorted(trusted_environments(step)):
            yield note(
                f"{step.where}: tests only whether {folder} exists, so an empty or incomplete folder counts as an "
                f"environment; test with [ -x {folder}/bin/python ]"
            )


def _needless(file: ClusterFile, copied: Copy, environments: Mapping[PurePosixPath, str]) -> Iterator[Finding]:
    """Yield copied folders that no node needs, or that are large."""
    source = copied.source
    sizes: dict[str, int] = {}
    for path, size in copied.files.items():
        name = path.relative_to(copied.target).parts[0]
        sizes[name] = sizes.get(name, 0) + size
    usual = [".git"] if (source / ".git").exists() or (source / "pyproject.toml").exists() else []
    usual += ["studies", "data"] if project_name(source) == "raygrid" else []
    own = [path.parent.name for path in source.glob("*/pyvenv.cfg")]
    names = list(dict.fromkeys([*usual, *own]))
    states = dict(zip(names, _trial(file, source, [PurePosixPath(name) for name in names]), strict=True))
    for name in dict.fromkeys([*states, *sizes]):
        state, size = states.get(name, COPIED), sizes.get(name, 0)
        if copied.target / name in environments:  # a fault already
            continue
        if state == EMPTY and name in own:
            yield note(
                f'rsync_exclude: {source / name} reaches the nodes empty; exclude the folder itself with "/{name}"'
            )
        elif state == COPIED and (name in states or size > _LARGE):
            yield note(
                f'rsync_exclude: {source / name} is copied to every node ({size / 1e6:,.1f} MB); add "/{name}" '
                "if no node needs it"
            )


def _unreadable(source: Path) -> Iterator[Finding]:
    """Yield the first file at which `ray up` stops: it reads every file of a mount, even an excluded one."""
    total = 0
    for folder, _, names in os.walk(source):
        for name in names:
            path = Path(folder, name)
            status = path.stat() if path.exists() else None
            if status and stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                total += status.st_size
                continue
            problem = "is a broken link" if status is None else "is not a readable file"
            yield Finding(f"file_mounts: {path} {problem}, and ray up stops when it reads it for a checksum; remove it")
            return
    if total > _SLOW:
        yield note(
            f"file_mounts: ray up reads all {total / 1e9:,.1f} GB of {source} for a checksum before it starts a node, "
            "including files that rsync_exclude names; mount only the folders that nodes need"
        )
