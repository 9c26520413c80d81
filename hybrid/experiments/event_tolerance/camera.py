"""How well the simulated camera does, on real data.

`python -m hybrid.experiments.event_tolerance.camera` writes the record.
It compares the 100 test recordings of N-MNIST, of which the fit saw none, with simulated ones of
the same digits, and keeps what it finds as a record: `data/results/camera.json`.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from hybrid.data.events.camera import NMNIST_CAMERA, NMNIST_SACCADES
from hybrid.data.events.recordings import Recordings
from hybrid.data.events.sets import load_events
from hybrid.data.events.statistics import Statistics, agreement, statistics
from hybrid.paths import project_root
from hybrid.runs.files import read_sealed, sealed, write_atomically
from hybrid.runs.store import Json

SHOWN = 7  # a test recording that is drawn, real beside simulated


def path() -> Path:
    """Return where the record lies."""
    return project_root() / "data" / "results" / "camera.json"


def compare() -> Json:
    """Return statistics of real recordings and of simulated ones of the same digits.

    Raises:
        MissingDataError, DamagedDataError: if the recordings are not there.
    """
    real, model = load_events("nmnist_small").test, load_events("event_mnist").test
    numbers = range(len(real.labels))
    assert (real.labels == model.labels[: len(numbers)]).all(), "the same digits, in MNIST's order"
    recordings = real.read(numbers), model.read(numbers)
    found = [statistics(made) for made in recordings]
    agreed = agreement(*found)
    return {
        "camera": asdict(NMNIST_CAMERA),
        "saccades": asdict(NMNIST_SACCADES),
        "simulator": simulator(),
        "recordings": len(numbers),
        "data": load_events("nmnist_small").sha256(),
        "agreement": {
            name: np.round(value, 4).tolist() for name, value in agreed._asdict().items()
        },
        "real": _as_json(found[0]),
        "model": _as_json(found[1]),
        "shown": [_image(made) for made in recordings],
    }


def simulator() -> str:
    """Return a hash of what the simulated camera makes of two bundled digits."""
    return load_events("event_digits").train.fingerprint


def load() -> Json:
    """Return the committed record; see `read_sealed`."""
    return read_sealed(path())


def statistics_in(record: Json, which: str) -> Statistics:
    """Return the statistics of a record: "real" or "model"."""
    return Statistics(**{name: np.array(value) for name, value in record[which].items()})


def _as_json(found: Statistics) -> Json:
    return {name: np.round(value, 4).tolist() for name, value in found._asdict().items()}


def _image(made: Recordings) -> list:  # type: ignore[type-arg]
    """Return one recording as brighter minus darker events of each saccade."""
    images = statistics(Recordings.of([made[SHOWN]], made.sensor)).images
    difference: list = (images[:, 1] - images[:, 0]).astype(int).tolist()  # type: ignore[type-arg]
    return difference


def main() -> None:
    """Compare, and keep the record."""
    record = compare()
    write_atomically(path(), sealed(record).encode())
    for name, value in record["agreement"].items():
        print(f"{name:9s} {value}")


if __name__ == "__main__":
    main()
