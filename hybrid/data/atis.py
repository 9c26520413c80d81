"""The ATIS alphabet: letters and digits on a turning barrel, seen by an event camera.

36 classes, 76 recordings of about 0.11 s, two or three of each class, cut to 32 x 32 pixels and
stabilised (Orchard et al., HFirst, IEEE Trans. Pattern Anal. Mach. Intell. 37, 2015).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from hybrid.data.sources import DamagedDataError

BARREL = "XFYGZH0I1J2K3L4M5N6O7P8Q9RSATBUCVDWE"  # in the order in which the camera met them
SIZE = 32
RECORDINGS = 2  # of each class that are used
WINDOWS = 10  # frames cut from each recording


class Recording(NamedTuple):
    """Events in the order of time."""

    x: NDArray[np.int64]  # 0 … 31
    y: NDArray[np.int64]
    polarity: NDArray[np.bool_]  # brighter
    time: NDArray[np.int64]  # in µs


def read_atis(path: Path) -> list[Recording]:
    """Read the recordings, which go round the barrel once and a bit.

    Raises:
        DamagedDataError: if the file cannot be read, or does not hold what it should.
    """
    advice = "Delete the file and run again to fetch it anew."
    try:
        table = loadmat(path)["ROI"][0]
        recordings = [
            Recording(
                entry["x"][0, 0][0].astype(np.int64) - 1,
                entry["y"][0, 0][0].astype(np.int64) - 1,
                entry["p"][0, 0][0] > 0,
                entry["ts"][0, 0][0].astype(np.int64),
            )
            for entry in table
        ]
    except (MatReadError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DamagedDataError(f"{path} is not the ATIS alphabet ({error!r}). {advice}") from error
    for number, events in enumerate(recordings):
        places = np.concatenate([events.x, events.y]) if len(events.x) else np.array([-1])
        if places.min() < 0 or places.max() >= SIZE or (np.diff(events.time) < 0).any():
            raise DamagedDataError(
                f"{path}: recording {number} has no events, or some out of place or order. {advice}"
            )
    if len(recordings) < RECORDINGS * len(BARREL):
        raise DamagedDataError(f"{path} holds {len(recordings)} recordings, too few. {advice}")
    return recordings


def frames(recordings: list[Recording]) -> NDArray[np.uint8]:
    """Return frames of ink, 0 to 255 [classes, recordings · windows, height, width].

    Each recording is cut into windows of equally many events. A frame counts the events at each
    pixel, whatever their polarity, and is scaled to its brightest pixel. Frames of one recording
    lie side by side.
    """
    result = np.zeros((len(BARREL), RECORDINGS * WINDOWS, SIZE, SIZE), dtype=np.uint8)
    for number, events in enumerate(recordings[: RECORDINGS * len(BARREL)]):
        turn, label = divmod(number, len(BARREL))
        for window, part in enumerate(np.array_split(np.arange(len(events.x)), WINDOWS)):
            counts = np.zeros((SIZE, SIZE))
            np.add.at(counts, (events.y[part], events.x[part]), 1.0)
            frame = np.rint(255.0 * counts / counts.max())
            result[label, turn * WINDOWS + window] = frame
    return result
