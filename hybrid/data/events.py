"""Recordings of event cameras by name: simulated ones, N-MNIST, and what tonic knows.

tonic is imported inside `of_tonic` alone: it is large, and GPL-3.0.
"""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from hybrid.data.archives import checked_zip, reading
from hybrid.data.dvs import NMNIST_CAMERA, NMNIST_SACCADES, EventCamera, Picture, Saccades, record
from hybrid.data.images import CLASSES, load_images
from hybrid.data.recordings import EVENT, EventError, Events, Recordings, Sensor
from hybrid.data.sources import (
    SETTING,
    DamagedDataError,
    MissingDataError,
    data_directory,
    fetch,
    registry,
)

EventName = Literal[
    "event_digits", "event_mnist", "nmnist_small", "nmnist", "dvs_gesture", "cifar10_dvs"
]
EVENT_NAMES: tuple[EventName, ...] = (
    "event_digits",
    "event_mnist",
    "nmnist_small",
    "nmnist",
    "dvs_gesture",
    "cifar10_dvs",
)
NMNIST_SENSOR: Sensor = (34, 34, 2)
GESTURE_SENSOR: Sensor = (128, 128, 2)
GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other",
)
_NMNIST_SIZE = {"Train": 60_000, "Test": 10_000}
_GESTURES_LEAST = {"Train": 1_000, "Test": 250}  # the whole set has some more
_CIFAR10_DVS_SIZE = 10_000
_BYTES = 5  # of an event
_CIFAR10_DVS_TEST = 1_000
_NO_TONIC = "events need tonic, which is missing: in a checkout, `pip install '.[events]'`"


class EventSource(Protocol):
    """Recordings that are read, or made, when they are asked for."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of all recordings."""
        ...

    @property
    def sensor(self) -> Sensor:
        """Size of the camera."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells what the recordings are, for keys of caches and records."""
        ...

    def read(self, numbers: Sequence[int]) -> Recordings:
        """Return some of the recordings."""
        ...


@dataclass(frozen=True)
class SimulatedEvents:
    """Recordings of pictures by a model of a camera; see `hybrid.data.dvs`."""

    pictures: Picture
    labels: NDArray[np.int64]
    camera: EventCamera
    saccades: Saccades
    seed: int

    @property
    def sensor(self) -> Sensor:
        return (self.camera.size, self.camera.size, 2)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.pictures).data)
        digest.update(repr((self.camera, self.saccades, self.seed)).encode())
        # Another state of the simulator makes other recordings: the first ones tell.
        digest.update(self.read(range(min(2, len(self.labels)))).events.tobytes())
        return digest.hexdigest()

    def read(self, numbers: Sequence[int]) -> Recordings:
        chosen = self.pictures[np.asarray(numbers)]
        return record(chosen, self.camera, self.saccades, seed=self.seed, numbers=numbers)


@dataclass(frozen=True)
class StoredEvents:
    """Recordings in files."""

    names: tuple[str, ...]  # of the recordings, for messages
    labels: NDArray[np.int64]
    sensor: Sensor
    fingerprint: str
    load: Callable[[int], Events]

    def read(self, numbers: Sequence[int]) -> Recordings:
        """Return some of the recordings.

        Raises:
            DamagedDataError: if one is cut short, empty, out of order, or beyond the sensor.
        """
        parts = [self.load(int(number)) for number in numbers]
        try:
            recordings = Recordings.of(parts, self.sensor)
            empty = np.flatnonzero(np.diff(recordings.starts) == 0)
            if len(empty):
                raise EventError(int(empty[0]), "is empty: it has no events")
        except EventError as error:
            name = self.names[int(numbers[error.recording])]
            raise DamagedDataError(f"{name} {error.fault}. Replace the file.") from error
        return recordings


@dataclass(frozen=True)
class EventSet:
    """A named data set: recordings to learn from, others to be tested on, and their classes."""

    name: str
    train: EventSource
    test: EventSource
    classes: tuple[str, ...]

    def sha256(self) -> str:
        """Return a hash of what a result was computed from."""
        parts = (self.train, self.test)
        digest = hashlib.sha256("".join(part.fingerprint for part in parts).encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()


def load_events(name: str) -> EventSet:
    """Return a set of recordings by name.

    "event_digits", "event_mnist": the bundled digits (4,500 + 500) and all of MNIST (60,000 +
    10,000), looked at by a simulated camera. "nmnist_small": the first 1,000 training and 100 test
    recordings of N-MNIST, in two zip archives. "nmnist": all of N-MNIST (Orchard et al., Front.
    Neurosci. 9:437, 2015), "dvs_gesture": DVS128 Gesture (Amir et al., CVPR 2017), "cifar10_dvs":
    CIFAR10-DVS (Li et al., Front. Neurosci. 11:309, 2017), of which a tenth of each class, drawn
    once and for all, is for tests; these three in tonic's folders below the data directory, fetched
    by tonic if missing.

    Raises:
        ValueError: if the name is unknown.
        MissingDataError, DamagedDataError: if files are missing and not to be had, or damaged.
    """
    if name in ("event_digits", "event_mnist"):
        return simulated(name)
    if name == "nmnist_small":
        archives = ("nmnist_small/Train.zip", "nmnist_small/Test.zip")
        train, test = (archive(fetch(file), registry()[file].digests[0]) for file in archives)
        return EventSet(name, train, test, CLASSES["mnist"])
    if name == "nmnist":
        train, test = (_nmnist(part) for part in _NMNIST_SIZE)
        return EventSet(name, train, test, CLASSES["mnist"])
    if name == "dvs_gesture":
        train, test = (
            _tonic_source(_by_tonic("DVSGesture", train=part == "Train"), least)
            for part, least in _GESTURES_LEAST.items()
        )
        return EventSet(name, train, test, GESTURES)
    if name == "cifar10_dvs":
        return _cifar10_dvs()
    raise ValueError(f"event data {name!r} are unknown: choose one of {', '.join(EVENT_NAMES)}")


def simulated(
    name: str,
    camera: EventCamera = NMNIST_CAMERA,
    saccades: Saccades = NMNIST_SACCADES,
) -> EventSet:
    """Return digits as a simulated camera sees them; noise in training and test differs."""
    source = name.removeprefix("event_")
    images = load_images(source)
    train = SimulatedEvents(images.train, images.train_labels, camera, saccades, seed=0)
    test = SimulatedEvents(images.test, images.test_labels, camera, saccades, seed=1)
    return EventSet(name, train, test, CLASSES[source])


def archive(path: Path, fingerprint: str) -> StoredEvents:
    """Return the recordings of a zip archive with entries `…/<label>/<number>.bin`.

    Raises:
        DamagedDataError: if the archive cannot be read, or has no such entries.
    """
    advice = "Replace the file."
    with reading(path, advice):
        packed = checked_zip(zipfile.ZipFile(path))

    def content(entry: str) -> bytes:
        with reading(f"{path}/{entry}", advice):
            return packed.read(entry)

    return _files(str(path), packed.namelist(), content, fingerprint)


def tree(folder: Path) -> StoredEvents:
    """Return the recordings of a folder `<label>/<number>.bin`, as tonic leaves N-MNIST.

    Raises:
        DamagedDataError: if there are no such files.
    """
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.bin"))
    digest = hashlib.sha256("\n".join(found).encode())
    for name in found:
        digest.update((folder / name).read_bytes())
    return _files(str(folder), found, lambda name: (folder / name).read_bytes(), digest.hexdigest())


def _files(
    home: str, entries: Sequence[str], content: Callable[[str], bytes], fingerprint: str
) -> StoredEvents:
    """Return recordings of N-MNIST in the order of their numbers, which is that of MNIST."""
    parts = [entry.split("/") for entry in entries if entry.endswith(".bin")]
    homes = {tuple(part[:-2]) for part in parts}  # Train and Test are not one set
    wrong = [p for p in parts if len(p) < 2 or not (p[-2].isdigit() and p[-1][:-4].isdigit())]
    wrong += parts[:1] if len(homes) > 1 else []
    if not parts or wrong:
        what = f"holds {'/'.join(wrong[0])}" if wrong else "holds no recordings"
        raise DamagedDataError(
            f"{home} {what}: expected <label>/<number>.bin, as in N-MNIST's Train and Test. "
            "Give the right folder, or fetch the data anew."
        )
    ordered = sorted(parts, key=lambda part: int(part[-1][:-4]))
    names = ["/".join(part) for part in ordered]
    return StoredEvents(
        tuple(f"{home}/{name}" for name in names),
        np.array([int(part[-2]) for part in ordered]),
        NMNIST_SENSOR,
        fingerprint,
        lambda number: read_bin(content(names[number]), f"{home}/{names[number]}"),
    )


def read_bin(content: bytes, name: str) -> Events:
    """Return the events of a file of N-MNIST, 40 bits each: x 8, y 8, polarity 1, µs 23.

    Row 240 marks, as tonic reads it, an overflow of the clock and no event.

    Raises:
        DamagedDataError: if the file is cut short.
    """
    if len(content) % _BYTES:
        raise DamagedDataError(
            f"{name} is cut short: {len(content)} bytes are no multiple of {_BYTES}, an event's "
            "size. Replace the file."
        )
    read = of_tonic("io", "read_mnist_file")
    events: Events = read(io.BytesIO(content), dtype=EVENT, is_stream=True)
    return events


def gesture_recordings() -> StoredEvents:
    """Return ten recordings of DVS128 Gesture, 1.45 s of each of the first ten classes.

    They show what such data are; nothing can be learned from one recording of each class.

    Raises:
        MissingDataError, DamagedDataError: see `fetch`.
    """
    files = sorted(name for name in registry() if name.startswith("dvs_gesture10/"))
    paths = [fetch(name) for name in files]
    return StoredEvents(
        tuple(str(path) for path in paths),
        np.arange(len(paths)),
        GESTURE_SENSOR,
        "".join(registry()[name].digests[0] for name in files),
        lambda number: read_bin(paths[number].read_bytes(), str(paths[number])),
    )


def of_tonic(module: str, name: str) -> Any:
    """Return something of tonic's, importing it now.

    Raises:
        ValueError: if tonic is not installed.
    """
    try:
        return getattr(import_module(f"tonic.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != "tonic":
            raise  # something that tonic needs
        raise ValueError(_NO_TONIC) from error


def tonic_version() -> str:
    """Return the version of tonic, by which it reads and changes events.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return version("tonic")
    except PackageNotFoundError as error:
        raise ValueError(_NO_TONIC) from error


def _nmnist(part: str) -> StoredEvents:
    folder = data_directory() / "NMNIST" / part
    if not folder.is_dir():
        _by_tonic("NMNIST", train=part == "Train")
    source, expected = tree(folder), _NMNIST_SIZE[part]
    if len(source.labels) != expected:
        raise DamagedDataError(
            f"{folder} holds {len(source.labels):,} recordings, not {expected:,}. Unpack N-MNIST "
            f"anew, or delete {folder.parent} and run again to fetch it."
        )
    return source


def _by_tonic(kind: str, **options: bool) -> Any:
    """Return a data set of tonic's, which tonic fetches if it is missing."""
    home, read = data_directory(), of_tonic("datasets", kind)
    try:
        return read(str(home), **options)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise MissingDataError(
            f"{kind} is not in {home / kind} as tonic leaves it, the archive and what is unpacked "
            f"of it, and could not be fetched by tonic ({type(error).__name__}: {error}).\nConnect "
            f"to the network and run again, or put both there by hand, or set {SETTING} to a "
            "folder that has them."
        ) from error


def _tonic_source(data: Any, least: int) -> StoredEvents:
    """Return tonic's recordings of gestures or CIFAR-10, with the fields of ours.

    tonic lists files as the file system does: here they come in the order of their paths.

    Raises:
        DamagedDataError: if there are too few.
    """
    home = Path(data.location_on_system)
    names = [Path(path).relative_to(home).as_posix() for path in data.data]
    order = sorted(range(len(names)), key=names.__getitem__)
    labels = np.array([data.targets[i] for i in order], dtype=np.int64)
    if len(names) < least:
        raise DamagedDataError(
            f"{home} holds {len(names):,} recordings, fewer than {least:,}. Delete it and run "
            "again to fetch it anew."
        )

    def load(number: int) -> Events:
        try:
            found, _ = data[order[number]]
        except ModuleNotFoundError as error:
            raise MissingDataError(f"{error}: `pip install {error.name}` to read {home}") from error
        except (OSError, ValueError, IndexError, EOFError) as error:
            name = names[order[number]]
            raise DamagedDataError(f"{home / name} cannot be read ({error}).") from error
        events = np.empty(len(found), EVENT)
        for field in EVENT.names or ():
            events[field] = found[field]
        events = events[np.argsort(events["t"], kind="stable")]
        events["t"] -= events["t"][:1].sum()  # from the first event on, if there is one
        return events

    files = [names[i] for i in order]
    sizes = [(home / name).stat().st_size for name in files]
    return StoredEvents(
        tuple(str(home / name) for name in files),
        labels,
        GESTURE_SENSOR,
        hashlib.sha256(repr((files, sizes, data.file_md5)).encode()).hexdigest(),
        load,
    )


def _cifar10_dvs() -> EventSet:
    """Return CIFAR10-DVS, which comes without a split; ours is the same for everybody."""
    whole = _tonic_source(_by_tonic("CIFAR10DVS"), _CIFAR10_DVS_SIZE)
    kept, held_out = train_test_split(
        np.arange(len(whole.labels)),
        test_size=_CIFAR10_DVS_TEST,
        stratify=whole.labels,
        random_state=0,
    )
    train, test = part_of(whole, kept), part_of(whole, held_out)
    return EventSet("cifar10_dvs", train, test, CLASSES["cifar10"])


def part_of(source: StoredEvents, numbers: NDArray[np.int64]) -> StoredEvents:
    """Return some recordings of a source as a source of their own."""
    chosen = hashlib.sha256(np.ascontiguousarray(numbers).data).hexdigest()
    return StoredEvents(
        tuple(source.names[number] for number in numbers),
        source.labels[numbers],
        source.sensor,
        source.fingerprint + chosen,
        lambda number: source.load(int(numbers[number])),
    )
