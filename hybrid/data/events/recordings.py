"""Recordings of event cameras: when which pixel saw the light change, and in which direction.

tonic is imported inside `of_tonic` alone: it is large, and GPL-3.0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# As in tonic: column, row, time in µs since the recording began, and whether it became brighter.
EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])

Events = NDArray[np.void]  # of dtype EVENT, in the order of time
Sensor = tuple[int, int, int]  # width, height, polarities; as in tonic
_NO_TONIC = "events need tonic, which is missing: in a checkout, `pip install '.[events]'`"


def events_of(x: ArrayLike, y: ArrayLike, t: ArrayLike, p: ArrayLike) -> Events:
    """Return events from their columns, in this order; fractions of a µs are cut off."""
    events = np.empty(np.shape(x), EVENT)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def as_events(given: NDArray[np.void], rows: int) -> Events:
    """Return events of other fields and types as ours: whole µs, polarity 0 or 1.

    Polarities -1 and 1 become 0 and 1. Events of a sensor of one row, such as a cochlea, need no y.

    Args:
        given: structured array of one recording or several.
        rows: of the sensor.

    Raises:
        ValueError: if these are no events, times are no whole numbers, or polarities other ones.
    """
    if not isinstance(given, np.ndarray) or isinstance(given, np.ma.MaskedArray) or given.ndim != 1:
        kind = type(given).__name__
        raise ValueError(f"events as {kind}: give a structured array [events], without a mask")
    if given.dtype == EVENT:
        return given
    fields = given.dtype.names or ()
    missing = {"x", "t", "p", *(("y",) if rows > 1 else ())} - set(fields)
    if missing:
        raise ValueError(
            f"events of {given.dtype} lack {', '.join(sorted(missing))}: give a structured array "
            "with fields x, y, t and p"
        )
    polarity = given["p"]
    known = np.isin(polarity, (0, 1)) | (np.isin(polarity, (-1, 1)) & ~(polarity == 0).any())
    if not known.all():
        found = ", ".join(map(str, np.unique(polarity)[:5]))
        raise ValueError(f"polarities {found}: they must be 0 and 1, or -1 and 1")
    row = given["y"] if "y" in fields else np.zeros(len(given), np.int16)
    for name, values in (("x", given["x"]), ("y", row), ("t", given["t"])):
        whole = values.dtype.kind in "iu" or (
            values.dtype.kind == "f" and bool((values == np.rint(values)).all())
        )
        if not whole:
            remedy = " of µs; of seconds, (1e6 * t).round().astype(int)" if name == "t" else ""
            raise ValueError(f"{name} of {values.dtype}: give whole numbers{remedy}")
        limits = np.iinfo(EVENT[name])
        if len(values) and (values.min() < limits.min or values.max() > limits.max):
            raise ValueError(
                f"{name} from {values.min()} to {values.max()}: {limits.min:,} to {limits.max:,} "
                "can be told"
            )
    return events_of(given["x"], row, given["t"], polarity > 0)


class EventError(ValueError):
    """Events that no recording can have: which recording, and what is wrong with it."""

    def __init__(self, recording: int, fault: str) -> None:
        super().__init__(recording, fault)  # both, so that it can be pickled
        self.recording, self.fault = recording, fault

    def __str__(self) -> str:
        return f"recording {self.recording} {self.fault}"


@dataclass(frozen=True)
class Recordings:
    """Recordings of one sensor, one after the other; what a fault has left may be empty.

    Raises EventError, naming the recording, if one is out of order or beyond the sensor, and
    ValueError if recordings do not divide the events, or see `as_events`.
    """

    events: Events  # of all recordings
    starts: NDArray[np.int64]  # where each begins, and the end of the last [recordings + 1]
    sensor: Sensor

    @classmethod
    def of(cls, parts: Sequence[Events], sensor: Sensor) -> "Recordings":
        """Return recordings from one array of events each."""
        starts = np.cumsum([0, *(len(part) for part in parts)])
        own = [as_events(part, sensor[1]) for part in parts]
        return cls(np.concatenate(own) if own else np.empty(0, EVENT), starts, sensor)

    @classmethod
    def complete(cls, parts: Sequence[Events], sensor: Sensor) -> "Recordings":
        """Return recordings as a sound camera makes them: EventError if one has no events."""
        for number, part in enumerate(parts):
            if not len(part):
                raise EventError(number, "is empty: it has no events")
        return cls.of(parts, sensor)

    def __post_init__(self) -> None:
        width, height, _ = self.sensor
        object.__setattr__(self, "events", as_events(self.events, height))
        events, starts = self.events, self.starts
        ends = starts[[0, -1]].tolist() if len(starts) else []
        if ends != [0, len(events)] or (np.diff(starts) < 0).any():
            raise ValueError(f"starts must rise from 0 to {len(events)}, the number of events")
        outside = np.zeros(len(events), dtype=bool)
        for axis, size in (("x", width), ("y", height)):
            outside |= (events[axis] < 0) | (events[axis] >= size)
        if outside.any():
            first = int(np.argmax(outside))
            place = f"(x, y) = ({events['x'][first]}, {events['y'][first]})"
            fault = f"has an event at {place}, beyond {width} x {height} pixels"
            raise EventError(self._recording_of(first), fault)
        late = np.diff(events["t"], prepend=events["t"][:1]) < 0
        late[starts[starts < len(events)]] = False  # the next recording may begin earlier
        if late.any():
            fault = "is not in the order of time: sort it by t"
            raise EventError(self._recording_of(int(np.argmax(late))), fault)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Events:
        """Return the events of one recording."""
        if not 0 <= number < len(self):
            raise IndexError(f"recording {number}: there are {len(self)}")
        return self.events[self.starts[number] : self.starts[number + 1]]

    def __iter__(self) -> Iterator[Events]:
        return (self[number] for number in range(len(self)))

    def _recording_of(self, event: int) -> int:
        return int(np.searchsorted(self.starts, event, side="right")) - 1


def of_tonic(module: str, name: str) -> Any:
    """Return something of tonic's, importing it now.

    Raises:
        ValueError: if tonic is not installed.
    """
    try:
        return getattr(import_module(f"tonic.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "tonic":
            raise  # something that tonic needs
        raise ValueError(_NO_TONIC) from error


def tonic_version() -> str:
    """Return the version of tonic, by which it reads and changes events.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return version("tonic")
    except PackageNotFoundError as error:
        raise ValueError(_NO_TONIC) from error
