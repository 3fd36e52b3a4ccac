"""A driver that is told to stop ends in order: SIGTERM, as `kill` and schedulers send it, does what Ctrl-C does."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_BOTH = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever handles a KeyboardInterrupt handles it, too."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise Terminated in the block when SIGTERM comes; outside of the main thread, which alone can, change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as error:
        if came and not isinstance(error, Terminated):
            raise Terminated from error  # where Ray waits it makes a KeyboardInterrupt of whatever a handler raises
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield what another thread calls to raise KeyboardInterrupt in the block; it does nothing outside of the main one.

    SIGINT would not do: shells start background jobs with it ignored.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main or main.ident is None:
        yield lambda: None
        return
    ident, before = main.ident, signal.signal(signal.SIGUSR2, signal.default_int_handler)
    try:
        yield lambda: signal.pthread_kill(ident, signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


@contextmanager
def preserve_handlers() -> Iterator[None]:
    """Keep what SIGINT and SIGTERM do over a block that would set it, as the start of Ray does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in _BOTH]
    try:
        yield
    finally:
        for number, handler in zip(_BOTH, before, strict=True):
            if handler is not None:  # one that was not set from Python, which could not be set again either
                signal.signal(number, handler)
