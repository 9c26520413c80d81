"""What recordings look like on average: to compare a model of a camera with a real one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.data.events.recordings import Recordings

BORDERS = (0.0, 105.0, 210.0)  # ms at which N-MNIST's three saccades begin
_LENGTH, _WINDOW = 330.0, 5.0  # ms


class Statistics(NamedTuple):
    """Counts of events; polarity 0 is darker, 1 is brighter."""

    counts: NDArray[np.float64]  # of each recording [recordings, saccade, polarity]
    rates: NDArray[np.float64]  # per recording and ms, in windows of 5 ms [polarity, window]
    images: NDArray[np.float64]  # per recording at each pixel [saccade, polarity, height, width]
    times: NDArray[np.float64]  # of the middles of the windows, in ms


def statistics(recordings: Recordings) -> Statistics:
    """Return the statistics of recordings; events later than 330 ms enter no rate."""
    events, count = recordings.events, len(recordings)
    number = np.repeat(np.arange(count), np.diff(recordings.starts))
    time, up = events["t"] / 1e3, events["p"].astype(np.int64)
    # What jitter has moved before the beginning belongs to the first saccade.
    saccade = np.maximum(np.searchsorted(BORDERS, time, side="right") - 1, 0)
    width, height, _ = recordings.sensor
    counts, images = np.zeros((count, 3, 2)), np.zeros((3, 2, height, width))
    np.add.at(counts, (number, saccade, up), 1.0)
    np.add.at(images, (saccade, up, events["y"], events["x"]), 1.0 / count)
    edges = np.arange(0.0, _LENGTH + _WINDOW, _WINDOW)
    rates = [np.histogram(time[up == p], edges)[0] / (count * _WINDOW) for p in (0, 1)]
    return Statistics(counts, np.array(rates), images, edges[:-1] + _WINDOW / 2)


class Agreement(NamedTuple):
    """How a model agrees with reality, recording by recording of the same pictures."""

    total: float  # events of the model per event of the real camera
    counts: NDArray[np.float64]  # the same [saccade, polarity]
    pictures: float  # correlation of the number of events over pictures
    rates: float  # correlation over time
    images: NDArray[np.float64]  # correlation over pixels [saccade, polarity]


def agreement(real: Statistics, model: Statistics) -> Agreement:
    """Compare the statistics of recordings of the same pictures, in the same order."""
    pairs = zip(real.images.reshape(6, -1), model.images.reshape(6, -1), strict=True)
    return Agreement(
        float(model.counts.sum() / real.counts.sum()),
        model.counts.sum(0) / real.counts.sum(0),
        _correlation(real.counts.sum((1, 2)), model.counts.sum((1, 2))),
        _correlation(real.rates.ravel(), model.rates.ravel()),
        np.array([_correlation(a, b) for a, b in pairs]).reshape(3, 2),
    )


def distance(real: Statistics, model: Statistics) -> float:
    """Return how far a model is from reality: 0 for equal means, rates and images.

    Squared differences of each are in units of the squared real values.
    """
    means = real.counts.mean(0), model.counts.mean(0)
    pairs = (means, (real.rates, model.rates), (real.images, model.images))
    return float(np.sum([((a - b) ** 2).sum() / (a**2).sum() for a, b in pairs]))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])
