"""SIGTERM ends a command in the same way as Ctrl-C, even if a library replaces the signal handlers."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from raygrid.cli.exit_status import exit_status
from raygrid.interrupts import Terminated, preserve_handlers, sigterm_as_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_how_to_continue(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert exit_status(lambda: signal.raise_signal(number)) == 128 + number
    assert capsys.readouterr().err == "stopped; run the same command again to continue\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_keeps_its_exit_status_while_ray_waits() -> None:
    def wait() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            raise KeyboardInterrupt from None  # as Ray does, whatever the handler raised

    assert exit_status(wait) == 128 + signal.SIGTERM


def test_handlers_of_a_library_are_replaced_after_the_block() -> None:
    def ignored(number: int, frame: Any) -> None:
        """Do nothing."""

    with sigterm_as_interrupt():
        with preserve_handlers():
            signal.signal(signal.SIGTERM, ignored)
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)


def test_ray_and_tune_keep_the_handlers(ray_session: Any) -> None:
    from ray import tune

    def trial(config: dict[str, Any]) -> None:
        tune.report({"x": 1})

    before: list[Callable[..., Any] | int | None] = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert signal.default_int_handler in before
    tune.Tuner(trial, run_config=tune.RunConfig(verbose=0)).fit()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
