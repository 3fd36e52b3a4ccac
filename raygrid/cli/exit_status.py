"""Exit status of a command: 0, 1 with one line for an error that raygrid explains, 128 + signal if stopped."""

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from raygrid.errors import RaygridError
from raygrid.interrupts import Terminated, sigterm_as_interrupt


def guarded(command: Callable[[], None]) -> NoReturn:
    """Run `command` and exit: 0, 1 after printing a RaygridError as one line, or 128 + signal if stopped."""
    sys.exit(exit_status(command))


def exit_status(command: Callable[[], None]) -> int:
    """Run `command` and return the exit status of its process."""
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
