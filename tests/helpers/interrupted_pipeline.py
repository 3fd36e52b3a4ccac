"""Run a pipeline and interrupt it at a bad moment for Ray Data: a program, as is its cluster.

The argument is `start`, while the iterator over the rows is made, or `step`, while a thread of Ray Data is in a step
that takes longer than Ray Data waits for it.
"""

import signal
import sys
import threading
import time
from typing import Any

import numpy as np

from raygrid.cli.exit_status import guarded
from raygrid.study.cluster import connected, read_resources
from raygrid.study.transfer import run_pipeline

NUM_ROWS = 200
STEP_S = 6  # Ray Data waits 2 s


class Scorer:
    """An actor that returns each row."""

    def __init__(self, job: dict[str, Any]) -> None:
        pass

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(0.05)
        return batch


def read(row: dict[str, Any]) -> dict[str, Any]:
    return row


def interrupt_at_the_start() -> None:
    from ray.data.iterator import DataIterator

    made = DataIterator._create_batch_iterator

    def interrupted(*args: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return made(*args, **options)

    DataIterator._create_batch_iterator = interrupted


def slow_steps() -> tuple[threading.Event, threading.Event]:
    """Make the steps of the pipeline slow once the first event is set; the second tells that one is under way."""
    from ray.data._internal.execution import streaming_executor

    select = streaming_executor.select_operator_to_run
    wanted, under_way = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        if wanted.is_set():
            under_way.set()
            time.sleep(STEP_S)
        return select(*args, **options)

    streaming_executor.select_operator_to_run = slow
    return wanted, under_way


def main() -> None:
    with connected(None, num_cpus=1) as ray:
        resources = read_resources(ray, "cpu")
        rows = run_pipeline([{"unit": k} for k in range(NUM_ROWS)], read, Scorer, {}, resources)
        if sys.argv[1] == "start":
            interrupt_at_the_start()
            next(rows)
        wanted, under_way = slow_steps()
        next(rows)
        wanted.set()
        assert under_way.wait(60)
        signal.raise_signal(signal.SIGINT)  # the variable `rows` keeps the iterator open


if __name__ == "__main__":
    guarded(main)
