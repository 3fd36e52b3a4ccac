"""Exceptions of code that raygrid did not write, as errors that name the target on one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from raygrid.errors import DataError, RaygridError, in_one_line
from raygrid.spec import TargetSpec


@contextmanager
def named_errors(spec: TargetSpec, kind: type[RaygridError] = DataError) -> Iterator[None]:
    """Turn any exception of a target into an error of `kind`; a RaygridError keeps its class.

    `sys.exit()` in a target is such an exception, too: it would end the run. KeyboardInterrupt alone passes.

    Raises RaygridError, whose cause is the exception, with its traceback.
    """
    try:
        yield
    except RaygridError as error:
        if repr(spec.label) in str(error):
            raise
        raise error.with_context(f"target {spec.label!r}: ") from error
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit, and the cancellations of asyncio
        text = in_one_line(error)
        short = isinstance(error, MemoryError) or "out of memory" in text.lower()
        remedy = "free memory on this machine" if short else "fix the target, or its declaration"
        raise kind(f"target {spec.label!r}, {spec.traits.words}: {spec.source} raised {text}; {remedy}") from error
