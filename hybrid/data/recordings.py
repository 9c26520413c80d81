"""Recordings of event cameras: when which pixel saw the light change, and in which direction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# As in tonic: column, row, time in µs since the recording began, and whether it became brighter.
EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.bool_)])

Events = NDArray[np.void]  # of dtype EVENT, in the order of time
Sensor = tuple[int, int, int]  # width, height, polarities; as in tonic


class EventError(ValueError):
    """Events that no recording can have: which recording, and what is wrong with it."""

    def __init__(self, recording: int, fault: str) -> None:
        super().__init__(f"recording {recording} {fault}")
        self.recording, self.fault = recording, fault


@dataclass(frozen=True)
class Recordings:
    """Recordings of one sensor, one after the other; what a fault has left may be empty.

    Raises EventError, naming the recording, if one is out of order or beyond the sensor, and
    ValueError if recordings do not divide the events.
    """

    events: Events  # of all recordings
    starts: NDArray[np.int64]  # where each begins, and the end of the last [recordings + 1]
    sensor: Sensor

    @classmethod
    def of(cls, parts: Sequence[Events], sensor: Sensor) -> "Recordings":
        """Return recordings from one array of events each."""
        starts = np.cumsum([0, *(len(part) for part in parts)])
        return cls(np.concatenate(parts) if parts else np.empty(0, EVENT), starts, sensor)

    def __post_init__(self) -> None:
        width, height, _ = self.sensor
        events, inside = self.events, np.ones(len(self.events), dtype=bool)
        ends = self.starts[[0, -1]].tolist() if len(self.starts) else []
        if ends != [0, len(events)] or (np.diff(self.starts) < 0).any():
            raise ValueError(f"starts must rise from 0 to {len(events)}, the number of events")
        for axis, size in (("x", width), ("y", height)):
            inside &= (events[axis] >= 0) & (events[axis] < size)
        if not inside.all():
            first = int(np.argmin(inside))
            place = f"(x, y) = ({events['x'][first]}, {events['y'][first]})"
            raise EventError(
                self.recording_of(first),
                f"has an event at {place}, beyond {width} x {height} pixels",
            )
        backwards = np.diff(events["t"]) < 0
        borders = self.starts[(self.starts > 0) & (self.starts < len(events))]
        backwards[borders - 1] = False  # the next recording may begin earlier
        if backwards.any():
            late = int(np.argmax(backwards)) + 1
            raise EventError(self.recording_of(late), "is not in the order of time: sort it by t")

    def keep(self, wanted: NDArray[np.bool_]) -> "Recordings":
        """Return the same recordings with some of their events [events]."""
        before = np.concatenate([[0], np.cumsum(wanted)])
        return Recordings(self.events[wanted], before[self.starts], self.sensor)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Events:
        """Return the events of one recording."""
        if not 0 <= number < len(self):
            raise IndexError(f"recording {number}: there are {len(self)}")
        return self.events[self.starts[number] : self.starts[number + 1]]

    def __iter__(self) -> Iterator[Events]:
        return (self[number] for number in range(len(self)))

    def recording_of(self, event: int) -> int:
        """Return the number of the recording that an event belongs to."""
        return int(np.searchsorted(self.starts, event, side="right")) - 1
