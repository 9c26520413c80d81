"""The ATIS alphabet: letters and digits on a turning barrel, seen by an event camera.

36 classes, 76 recordings of about 0.11 s, two or three of each class, cut to 32 x 32 pixels and
stabilised (Orchard et al., HFirst, IEEE Trans. Pattern Anal. Mach. Intell. 37, 2015).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid.data.events.frames import to_frames
from hybrid.data.events.recordings import Recordings, events_of
from hybrid.data.files import reading
from hybrid.data.matlab import read_structures

BARREL = "XFYGZH0I1J2K3L4M5N6O7P8Q9RSATBUCVDWE"  # in the order in which the camera met them
SIZE = 32
RECORDINGS = 2  # of each class that are used
WINDOWS = 10  # frames cut from each recording


def read_atis(path: Path) -> Recordings:
    """Read the first two recordings of each class, which are two rounds of the barrel.

    Raises:
        DamagedDataError: if the file cannot be read, or does not hold what it should.
    """
    wanted, parts = RECORDINGS * len(BARREL), []
    with reading(path):
        table = read_structures(path.read_bytes(), "ROI")
        if len(table) < wanted:
            raise ValueError(f"it holds {len(table)} recordings, too few")
        for entry in table[:wanted]:
            x, y, p, t = (entry[field] for field in ("x", "y", "p", "ts"))
            parts.append(events_of(x - 1, y - 1, t, p > 0))
        return Recordings.complete(parts, (SIZE, SIZE, 2))


def frames(recordings: Recordings) -> NDArray[np.uint8]:
    """Return frames of ink, 0 to 255 [classes, recordings · windows, height, width].

    Each recording is cut into windows of equally many events. A frame counts the events at each
    pixel, whatever their polarity, and is scaled to its brightest pixel. Frames of one recording
    lie side by side.
    """
    counts = to_frames(recordings, WINDOWS, by="count").sum(axis=2)
    ink = np.rint(255.0 * counts / counts.max(axis=(2, 3), keepdims=True)).astype(np.uint8)
    rounds = ink.reshape(RECORDINGS, len(BARREL), WINDOWS, SIZE, SIZE)
    return np.concatenate(rounds, axis=1)
