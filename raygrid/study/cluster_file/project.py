"""The files of a project that its installation on a node needs."""

import os
import tomllib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from raygrid.study.cluster_file.config import ClusterFile, Finding, on_node
from raygrid.study.cluster_file.environments import in_folders
from raygrid.study.cluster_file.rsync import Copy, copy

_PROJECT_FILES = ("pyproject.toml", "setup.py")
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in")
_NO_PACKAGES = frozenset({"test", "tests", "doc", "docs", "example", "examples", "benchmarks", "scripts", "tools"})
_LISTS = ("-r", "-c", "--requirement", "--requirements", "--constraint", "--constraints")
_SHOWN = 2  # examples in a message
_REMADE = frozenset({".pyc", ".pyo", ".so"})  # made again on the node


def check_projects(file: ClusterFile, copies: Sequence[Copy]) -> Iterator[Finding]:
    """Yield the files of an installed project that no copy brings to the nodes, with the rule that excludes them."""
    arriving = {path for one in copies for path in one.files}
    needed = [target / name for target, source in _projects(copies).items() for name in needed_files(source)]
    needed += [path for path in _files_of_commands(file) if any(_has(one, path) for one in copies)]
    missing = [path for path in dict.fromkeys(needed) if path not in arriving]
    for one in copies:
        left_out = [path for path in missing if path.is_relative_to(one.target)]
        if left_out:
            yield from _rules_that_leave_out(file, one, left_out)
    nowhere = [path for path in missing if not any(path.is_relative_to(one.target) for one in copies)]
    if nowhere:
        yield Finding(
            f"file_mounts: expected an entry for {_some(nowhere)}, which the installation on a node needs, got none; "
            "add one"
        )


def project_name(source: Path) -> str:
    """Return the name in a project's pyproject.toml; empty without one."""
    return str(_metadata(source).get("name", ""))


def needed_files(source: Path) -> Iterator[str]:
    """Yield the relative path of each file without which `pip install` of a project fails or installs too little."""
    yield from (name for name in _BUILD_FILES if (source / name).is_file())
    metadata = _metadata(source)
    readme = metadata.get("readme")
    licenses = metadata.get("license-files")
    for name in [readme, *(licenses if isinstance(licenses, list) else [])]:
        if isinstance(name, str) and (source / name).is_file():
            yield name
    for package in sorted([*source.glob("*/__init__.py"), *source.glob("src/*/__init__.py")]):
        if package.parent.name in _NO_PACKAGES:
            continue
        for folder, folders, files in os.walk(package.parent):
            folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
            for name in files:
                if not name.startswith(".") and Path(name).suffix not in _REMADE:
                    yield Path(folder, name).relative_to(source).as_posix()


def _files_of_commands(file: ClusterFile) -> Iterator[PurePosixPath]:
    """Yield the files that pip reads in the set-up commands (-r, -c)."""
    for step in file.steps:
        for command, folder in in_folders(step):
            if command.program == "uv" or "pip" in command.text:
                pairs = pairwise(command.words)
                yield from (on_node(folder / value) for option, value in pairs if option in _LISTS)


def _projects(copies: Sequence[Copy]) -> dict[PurePosixPath, Path]:
    """Return the local folder of each folder on the nodes that becomes a project: its pyproject.toml is mounted."""
    found = {}
    for one in copies:
        if one.source.is_dir():
            if any((one.source / name).is_file() for name in _PROJECT_FILES):
                found[one.target] = one.source
        elif one.target.name in _PROJECT_FILES:
            found[one.target.parent] = one.source.parent
    return found


def _has(copied: Copy, path: PurePosixPath) -> bool:
    """Whether a file on the nodes comes from a copy, if the rules let it pass."""
    if copied.source.is_dir():
        return path.is_relative_to(copied.target) and (copied.source / path.relative_to(copied.target)).is_file()
    return path == copied.target


def _rules_that_leave_out(file: ClusterFile, copied: Copy, paths: Sequence[PurePosixPath]) -> Iterator[Finding]:
    rules = file.rsync_rules
    for option, value in zip(rules[::2], rules[1::2], strict=True):
        arriving = copy([option, value], copied.source, copied.target).files
        gone = [path for path in paths if path not in arriving]
        if gone:
            key = "rsync_exclude" if option == "--exclude" else "rsync_filter"
            yield Finding(
                f"{key}: {value.removeprefix('dir-merge,- ')!r} excludes {_some(gone)}, which the installation on a "
                f"node needs; begin the pattern with / to apply it only at the top of {copied.source}"
            )


def _some(paths: Sequence[PurePosixPath]) -> str:
    rest = len(paths) - _SHOWN
    return ", ".join(map(str, paths[:_SHOWN])) + (f" and {rest} more" if rest > 0 else "")


def _metadata(source: Path) -> dict[str, object]:
    try:
        project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8")).get("project")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    return project if isinstance(project, dict) else {}
