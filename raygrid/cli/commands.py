"""The `raygrid` command: inspect a study, make its results again, plan and check experiment files."""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

from raygrid._version import __version__
from raygrid.cli.exit_status import guarded
from raygrid.cli.figures import add_figures, add_tables
from raygrid.errors import SpecError
from raygrid.io.mirror import display_path
from raygrid.progress import tell

_DESCRIPTION = """\
Inspect a study folder, make its results again, or plan and check an experiment file. To run a study, run its experiment
file: python experiments/full_grid.py --help
"""

_CHECK_CLUSTER = """\
Check a cluster file for `ray up`, without a cloud. Merge the file with Ray's defaults, try its rsync rules on this
machine, and look for commands that fail on a new node. If there are faults, the exit status is 1. Notes, which depend
on the image, do not change it. Run the command in the folder where you run `ray up`: local paths are relative to it.
"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `raygrid` command."""
    options = _parser().parse_args(arguments)
    guarded(lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="raygrid", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"raygrid {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_commands_on_studies(commands)
    add_figures(commands)
    add_tables(commands)
    text = "check a cluster file for `ray up`, without a cloud"
    sub = commands.add_parser("check-cluster", help=text, description=_CHECK_CLUSTER)
    sub.add_argument("file", type=Path, nargs="+", help="cluster file, such as cluster.yaml")
    sub.add_argument(
        "--template",
        action="store_true",
        help="accept values that are still to be filled in (REPLACE), and a missing token or SSH key",
    )
    sub.set_defaults(command=_check_cluster)
    text = "check that this machine can work as a node of a cluster: GPUs, driver, PyTorch, folders"
    sub = commands.add_parser("check-node", help=text, description=text)
    sub.add_argument(
        "--writable",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="also check that this user can create files in FOLDER; repeatable",
    )
    sub.set_defaults(command=_check_node)
    _add_commands_on_files(commands)
    return parser


def _add_commands_on_studies(commands: Any) -> None:
    for name, command, text in (
        ("status", _status, "show finished and missing work, failures and pace"),
        ("report", _report, "make the results (auc.parquet, tables, report.html) again from the scores"),
        ("track", _track, "upload missing runs to an MLflow tracking store"),
        ("clean", _clean, "list files that the study no longer uses; --delete removes them"),
        ("inspect-data", _inspect, "show the prepared images: counts, prevalence, sizes, rejects, contact sheet"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("study", help="study folder, or its URL")
        if name == "track":
            sub.add_argument("--tracking-uri", help="MLflow tracking URI (default: SQLite in the study folder)")
        if name == "status":
            sub.add_argument("--failed", action="store_true", help="show failures with their tracebacks")
        if name == "clean":
            sub.add_argument("--delete", action="store_true", help="delete the listed files")
        sub.set_defaults(command=command)


def _add_commands_on_files(commands: Any) -> None:
    """Add the commands that run an experiment file with extra options."""
    check = "check the external targets of an experiment file on prepared images, and show their AUC"
    for name, extra, text in (
        ("plan", ["--plan"], "show the work and cost of the study in an experiment file, without running it"),
        ("prepare", ["--only", "prepare"], "prepare the images of the study in an experiment file"),
        ("check-target", ["--only", "targets"], check),
    ):
        sub = commands.add_parser(name, help=text, description=f"{text}. Other options are those of the file.")
        sub.add_argument("file", type=Path, help="experiment file, such as experiments/full_grid.py")
        sub.add_argument("options", nargs=argparse.REMAINDER, help="options of that file: --data-root, --preset, ...")
        sub.set_defaults(command=_run_file, extra=extra)


def _status(options: argparse.Namespace) -> None:
    from raygrid.store.folder import open_study
    from raygrid.study.status import describe_status

    tell(*describe_status(open_study(options.study), whole=options.failed).split("\n"))


def _report(options: argparse.Namespace) -> None:
    from raygrid.io.lease import lease
    from raygrid.store.folder import open_study
    from raygrid.study.publish import write_results

    folder = open_study(options.study)  # before the lease, which would create the folder
    with lease(folder.path):
        write_results(folder, again=True)


def _track(options: argparse.Namespace) -> None:
    from raygrid.io.lease import lease
    from raygrid.store.folder import open_study
    from raygrid.study.run import track

    folder = open_study(options.study)  # before the lease, which would create the folder
    with lease(folder.path):
        track(folder, options.tracking_uri)


def _clean(options: argparse.Namespace) -> None:
    from raygrid.io.lease import lease
    from raygrid.store.folder import open_study
    from raygrid.study.clean import find_half_written, find_unused

    folder = open_study(options.study)  # before the lease, which would create the folder
    with lease(folder.path):  # so that no driver writes meanwhile
        found = [*find_unused(folder), *find_half_written(folder.path)]
        sizes = [unused.num_bytes for unused in found]
        for unused, size in zip(found, sizes, strict=True):
            tell(f"{size / 1e6:10.1f} MB  {display_path(unused.path)}: {unused.why}")
            if options.delete:
                unused.delete()
        done = (
            "deleted"
            if options.delete
            else "delete with: raygrid clean --delete STUDY"
            if found
            else "nothing to clean"
        )
        tell(f"{sum(sizes) / 1e6:10.1f} MB  {done}")


def _check_cluster(options: argparse.Namespace) -> None:
    from raygrid.study.cluster_file import inspect_cluster_file

    lines: list[str] = []
    for path in options.file:
        found = inspect_cluster_file(path, template=options.template)
        faults = [finding.text for finding in found if finding.is_fault]
        for finding in found:
            if not finding.is_fault:
                tell(f"{path}: note: {finding.text}")
        if faults:
            number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
            lines += [f"{path} has {number}:", *(f"  {fault}" for fault in faults)]
        else:
            tell(f"{path}: accepted by Ray's schema and by raygrid's checks")
    if lines:
        raise SpecError(*lines)


def _check_node(options: argparse.Namespace) -> None:
    from raygrid.study.check_node import check_node

    check_node(options.writable)


def _inspect(options: argparse.Namespace) -> None:
    from raygrid.store.folder import open_study
    from raygrid.study.inspect_data import inspect_samples

    inspect_samples(open_study(options.study))


def _run_file(options: argparse.Namespace) -> None:
    if not options.file.exists():
        raise SpecError(f"{options.file} does not exist; expected an experiment file such as experiments/full_grid.py")
    sys.path.insert(0, str(options.file.parent.absolute()))  # as Python does for a script, for the files beside it
    sys.argv = [str(options.file), *options.options, *options.extra]
    runpy.run_path(str(options.file), run_name="__main__")


if __name__ == "__main__":
    main()
