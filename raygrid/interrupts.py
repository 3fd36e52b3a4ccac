"""Clean shutdown: SIGTERM, which `kill` and schedulers send, stops a driver in the same way as Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM. Code that handles KeyboardInterrupt handles this, too."""


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise Terminated in the block on SIGTERM.

    Only the main thread can set signal handlers; in any other thread, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_received = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal is_received
        is_received = True
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as error:
        if is_received and not isinstance(error, Terminated):
            raise Terminated from error  # Ray replaces a handler's exception by KeyboardInterrupt
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt in the block; another thread calls it.

    Only the main thread can be interrupted; for a block in any other thread, the function does nothing. It sends
    SIGUSR2, since shells start background jobs with SIGINT ignored.
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
    """Restore the handlers of SIGINT and SIGTERM after the block; starting Ray replaces them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            if handler is not None:  # None: set outside Python, cannot be restored from here
                signal.signal(number, handler)
