"""Events made up for tests."""

import numpy as np

from hybrid.data.events.recordings import EVENT, Events, Recordings

SENSOR = (7, 5, 2)


def events(seed: int, count: int = 400, sensor: tuple[int, int, int] = SENSOR) -> Events:
    source = np.random.default_rng(seed)
    made = np.empty(count, EVENT)
    made["x"], made["y"] = (source.integers(size, size=count) for size in sensor[:2])
    made["t"] = np.sort(source.integers(300_000, size=count))
    made["p"] = source.random(count) < 0.5
    return made


def recordings(count: int = 6) -> Recordings:
    return Recordings.of([events(i, 200 + 50 * i) for i in range(count)], SENSOR)


def as_bin(made: Events) -> bytes:
    """Return events as N-MNIST's files have them, written from the format's description."""
    bits = (
        made["x"].astype(np.uint64) << np.uint64(32)
        | made["y"].astype(np.uint64) << np.uint64(24)
        | made["p"].astype(np.uint64) << np.uint64(23)
        | made["t"].astype(np.uint64)
    )
    return b"".join(int(word).to_bytes(5, "big") for word in bits)
