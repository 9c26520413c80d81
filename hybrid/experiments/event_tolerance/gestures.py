"""Gestures on their way to a network: `python -m hybrid.experiments.event_tolerance.gestures`.

One recording of each of ten classes: enough to see what frames and faults do to such data, too few
to learn from or to be tested on. Pictures are kept as a record: `data/results/gestures.json`.
"""

import hashlib
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hybrid.data.events.faults import corrupt_events
from hybrid.data.events.frames import to_frames
from hybrid.data.events.recordings import Recordings
from hybrid.data.events.sets import GESTURES, gesture_recordings
from hybrid.experiments.event_tolerance.figure import event_images
from hybrid.paths import project_root
from hybrid.report.figures import canvas
from hybrid.runs.files import read_sealed, sealed, write_atomically
from hybrid.runs.store import Json

WINDOWS = 5
FAULTS = (("centre", 24.0), ("dropped", 0.9), ("noise", 2.0))
# Captions of faulty cameras.
_COLUMNS = {
    "centre": "blind centre",
    "dropped": "{:.0%} of events lost",
    "noise": "noise, {:g} per pixel per s",
}
SHOWN = ("hand clapping", "right arm clockwise", "air drums")
_SHRINK = 4  # pixels of the camera that a pixel of a picture has on each side


def path() -> Path:
    """Return where the record lies."""
    return project_root() / "data" / "results" / "gestures.json"


def compute() -> Json:
    """Return pictures of the ten recordings.

    Raises:
        MissingDataError, DamagedDataError: if the recordings are not there.
    """
    source = gesture_recordings()
    recordings = source.read(range(len(source.labels)))
    return {
        "data": hashlib.sha256(source.fingerprint.encode()).hexdigest(),
        "names": [GESTURES[label] for label in source.labels],
        "events": np.diff(recordings.starts).tolist(),
        "seconds": [round(float(events["t"][-1]) / 1e6, 3) for events in recordings],
        "windows": WINDOWS,
        "faults": FAULTS,
        "pictures": pictures(recordings, _SHRINK).tolist(),
    }


def pictures(recordings: Recordings, shrink: int) -> NDArray[np.int64]:
    """Return brighter minus darker events [recordings, windows + faults, height, width].

    First those of each window of a sound camera, then those of whole recordings of faulty ones.

    Args:
        recordings: of a camera whose sides are multiples of `shrink`.
        shrink: pixels on each side that are added up to one.
    """
    faulty = [corrupt_events(recordings, name, level, 0) for name, level in FAULTS]
    frames = [to_frames(recordings, WINDOWS), *(to_frames(made, 1) for made in faulty)]
    counts = np.concatenate(frames, axis=1).astype(np.int64)
    count, shown, _, height, width = counts.shape
    blocks = (count, shown, height // shrink, shrink, width // shrink, shrink)
    made: NDArray[np.int64] = (counts[:, :, 1] - counts[:, :, 0]).reshape(blocks).sum((3, 5))
    return made


def load() -> Json:
    """Return the committed record; see `read_sealed`."""
    return read_sealed(path())


def draw(record: Json) -> Figure:
    """Draw the pictures of a few gestures, a row for each."""
    figure, axes = canvas(["a"], height=77.0)
    labels = [f"window {i + 1}" for i in range(record["windows"])]
    labels += [_COLUMNS[name].format(level) for name, level in record["faults"]]
    pictures = dict(zip(record["names"], record["pictures"], strict=True))
    rows = [[np.array(image) for image in pictures[name]] for name in SHOWN]
    names = [name.replace(" ", "\n", 1) for name in SHOWN]
    event_images(axes["a"], rows, row_names=names, labels=[labels])
    length = np.mean(record["seconds"]) / record["windows"]
    window = f"{record['windows']} windows of {length:.2f} s"
    title = f"{len(SHOWN)} of {len(pictures)} gestures: {window}, then three faults"
    axes["a"].set_title(f"{title} (red: brighter, blue: darker)\n")
    return figure


def main() -> None:
    """Compute, and keep the record."""
    record = compute()
    write_atomically(path(), sealed(record).encode())
    for name, events, seconds in zip(
        record["names"], record["events"], record["seconds"], strict=True
    ):
        print(f"{name:28s} {events:7,} events in {seconds:.2f} s")


if __name__ == "__main__":
    main()
