"""Faults of an event camera, each with a level on its own axis; level 0 is the sound camera.

tonic's transforms are used where they do what these faults need. `RandomFlipPolarity` turns all
events of a recording or none, `UniformNoise` makes noise of one polarity if polarities are
booleans, `DropEventByArea` takes a share of each side, rounded down, and never reaches the last
row and column, and `RefractoryPeriod` lets events that are not sent prolong the rest.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose
from hybrid.data.events.recordings import Events, Recordings, events_of, of_tonic
from hybrid.data.faults import Fault

HOT_RATE = 200.0  # events per second of a hot pixel
_CAMERA, _RECORDING = 3, 4  # streams of random numbers, apart for equal seeds


class Camera(NamedTuple):
    """What is the same in all recordings of a faulty camera."""

    width: int
    height: int
    seed: int

    def pixels(self, share: float) -> NDArray[np.bool_]:
        """Return which pixels are faulty [height, width]."""
        source = np.random.default_rng([_CAMERA, self.seed])
        return source.random((self.height, self.width)) < share


# Events of a recording, level, source of randomness of that recording, camera.
Change = Callable[[Events, float, np.random.Generator, Camera], Events]


def corrupt_events(
    recordings: Recordings,
    name: str,
    level: float,
    seed: int,
    numbers: Sequence[int] | None = None,
) -> Recordings:
    """Return the recordings of a faulty camera.

    Args:
        recordings: of a sound one; they are left as they are.
        name: a key of `SENSOR_FAULTS`.
        level: see its axis.
        seed: of which pixels are faulty, the same in all recordings, and of all else that is
            random, which is drawn for each recording anew.
        numbers: of the recordings, 0 … N - 1 if None: what is random in one depends on its number
            and on the seed, not on what else is corrupted with it. One without events stays so.

    Raises:
        ValueError: if the name is unknown or the level out of range.
    """
    check_sensor_level(name, level)
    if level == 0.0:
        return recordings
    width, height, _ = recordings.sensor
    change, camera = SENSOR_FAULTS[name].change, Camera(width, height, seed)
    numbers = range(len(recordings)) if numbers is None else numbers
    parts = [
        change(events, level, np.random.default_rng([_RECORDING, seed, number]), camera)
        if len(events)
        else events
        for events, number in zip(recordings, numbers, strict=True)
    ]
    return Recordings.of(parts, recordings.sensor)


def check_sensor_level(name: str, level: float) -> None:
    """Raise ValueError, naming what is allowed, unless `level` is a level of fault `name`."""
    SENSOR_FAULTS[choose("fault", name, SENSOR_FAULTS)].check(level)


def _centre(
    events: Events, half_width: float, source: np.random.Generator, camera: Camera
) -> Events:
    """Leave out the central square of side 2 · half_width."""
    across = np.abs(events["x"] + 0.5 - camera.width / 2) < half_width
    down = np.abs(events["y"] + 0.5 - camera.height / 2) < half_width
    return events[~(across & down)]


def _occlude(events: Events, share: float, source: np.random.Generator, camera: Camera) -> Events:
    """Leave out what lies behind a rectangle somewhere before the sensor, another each time."""
    across = max(round(camera.width * share**0.5), 1)
    down = min(round(camera.width * camera.height * share / across), camera.height)
    left = source.integers(camera.width - across, endpoint=True)
    top = source.integers(camera.height - down, endpoint=True)
    hidden = (events["x"] >= left) & (events["x"] < left + across)
    hidden &= (events["y"] >= top) & (events["y"] < top + down)
    return events[~hidden]


def _dead(events: Events, share: float, source: np.random.Generator, camera: Camera) -> Events:
    """Leave out all events of some pixels."""
    return events[~camera.pixels(share)[events["y"], events["x"]]]


def _hot(events: Events, share: float, source: np.random.Generator, camera: Camera) -> Events:
    """Let some pixels fire at random, whatever they see."""
    rows, columns = np.nonzero(camera.pixels(share))
    count = source.poisson(HOT_RATE * len(rows) * _seconds(events))
    pixel = source.integers(len(rows), size=count) if count else np.empty(0, np.int64)
    return _with(events, columns[pixel], rows[pixel], source)


def _noise(events: Events, rate: float, source: np.random.Generator, camera: Camera) -> Events:
    """Add events at random pixels."""
    count = source.poisson(rate * camera.width * camera.height * _seconds(events))
    x, y = (source.integers(size, size=count) for size in (camera.width, camera.height))
    return _with(events, x, y, source)


def _flip(events: Events, share: float, source: np.random.Generator, camera: Camera) -> Events:
    """Turn the polarity of some events, each on its own."""
    turned = events.copy()
    turned["p"] ^= source.random(len(events)) < share
    return turned


def _rest(events: Events, rest: float, source: np.random.Generator, camera: Camera) -> Events:
    """Let pixels be silent for a time after each event that they send."""
    pixel = events["y"] * np.int64(camera.width) + events["x"]
    order = np.lexsort((events["t"], pixel))
    pixel, time = pixel[order], events["t"][order]
    time = time - time.min()  # a jitter may have put events before the start
    # Which event each one lets through next: the first of its pixel that comes late enough.
    late_enough = round(1e3 * rest) + 1
    key = pixel * (time.max() + late_enough + 1) + time
    following = np.searchsorted(key, key + late_enough)
    sent = np.zeros(len(events), dtype=bool)
    current = np.flatnonzero(np.diff(pixel, prepend=-1))  # the first event of each pixel
    while len(current):
        sent[order[current]] = True
        after = following[current]
        inside = after < len(events)
        current, after = current[inside], after[inside]
        current = after[pixel[after] == pixel[current]]
    return events[sent]


def _by_tonic(kind: str, argument: Callable[[float], dict[str, object]]) -> Change:
    """Return what one of tonic's transforms does, which draws from numpy's global generator."""

    def change(events: Events, level: float, source: np.random.Generator, _: Camera) -> Events:
        transform, before = of_tonic("transforms", kind)(**argument(level)), np.random.get_state()
        np.random.seed(source.integers(2**32))
        try:
            changed: Events = transform(events)
        finally:
            np.random.set_state(before)
        return changed

    return change


def _seconds(events: Events) -> float:
    return float(events["t"][-1] - events["t"][0]) / 1e6


def _with(
    events: Events, x: NDArray[np.int64], y: NDArray[np.int64], source: np.random.Generator
) -> Events:
    """Return events and, at random times between them, others of random polarity."""
    t = source.integers(events["t"][0], events["t"][-1], size=len(x), endpoint=True)
    both = np.concatenate([events, events_of(x, y, t, source.random(len(x)) < 0.5)])
    return both[np.argsort(both["t"], kind="stable")]


_dropped = _by_tonic("DropEvent", lambda share: {"p": share})
_gap = _by_tonic("DropEventByTime", lambda share: {"duration_ratio": share})
_jitter = _by_tonic(
    "TimeJitter", lambda ms: {"std": 1e3 * ms, "clip_negative": False, "sort_timestamps": True}
)

SENSOR_FAULTS = {
    fault.name: fault
    for fault in (
        Fault("centre", "blind centre (half-width in pixels)", _centre),
        Fault("occlusion", "occluded area (share)", _occlude, 1.0),
        Fault("dead", "dead pixels (share)", _dead, 1.0),
        Fault("hot", "hot pixels (share)", _hot, 1.0),
        Fault("dropped", "dropped events (share)", _dropped, 1.0),
        Fault("gap", "time without events (share)", _gap, 0.99),
        Fault("noise", "background activity (events per pixel per s)", _noise),
        Fault("flipped", "flipped polarities (share)", _flip, 1.0),
        Fault("jitter", "time jitter (ms, standard deviation)", _jitter),
        Fault("slow", "refractory period (ms)", _rest),
    )
}
