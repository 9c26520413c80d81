"""Frames of event recordings: ours beside tonic's `ToFrame`, one recording after the other."""

from collections.abc import Callable

import numpy as np

from hybrid.data.events.frames import to_frames
from hybrid.data.events.recordings import Recordings, of_tonic
from hybrid.data.events.sets import load_events

RECORDINGS = 1_000
STEPS = 10


def recordings() -> Recordings:
    """Return simulated recordings, about as long as those of N-MNIST."""
    return load_events("event_digits").train.read(range(RECORDINGS))


def work() -> dict[str, Callable[[], object]]:
    """Return both ways by name; they must agree but for the last events, which tonic loses.

    Raises:
        AssertionError: if they do not.
    """
    made = recordings()
    to_frame = of_tonic("transforms", "ToFrame")(sensor_size=made.sensor, n_time_bins=STEPS)

    def theirs() -> list[np.ndarray]:
        return [to_frame(events) for events in made]

    def ours() -> np.ndarray:
        return to_frames(made, STEPS)

    extra = ours().astype(int) - np.stack(theirs())
    assert extra[:, :-1].any() == 0
    assert extra.min() == 0
    assert extra.sum((1, 2, 3, 4)).min() >= 1
    return {"tonic, ToFrame": theirs, "ours": ours}
