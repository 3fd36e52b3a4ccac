"""Run rsync on this machine with the rules that Ray gives it."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ABSENT, EMPTY, COPIED = "absent", "empty", "copied"
_PATIENCE = 60.0  # seconds for listing a folder
_PARTLY = (23, 24)  # exit statuses of rsync: some files cannot be read, or vanish meanwhile


class RsyncError(Exception):
    """rsync refuses the rules."""


class SlowRsyncError(RsyncError):
    """rsync needs more than a minute to list a folder."""


@dataclass(frozen=True)
class Copy:
    """One entry of file_mounts.

    Attributes:
        target: path on the nodes.
        source: file or folder on this machine.
        files: size in bytes by path on the nodes, of each file that arrives.
    """

    target: PurePosixPath
    source: Path
    files: Mapping[PurePosixPath, int]


def has_rsync() -> bool:
    return shutil.which("rsync") is not None


def arrivals(rules: Sequence[str], folders: Sequence[PurePosixPath], filters: Sequence[Path]) -> list[str]:
    """Return for each folder whether a copy with these rules leaves it ABSENT, EMPTY or COPIED on the other side.

    The source is a model: the given folders, each with the files of a virtual environment. They include the
    .gitignore of Python and uv, which a filter for .gitignore reads.

    Args:
        rules: options of rsync.
        folders: relative paths.
        filters: files of patterns that lie at the top of the true source.

    Raises RsyncError if rsync refuses the rules.
    """
    with tempfile.TemporaryDirectory(prefix="raygrid-rsync-") as place:
        source, node = Path(place, "source"), Path(place, "node")
        source.mkdir()
        for folder in folders:
            (source / folder / "bin").mkdir(parents=True, exist_ok=True)
            (source / folder / "bin" / "python").write_text("")
            (source / folder / "pyvenv.cfg").write_text("")
            (source / folder / ".gitignore").write_text("*\n")
        for path in filters:
            shutil.copyfile(path, source / path.name)
        _run([*rules, f"{source}/", str(node)])
        return [_state(node / folder) for folder in folders]


def copy(rules: Sequence[str], source: Path, target: PurePosixPath) -> Copy:
    """Return the copy that rsync would make of a file or folder with these rules.

    Raises RsyncError if rsync refuses the rules, SlowRsyncError if it needs more than a minute.
    """
    slash = "/" if source.is_dir() else ""
    with tempfile.TemporaryDirectory(prefix="raygrid-rsync-") as node:
        options = ["--dry-run", "-8", "--out-format=%l\t%n", *rules, f"{source}{slash}", node]
        lines = [line for line in _run(options).splitlines() if "\t" in line and not line.endswith("/")]
    files = {}
    for line in lines:
        size, _, name = line.partition("\t")
        files[target / name if slash else target] = int(size.replace(",", ""))
    return Copy(target, source, files)


def _run(options: list[str]) -> str:
    try:
        done = subprocess.run(["rsync", "-a", *options], capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise SlowRsyncError(
            f"file_mounts: rsync needs more than {_PATIENCE:.0f} seconds to list {options[-2]}, so the rules were "
            "not tried; exclude large folders, or mount only the folders that nodes need"
        ) from error
    if done.returncode and done.returncode not in _PARTLY:
        reason = next(iter(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
        raise RsyncError(f"rsync_exclude and rsync_filter: rsync refuses these rules: {reason}; correct them")
    return done.stdout


def _state(folder: Path) -> str:
    if not folder.exists():
        return ABSENT
    return COPIED if any(path.is_file() for path in folder.rglob("*")) else EMPTY
