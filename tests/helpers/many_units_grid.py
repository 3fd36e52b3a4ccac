"""A study with many small units, so that nodes can join and be lost while it runs."""

from dataclasses import replace

from tiny_grid import tiny

from raygrid.cli import run_experiment
from raygrid.spec import StudySpec


def many_units() -> StudySpec:
    """Return the study of `tiny_grid` in units of 6 images, 14 for each surrogate."""
    study = tiny()
    return replace(study, name="demo", transfer=replace(study.transfer, block_size=6))


if __name__ == "__main__":
    run_experiment({"demo": many_units}, description=__doc__ or "", default="demo")
