"""Faults of an event camera, each with a level on its own axis; level 0 is the sound camera.

tonic's transforms are used where they do what these faults need. `RandomFlipPolarity` turns all
events of a recording or none, `UniformNoise` makes noise of one polarity if polarities are
booleans, `DropEventByArea` takes a share of each side, rounded down, and never reaches the last
row and column, and `RefractoryPeriod` lets events that are not sent prolong the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.data.events import of_tonic
from hybrid.data.recordings import EVENT, Events, Recordings

HOT_RATE = 200.0  # events per second of a hot pixel
_CAMERA, _RECORDING = 3, 4  # streams of random numbers, apart for equal seeds
Apply = Callable[[Recordings, float, int, Sequence[int]], Recordings]


@dataclass(frozen=True)
class SensorFault:
    """One kind of fault: its name, what its level means, and the largest level that makes sense."""

    name: str
    axis: str  # label of the level axis, with unit
    apply: Apply
    highest: float = float("inf")


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
            and on the seed, not on what else is corrupted with it.

    Raises:
        ValueError: if the name is unknown or the level out of range.
    """
    check_sensor_level(name, level)
    if level == 0.0:
        return recordings
    own = range(len(recordings)) if numbers is None else numbers
    return SENSOR_FAULTS[name].apply(recordings, level, seed, own)


def check_sensor_level(name: str, level: float) -> None:
    """Raise ValueError, naming what is allowed, unless `level` is a level of fault `name`."""
    if name not in SENSOR_FAULTS:
        raise ValueError(f"fault {name!r} is unknown: choose one of {', '.join(SENSOR_FAULTS)}")
    fault = SENSOR_FAULTS[name]
    if not 0.0 <= level <= fault.highest:
        limit = "" if fault.highest == float("inf") else f" and <= {fault.highest:g}"
        raise ValueError(f"{name} level {level}: the {fault.axis} must be >= 0{limit}")


def _centre(
    recordings: Recordings, half_width: float, seed: int, numbers: Sequence[int]
) -> Recordings:
    """Leave out the central square of side 2 · half_width."""
    width, height, _ = recordings.sensor
    columns = np.abs(np.arange(width) + 0.5 - width / 2) < half_width
    rows = np.abs(np.arange(height) + 0.5 - height / 2) < half_width
    return _blind(recordings, rows[:, None] & columns)


def _dead(recordings: Recordings, share: float, seed: int, numbers: Sequence[int]) -> Recordings:
    """Leave out all events of some pixels."""
    width, height, _ = recordings.sensor
    return _blind(recordings, _camera(seed).random((height, width)) < share)


def _blind(recordings: Recordings, pixels: NDArray[np.bool_]) -> Recordings:
    events = recordings.events
    return recordings.keep(~pixels[events["y"], events["x"]])


def _hot(recordings: Recordings, share: float, seed: int, numbers: Sequence[int]) -> Recordings:
    """Let some pixels fire at random, whatever they see."""
    width, height, _ = recordings.sensor
    rows, columns = np.nonzero(_camera(seed).random((height, width)) < share)

    def fire(events: Events, source: np.random.Generator) -> Events:
        count = source.poisson(HOT_RATE * len(rows) * _seconds(events))
        pixel = source.integers(len(rows), size=count) if count else np.empty(0, np.int64)
        return _with(events, columns[pixel], rows[pixel], source)

    return _each(recordings, fire, seed, numbers)


def _noise(recordings: Recordings, rate: float, seed: int, numbers: Sequence[int]) -> Recordings:
    """Add events at random pixels."""
    width, height, _ = recordings.sensor

    def add(events: Events, source: np.random.Generator) -> Events:
        count = source.poisson(rate * width * height * _seconds(events))
        x, y = source.integers(width, size=count), source.integers(height, size=count)
        return _with(events, x, y, source)

    return _each(recordings, add, seed, numbers)


def _flip(recordings: Recordings, share: float, seed: int, numbers: Sequence[int]) -> Recordings:
    """Turn the polarity of some events, each on its own."""

    def flip(events: Events, source: np.random.Generator) -> Events:
        turned = events.copy()
        turned["p"] ^= source.random(len(events)) < share
        return turned

    return _each(recordings, flip, seed, numbers)


def _occlude(recordings: Recordings, share: float, seed: int, numbers: Sequence[int]) -> Recordings:
    """Leave out what lies behind a rectangle somewhere before the sensor, another each time."""
    width, height, _ = recordings.sensor
    across = max(round(width * share**0.5), 1)
    down = min(round(width * height * share / across), height)

    def hide(events: Events, source: np.random.Generator) -> Events:
        left = source.integers(width - across, endpoint=True)
        top = source.integers(height - down, endpoint=True)
        hidden = (events["x"] >= left) & (events["x"] < left + across)
        hidden &= (events["y"] >= top) & (events["y"] < top + down)
        return events[~hidden]

    return _each(recordings, hide, seed, numbers)


def _rest(recordings: Recordings, rest: float, seed: int, numbers: Sequence[int]) -> Recordings:
    """Let pixels be silent for a time after each event that they send."""
    events, (width, height, _) = recordings.events, recordings.sensor
    number = np.repeat(np.arange(len(recordings)), np.diff(recordings.starts))
    pixel = (number * height + events["y"]) * width + events["x"]
    order = np.lexsort((events["t"], pixel))
    pixel, time = pixel[order], events["t"][order]
    time = time - time.min(initial=0)  # a jitter may have put events before the start
    # Which event each one lets through next: the first of its pixel that comes late enough.
    stride = time.max(initial=0) + round(1e3 * rest) + 2
    key = pixel * stride + time
    following = np.searchsorted(key, key + round(1e3 * rest) + 1)
    sent = np.zeros(len(events), dtype=bool)
    current = np.flatnonzero(np.diff(pixel, prepend=-1))  # the first event of each pixel
    while len(current):
        sent[current] = True
        after = following[current]
        inside = after < len(events)
        current, after = current[inside], after[inside]
        current = after[pixel[after] == pixel[current]]
    wanted = np.empty(len(events), dtype=bool)
    wanted[order] = sent
    return recordings.keep(wanted)


def _by_tonic(kind: str, argument: Callable[[float], dict[str, object]]) -> Apply:
    """Return a fault that one of tonic's transforms brings about."""

    def apply(
        recordings: Recordings, level: float, seed: int, numbers: Sequence[int]
    ) -> Recordings:
        transform = of_tonic("transforms", kind)(**argument(level))

        def change(events: Events, source: np.random.Generator) -> Events:
            with _global_randomness(source):
                changed: Events = transform(events)
            return changed

        return _each(recordings, change, seed, numbers)

    return apply


@contextmanager
def _global_randomness(source: np.random.Generator) -> Iterator[None]:
    """Let numpy's global generator, which tonic draws from, be seeded for a while."""
    before = np.random.get_state()
    np.random.seed(source.integers(2**32))
    try:
        yield
    finally:
        np.random.set_state(before)


def _each(
    recordings: Recordings,
    change: Callable[[Events, np.random.Generator], Events],
    seed: int,
    numbers: Sequence[int],
) -> Recordings:
    """Change each recording with randomness of its own; one without events stays as it is."""
    parts = [
        change(events, np.random.default_rng([_RECORDING, seed, number])) if len(events) else events
        for events, number in zip(recordings, numbers, strict=True)
    ]
    return Recordings.of(parts, recordings.sensor)


def _camera(seed: int) -> np.random.Generator:
    """Return the source of what is the same in all recordings of a camera."""
    return np.random.default_rng([_CAMERA, seed])


def _seconds(events: Events) -> float:
    return float(events["t"][-1] - events["t"][0]) / 1e6


def _with(
    events: Events, x: NDArray[np.int64], y: NDArray[np.int64], source: np.random.Generator
) -> Events:
    """Return events and, at random times between them, others of random polarity."""
    added = np.empty(len(x), EVENT)
    added["x"], added["y"] = x, y
    added["t"] = source.integers(events["t"][0], events["t"][-1], size=len(x), endpoint=True)
    added["p"] = source.random(len(x)) < 0.5
    both = np.concatenate([events, added])
    return both[np.argsort(both["t"], kind="stable")]


SENSOR_FAULTS: dict[str, SensorFault] = {
    fault.name: fault
    for fault in (
        SensorFault("centre", "blind centre (half-width in pixels)", _centre),
        SensorFault("occlusion", "occluded area (share)", _occlude, 1.0),
        SensorFault("dead", "dead pixels (share)", _dead, 1.0),
        SensorFault("hot", "hot pixels (share)", _hot, 1.0),
        SensorFault(
            "dropped", "dropped events (share)", _by_tonic("DropEvent", lambda p: {"p": p}), 1.0
        ),
        SensorFault(
            "gap",
            "time without events (share)",
            _by_tonic("DropEventByTime", lambda share: {"duration_ratio": share}),
            0.99,
        ),
        SensorFault("noise", "background activity (events per pixel and s)", _noise),
        SensorFault("flipped", "flipped polarities (share)", _flip, 1.0),
        SensorFault(
            "jitter",
            "time jitter (ms, standard deviation)",
            _by_tonic(
                "TimeJitter",
                lambda ms: {"std": 1e3 * ms, "clip_negative": False, "sort_timestamps": True},
            ),
        ),
        SensorFault("slow", "rest after an event (ms)", _rest),
    )
}
