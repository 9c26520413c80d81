"""A machine that is lent for some minutes: trainings end with the last epoch that fits."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypedDict

_PATIENCE: ContextVar[float | None] = ContextVar("patience", default=None)
_LEGS: ContextVar["list[Noted] | None"] = ContextVar("legs", default=None)
_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)
# An epoch may take this much longer than those before it.
_SPARE = 1.2
_STEPS = 3  # that a measure needs


class LeaseOverError(RuntimeError):
    """There was no time for all; what is finished is kept, and the same command goes on from it."""


class MeasuredEpoch(Exception):  # noqa: N818 (no error: an answer)
    """What ends a training that is only watched: seconds of an epoch, and how many there are."""

    def __init__(self, seconds: float, epochs: int) -> None:
        super().__init__(seconds, epochs)
        self.seconds, self.epochs = seconds, epochs


@contextmanager
def measuring(seconds: float) -> Iterator[None]:
    """Let trainings within the block go on for some seconds, then end with a `MeasuredEpoch`."""
    before = _PATIENCE.set(seconds)
    try:
        yield
    finally:
        _PATIENCE.reset(before)


class Watch:
    """Times the epochs of a training, and ends it where it is only `measuring`.

    Args:
        epochs: how many there are.
        steps: of an epoch; None if nobody knows.
        recorded: whether the first epoch is no measure, since work is compiled in it.
    """

    def __init__(self, epochs: int, steps: int | None, *, recorded: bool) -> None:
        self.longest = 0.0  # seconds of the longest epoch so far
        self._epochs, self._steps, self._patience = epochs, steps, _PATIENCE.get()
        self._past, self._needed = 0, 2 if recorded else 1
        self._start = self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long ago the training began, here."""
        return time.perf_counter() - self._start

    def begin(self) -> None:
        """Begin an epoch."""
        self._began = time.perf_counter()

    def step(self, number: int) -> None:
        """Note a step of the present epoch, counted from 1; raise MeasuredEpoch if it suffices."""
        if self._patience is None or self._past or self._needed > 1 or number < _STEPS:
            return
        seconds = time.perf_counter() - self._began
        if self._steps is not None and seconds > self._patience:
            raise MeasuredEpoch(seconds / number * self._steps, self._epochs)

    def end(self) -> None:
        """End an epoch; raise MeasuredEpoch if it suffices."""
        now = time.perf_counter()
        seconds, self._past = now - self._began, self._past + 1
        first = self._past == 1 or (self._past == 2 and self._needed == 2)
        self.longest = seconds if first else max(self.longest, seconds)
        if self._patience is None or self._past < min(self._needed, self._epochs):
            return
        if now - self._start > self._patience or self._past == self._epochs:
            raise MeasuredEpoch(seconds, self._epochs)


class Leg(TypedDict):
    """What one process, of those that shared a training, did of it."""

    machine: str  # its processor, or GPU
    instructions: str  # of its processor
    seconds: float


class Noted(NamedTuple):
    """A leg of a training."""

    title: str
    leg: Leg
    here: bool  # not in another process


@contextmanager
def legs() -> Iterator[list[Noted]]:
    """Collect, within the block, the legs of trainings."""
    found: list[Noted] = []
    before = _LEGS.set(found)
    try:
        yield found
    finally:
        _LEGS.reset(before)


def note_legs(title: str, done: Sequence[Leg], *, here: bool) -> None:
    """Say which legs a training has had, here or in other processes."""
    if (found := _LEGS.get()) is not None:
        found += [Noted(title, leg, here) for leg in done]


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
