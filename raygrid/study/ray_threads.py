"""The end of Ray Data's threads, before Ray ends.

Ray Data runs a pipeline in threads of the driver. After an interrupt it waits two seconds for one of them, and never
stops another. A thread or an iterator that outlives `ray.shutdown()` calls Ray again. Ray then starts another cluster
on this machine, prints an error after the last line of the run, or ends the process without any line.
"""

import gc
import sys
import threading
import time
from contextlib import suppress

_LONGEST_S = 30.0  # a step of a pipeline on a busy machine takes seconds
_PARKED_S = 5.0  # for a thread that may wait for ever, and then calls nothing
_MAY_PARK = (
    "iter_threaded",
    "Prefetcher",
)  # names; they wait until an iterator is closed, or if they missed the signal to stop


def end_pipelines() -> None:
    """Stop all pipelines of Ray Data in this process, and wait for their threads for at most 30 s."""
    if "ray.data" not in sys.modules:  # its import takes seconds
        return
    from ray.data._internal.block_batching.util import WaitBlockPrefetcher
    from ray.data._internal.execution.metadata_fetcher import ThreadedMetadataFetcher
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

    deadline = time.monotonic() + _LONGEST_S
    # all objects: the traceback of an interrupt can hold an executor whose thread has ended
    known = gc.get_objects()
    executors = [found for found in known if type(found) is StreamingExecutor]
    for executor in executors:
        with suppress(Exception):  # a lost cluster must not hide the error that ends the run
            executor.shutdown(force=True)
    for found in known:
        if type(found) in (ThreadedMetadataFetcher, WaitBlockPrefetcher):
            found.stop()
    for executor in executors:
        executor.join(max(0.0, deadline - time.monotonic()))
    for thread in threading.enumerate():
        if thread.name in _MAY_PARK:
            thread.join(_PARKED_S)
