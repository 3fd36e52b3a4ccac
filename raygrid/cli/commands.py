"""The command line: studies declared in `experiments/`, and the `raygrid` command for finished or running ones."""

import argparse
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from raygrid import __version__
from raygrid.errors import ClusterError, MissingDataError, RaygridError, SpecError
from raygrid.interrupts import Terminated, sigterm_as_interrupt
from raygrid.io.mirror import display_path, local_dir
from raygrid.progress import tell
from raygrid.spec import MAX_REJECTED_SHARE, StudySpec

_DESCRIPTION = """\
Look at the folder of a study, make its results again, plan and check what an experiment file declares. A study is run
by its own file: python experiments/full_grid.py --help
"""
_DEMO = "demo"  # the preset of a study of phantoms, where an experiment file has one
_EPILOG = """\
Running the same command again is the resume: finished models and scored units are kept, only what is missing is
computed. Kill it at any moment; at most the units in hand are lost. The study folder holds everything: samples/, zoo/,
scores/, results/ (report.html, tables, auc.parquet) and mlflow.db.
"""


def run_experiment(
    presets: Mapping[str, Callable[[], StudySpec]],
    *,
    description: str,
    default: str,
    arguments: list[str] | None = None,
) -> None:
    """Parse the command line of an experiment file, and run the chosen study; exits 1 with a message if it cannot."""
    options = _experiment_parser(sorted(presets), description=description, default=default).parse_args(arguments)
    command = _say_plan if options.plan else _run

    def do() -> None:
        try:
            command(presets[options.preset](), options)
        except MissingDataError as error:
            if _DEMO not in presets or options.preset == _DEMO:
                raise
            raise MissingDataError(f"{error}\n--preset {_DEMO} needs no data: it shows the tool on phantoms") from None

    guarded(do)


def _experiment_parser(presets: Sequence[str], *, description: str, default: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=presets, default=default, help="which study to run (default: %(default)s)")
    parser.add_argument(
        "--data-root", default="data", help="folder with the raw data sets, or its URL (default: %(default)s)"
    )
    parser.add_argument(  # a Path would make s3:/ of s3://
        "--output", help="study folder, or URL of one (s3://, gs://) in object storage (default: studies/<study name>)"
    )
    parser.add_argument(
        "--address", help="address of a running Ray cluster, or auto; without it a local one is started and ended"
    )
    parser.add_argument("--num-cpus", type=int, help="CPUs of the local cluster (default: all)")
    parser.add_argument(
        "--device", default="auto", help="auto (GPUs if the cluster has any), cpu or cuda (default: %(default)s)"
    )
    parser.add_argument(
        "--trials-per-gpu",
        type=int,
        metavar="N",
        help="trainings that share a GPU (default: as many as their estimated memory permits)",
    )
    parser.add_argument("--tracking-uri", help="MLflow tracking URI (default: SQLite in the study folder)")
    parser.add_argument(
        "--only", metavar="STAGE", help="do one stage: prepare, targets, train, transfer, report or track"
    )
    parser.add_argument(
        "--max-rejected-share",
        type=float,
        default=MAX_REJECTED_SHARE,
        metavar="SHARE",
        help="share of a modality's images that may be unusable; more stop the study (default: %(default)s)",
    )
    parser.add_argument("--plan", action="store_true", help="say what the study would do and cost, and do nothing")
    parser.add_argument("--price", type=float, metavar="P", help="price of one device hour, for --plan")
    parser.add_argument(
        "--no-times",
        action="store_true",
        help="with --plan: do not run each network a few times to tell hours (minutes for large ones on a CPU)",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `raygrid` command."""
    parser = argparse.ArgumentParser(prog="raygrid", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"raygrid {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("status", _status, "what exists, what is missing, what failed and why, how fast it goes"),
        ("report", _report, "make auc.parquet, tables and report.html again from the scores"),
        ("track", _track, "write what a tracking store lacks"),
        ("clean", _clean, "list what the study no longer uses, and with --delete delete it"),
        ("inspect-data", _inspect, "show the prepared images: counts, prevalence, sizes, rejects, a contact sheet"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("study", help="study folder, or its URL")
        if name == "track":
            sub.add_argument("--tracking-uri", help="MLflow tracking URI (default: SQLite in the study folder)")
        if name == "status":
            sub.add_argument("--failed", action="store_true", help="show all that is known of each failure")
        if name == "clean":
            sub.add_argument("--delete", action="store_true", help="delete what is listed")
        sub.set_defaults(command=command)
    text = "check a cluster file for ray up, without a cloud"
    sub = commands.add_parser("check-cluster", help=text, description=text)
    sub.add_argument("file", type=Path, nargs="+", help="cluster file, such as cluster.yaml")
    sub.add_argument("--template", action="store_true", help="values that are still to be filled in are no fault")
    sub.set_defaults(command=_check_cluster)
    for name, extra, text in (
        (
            "plan",
            ["--plan"],
            "say what the study of an experiment file would do and cost, and do nothing",
        ),
        ("prepare", ["--only", "prepare"], "prepare the images of the study of an experiment file, and nothing more"),
        (
            "check-target",
            ["--only", "targets"],
            "try the targets of an experiment file that raygrid did not train, on prepared images, and say their AUC",
        ),
    ):
        sub = commands.add_parser(name, help=text, description=f"{text}; the other options are those of the file")
        sub.add_argument("file", type=Path, help="experiment file, such as experiments/full_grid.py")
        sub.add_argument("options", nargs=argparse.REMAINDER, help="options of that file: --data-root, --preset, ...")
        sub.set_defaults(command=_run_file, extra=extra)
    options = parser.parse_args(arguments)
    guarded(lambda: options.command(options))


def _say_plan(study: StudySpec, options: argparse.Namespace) -> None:
    from raygrid.models.timing import device_name, has_gpu
    from raygrid.study.plan import describe, plan_study

    if options.no_times and options.price is not None:
        raise SpecError("--price needs the hours that --no-times leaves out; give one of them")
    if options.device == "cuda" and not has_gpu() and not options.no_times:
        raise ClusterError("--plan times the networks on this machine, which has no GPU; plan on one that has")
    folders = _study_dir(study, options).absolute(), local_dir(options.data_root).absolute()
    work = plan_study(study, *folders, timed=not options.no_times)
    tell(describe(work, study, price=options.price, device=device_name()))


def _run(study: StudySpec, options: argparse.Namespace) -> None:
    from raygrid.study.run import RunOptions, run_study

    run_study(
        study,
        RunOptions(
            study_dir=_study_dir(study, options),
            data_root=local_dir(options.data_root),
            address=options.address,
            tracking_uri=options.tracking_uri,
            only=options.only,
            num_cpus=options.num_cpus,
            device=options.device,
            trials_per_gpu=options.trials_per_gpu,
            max_rejected_share=options.max_rejected_share,
        ),
    )


def _study_dir(study: StudySpec, options: argparse.Namespace) -> Path:
    return local_dir(options.output or Path("studies") / study.name)


def _status(options: argparse.Namespace) -> None:
    from raygrid.store.folder import open_study
    from raygrid.study.status import describe_status

    tell(describe_status(open_study(options.study), whole=options.failed))


def _report(options: argparse.Namespace) -> None:
    from raygrid.io.lease import lease
    from raygrid.store.folder import open_study
    from raygrid.study.publish import publish

    folder = open_study(options.study)  # before the lease, which would make a folder
    with lease(folder.path):
        publish(folder, again=True)


def _track(options: argparse.Namespace) -> None:
    from raygrid.io.lease import lease
    from raygrid.store.folder import open_study
    from raygrid.study.run import track

    folder = open_study(options.study)  # before the lease, which would make a folder
    with lease(folder.path):
        track(folder, options.tracking_uri)


def _clean(options: argparse.Namespace) -> None:
    from raygrid.io.lease import lease
    from raygrid.store.folder import open_study
    from raygrid.study.clean import find_half_written, find_leftovers

    folder = open_study(options.study)  # before the lease, which would make a folder
    with lease(folder.path):  # nobody writes meanwhile
        found = [*find_leftovers(folder), *find_half_written(folder.path)]
        sizes = [leftover.num_bytes for leftover in found]
        for leftover, size in zip(found, sizes, strict=True):
            tell(f"{size / 1e6:10.1f} MB  {display_path(leftover.path)}: {leftover.why}")
            if options.delete:
                leftover.delete()
        done = "deleted" if options.delete else "can go: raygrid clean --delete STUDY" if found else "nothing to clean"
        tell(f"{sum(sizes) / 1e6:10.1f} MB  {done}")


def _check_cluster(options: argparse.Namespace) -> None:
    from raygrid.study.cluster_file import check_cluster_file

    for path in options.file:
        faults = check_cluster_file(path, template=options.template)
        if faults:
            raise SpecError(f"{path} is not right:\n" + "\n".join(f"  {fault}" for fault in faults))
        tell(f"{path}: accepted by Ray's schema and by raygrid's checks")


def _inspect(options: argparse.Namespace) -> None:
    from raygrid.store.folder import open_study
    from raygrid.study.inspect_data import inspect_samples

    inspect_samples(open_study(options.study))


def _run_file(options: argparse.Namespace) -> None:
    if not options.file.exists():
        raise SpecError(f"{options.file} is not there; expected an experiment file such as experiments/full_grid.py")
    sys.path.insert(0, str(options.file.parent.absolute()))  # as Python does for a script, for the files beside it
    sys.argv = [str(options.file), *options.options, *options.extra]
    runpy.run_path(str(options.file), run_name="__main__")


def guarded(command: Callable[[], None]) -> NoReturn:
    """Do `command` and exit: 1, in one line, for an error that raygrid explains; 128 + the signal if stopped."""
    sys.exit(_status_of(command))


def _status_of(command: Callable[[], None]) -> int:
    try:
        with sigterm_as_interrupt():
            command()
    except RaygridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return 0


if __name__ == "__main__":
    main()
