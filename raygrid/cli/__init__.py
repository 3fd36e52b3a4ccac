"""The command lines: of an experiment file, and of the `raygrid` command."""

from raygrid.cli.experiment import run_experiment as run_experiment
