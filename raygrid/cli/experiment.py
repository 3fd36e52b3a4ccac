"""The command line of an experiment file: presets, options, and the run of the chosen study."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from raygrid.cli.exit_status import guarded
from raygrid.errors import ClusterError, MissingDataError, SpecError
from raygrid.io.mirror import local_dir
from raygrid.progress import tell
from raygrid.spec import MAX_REJECTED_SHARE, StudySpec

_DEMO = "demo"  # preset with generated images, in the experiment files that have one
_EPILOG = """\
Run the same command again to resume: finished models and scored units stay, and only missing work is computed. A kill
at any moment costs at most the epoch or units in progress. The study folder holds everything: samples/, zoo/, scores/,
results/ (report.html, tables, auc.parquet) and mlflow.db.
"""


def main(*presets: Callable[[], StudySpec], arguments: list[str] | None = None) -> None:
    """Run the command line of an experiment file.

    End an experiment file with it:

        if __name__ == "__main__":
            rg.main(paper, demo)

    Then `python FILE --help` shows the docstring of the file and the options, and `python FILE --preset demo` runs the
    study that `demo()` returns. Running the same command again computes only what is missing.

    Args:
        presets: functions without arguments that return a study. A preset has the name of its function; the first one
            is the default.
        arguments: of the command line; None takes those of this process.

    Exits with status 1 and one line for an error that raygrid explains, such as missing data.
    """
    if not presets:
        raise TypeError("main expected at least one function that returns a StudySpec, got none")
    run_experiment(
        {preset.__name__: preset for preset in presets},
        description=sys.modules[presets[0].__module__].__doc__ or "",
        default=presets[0].__name__,
        arguments=arguments,
    )


def run_experiment(
    presets: Mapping[str, Callable[[], StudySpec]],
    *,
    description: str,
    default: str,
    arguments: list[str] | None = None,
) -> None:
    """Run the command line of an experiment file with named presets; `main` names them after their functions."""
    options = _experiment_parser(sorted(presets), description=description, default=default).parse_args(arguments)
    command = _say_plan if options.plan else _run

    def do() -> None:
        try:
            command(presets[options.preset](), options)
        except MissingDataError as error:
            if _DEMO not in presets or options.preset == _DEMO:
                raise
            demo = f"--preset {_DEMO} needs no data: it runs on generated images"
            raise MissingDataError(*error.lines, demo) from None

    guarded(do)


def _experiment_parser(presets: Sequence[str], *, description: str, default: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=presets, default=default, help="which study to run (default: %(default)s)")
    parser.add_argument(
        "--data-root", default="data", help="folder with the raw data sets, or its URL (default: %(default)s)"
    )
    parser.add_argument(  # not a Path, which would turn s3:// into s3:/
        "--output", help="study folder, or URL of one (s3://, gs://) in object storage (default: studies/<study name>)"
    )
    parser.add_argument(
        "--address", help="address of a running Ray cluster, or auto (default: start a local cluster for this run)"
    )
    parser.add_argument("--num-cpus", type=int, help="CPUs of the local cluster (default: all)")
    parser.add_argument(
        "--device", default="auto", help="auto (GPUs if the cluster has any), cpu or cuda (default: %(default)s)"
    )
    parser.add_argument(
        "--trials-per-gpu",
        type=int,
        metavar="N",
        help="trainings that share a GPU (default: as many as their estimated memory allows)",
    )
    parser.add_argument("--tracking-uri", help="MLflow tracking URI (default: SQLite in the study folder)")
    parser.add_argument(
        "--only", metavar="STAGE", help="run one stage: prepare, targets, train, transfer, report or track"
    )
    parser.add_argument(
        "--max-rejected-share",
        type=float,
        default=MAX_REJECTED_SHARE,
        metavar="SHARE",
        help="largest permitted share of unusable images per modality (default: %(default)s)",
    )
    parser.add_argument("--plan", action="store_true", help="show the work and cost of the study, without running it")
    parser.add_argument("--price", type=float, metavar="P", help="price of one device hour, for --plan")
    parser.add_argument(
        "--no-times",
        action="store_true",
        help="with --plan: do not time the networks (takes minutes for large ones on a CPU)",
    )
    return parser


def _say_plan(study: StudySpec, options: argparse.Namespace) -> None:
    from raygrid.models.timing import device_name, has_gpu
    from raygrid.study.plan import describe, plan_study

    if options.no_times and options.price is not None:
        raise SpecError("--price needs the hours that --no-times leaves out; use only one of them")
    if options.device == "cuda" and not has_gpu() and not options.no_times:
        raise ClusterError(
            "--plan --device cuda times the networks, but this machine has no GPU; use one that has, or --no-times"
        )
    folders = _study_dir(study, options).absolute(), local_dir(options.data_root).absolute()
    work = plan_study(study, *folders, timed=not options.no_times)
    tell(*describe(work, study, price=options.price, device=device_name()).split("\n"))


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
