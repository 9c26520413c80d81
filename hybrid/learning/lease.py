"""A machine that is lent for some minutes: trainings end with the last epoch that fits."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)
# An epoch may take this much longer than those before it.
_SPARE = 1.2


class LeaseOverError(RuntimeError):
    """There was no time for all; what is finished is kept, and the same command goes on from it."""


@contextmanager
def lease(until: float | None) -> Iterator[None]:
    """Let trainings within the block end before a time, as of `time.time()`; None for no end."""
    before = _UNTIL.set(until)
    try:
        yield
    finally:
        _UNTIL.reset(before)


def over(seconds: float = 0.0, until: float | None = None) -> bool:
    """Return whether there is no time left for what took so many seconds before.

    Args:
        seconds: of the longest epoch so far, for example.
        until: the end; None for that of the present `lease`.
    """
    end = _UNTIL.get() if until is None else until
    return end is not None and time.time() + _SPARE * seconds > end
