"""Frames: events counted at each pixel, polarity by polarity, in windows of time or of count."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose
from hybrid.data.events.recordings import Events, Recordings

Binning = Literal["time", "count"]
Frames = NDArray[np.uint16]
_MOST = np.iinfo(np.uint16).max  # events that a pixel can count
_AT_ONCE = 16  # recordings whose events fit into a processor's cache


def to_frames(
    recordings: Recordings, steps: int, by: Binning = "time", *, span: int | None = None
) -> Frames:
    """Return counts of events [recordings, steps, polarity, height, width].

    Every event is counted. tonic's `ToFrame` gives the same frames by time, but leaves out what
    lies behind its last window, at least the last event.

    Args:
        recordings: what to count.
        steps: windows T of each recording.
        by: "time": windows of one duration; "count": of as many events, the first ones of one more
            if these cannot be divided.
        span: time in µs, from 0, that windows of time divide; later events are counted in the last
            one. None: for each recording that between its own first and last event.

    Raises:
        ValueError: if there are no steps, a name or span makes no sense, or a pixel has more than
            65,535 events in a window.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: give at least one")
    choose("binning", by, get_args(Binning))
    if span is not None and (by != "time" or span < steps):
        raise ValueError(f"span = {span}: windows of time need at least 1 µs each, others no span")
    width, height, polarities = recordings.sensor
    borders = _by_time(recordings, steps, span) if by == "time" else _by_count(recordings, steps)
    counts = np.diff(recordings.starts)[:, None]
    lengths = np.diff(borders, prepend=0, append=counts)  # of windows [recordings, steps]
    frames = np.zeros((len(recordings), steps, polarities, height, width), dtype=np.uint16)
    for first in range(0, len(recordings), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        starts = recordings.starts[first : first + _AT_ONCE + 1]
        _count(recordings.events[starts[0] : starts[-1]], lengths[part], frames[part])
    crowded = lengths > _MOST
    if (frames[crowded].sum((1, 2, 3), dtype=np.int64) != lengths[crowded]).any():
        raise ValueError(f"a pixel has more than {_MOST:,} events in a window: use more steps")
    return frames


def _by_time(recordings: Recordings, steps: int, span: int | None) -> NDArray[np.int64]:
    """Return which event each window but the first begins with [recordings, steps - 1]."""
    times, starts = recordings.events["t"].copy(), recordings.starts  # contiguous: faster to search
    if span is None:
        padded = np.append(times, 0)  # an empty recording at the end begins there
        first, last = padded[starts[:-1]], padded[starts[1:] - 1]
        duration = np.maximum((last - first) // steps, 1)
    else:
        first, duration = np.zeros(len(recordings), np.int64), np.array([span // steps])
    edges = first[:, None] + duration[:, None] * np.arange(1, steps)  # between windows
    borders = np.empty(edges.shape, np.int64)
    for row, start, end in zip(range(len(recordings)), starts[:-1], starts[1:], strict=True):
        borders[row] = np.searchsorted(times[start:end], edges[row])
    return borders


def _by_count(recordings: Recordings, steps: int) -> NDArray[np.int64]:
    """Return the same for windows of as many events, shared out as numpy's `array_split` does."""
    share, left = np.divmod(np.diff(recordings.starts)[:, None], steps)
    window = np.arange(1, steps)
    return share * window + np.minimum(window, left)


def _count(events: Events, lengths: NDArray[np.int64], frames: Frames) -> None:
    """Count events, of which each window has its length, into frames that are zero."""
    polarities, height, width = frames.shape[2:]
    pixels = polarities * height * width
    place = np.repeat(np.arange(0, lengths.size * pixels, pixels), lengths.ravel())
    place += events["x"]
    place += np.multiply(events["y"], width, dtype=np.int64)
    if polarities > 1:
        place += np.multiply(events["p"], height * width, dtype=np.int64)
    np.add.at(frames.reshape(-1), place, np.uint16(1))
