"""Recordings of event cameras by name: simulated ones, N-MNIST, and ten gestures."""

import hashlib
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose
from hybrid.data import files
from hybrid.data.events.camera import (
    FITTED,
    NMNIST_CAMERA,
    NMNIST_SACCADES,
    Picture,
    record,
)
from hybrid.data.events.recordings import EVENT, EventError, Events, Recordings, Sensor, of_tonic
from hybrid.data.files import DamagedDataError, MissingDataError, fetch, reading, registry
from hybrid.data.images import CLASSES, load_images

EVENT_NAMES = ("event_digits", "event_mnist", "mnist_to_nmnist", "nmnist_small", "nmnist")
GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise",
    "right arm counter-clockwise", "left arm clockwise", "left arm counter-clockwise",
    "arm roll", "air drums", "air guitar", "other",
)  # fmt: skip
_NMNIST_SIZE = {"Train": 60_000, "Test": 10_000}
_LABEL, _NUMBER = re.compile("[0-9]"), re.compile(r"[0-9]{1,9}\.bin")  # of N-MNIST's files
_BYTES = 5  # of an event
_REPLACE = "Replace the file."


@dataclass(frozen=True)
class EventSource:
    """Recordings that are read, or made, when they are asked for."""

    labels: NDArray[np.int64]  # classes of all recordings
    sensor: Sensor
    fingerprint: str  # tells what the recordings are, for keys of caches and records
    reader: Callable[[Sequence[int]], Recordings]  # some of them, by their numbers

    def read(self, numbers: Sequence[int]) -> Recordings:
        """Return some recordings, by their numbers.

        Raises:
            ValueError: if these are no numbers of recordings, but a mask for example.
        """
        wanted = np.asarray(numbers)
        if wanted.dtype.kind == "b":
            raise ValueError("a mask of recordings: give their numbers, np.flatnonzero(mask)")
        count = len(self.labels)
        if wanted.size and (wanted.dtype.kind not in "iu" or wanted.ndim != 1):
            raise ValueError(f"numbers of {wanted.dtype}, {wanted.ndim}D: give whole ones in a row")
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < count):
            raise ValueError(
                f"recordings {wanted.min()} to {wanted.max()}: there are 0 to {count - 1}"
            )
        return self.reader(wanted.tolist())


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
    10,000), looked at by a simulated camera, with other noise in tests than in training.
    "nmnist_small": the first 1,000 training and 100 test recordings of N-MNIST, in two zip
    archives. "mnist_to_nmnist": learned from simulated recordings of the other 59,000 training
    digits, tested on those 1,000 real ones that the simulated camera was not fitted to. "nmnist":
    all of N-MNIST (Orchard et al., Front. Neurosci. 9:437, 2015) in tonic's
    folder below the data directory. If it is missing, tonic fetches and unpacks it, without the
    checks and limits that `hybrid.data.files` sets to other archives.

    Raises:
        ValueError: if the name is unknown.
        MissingDataError, DamagedDataError: if files are missing and not to be had, or damaged.
    """
    choose("event set", name, EVENT_NAMES)
    if name.startswith("event_"):
        images = load_images(name.removeprefix("event_"))
        train = _simulated(images.train, images.train_labels, seed=0)
        test = _simulated(images.test, images.test_labels, seed=1)
    elif name == "nmnist_small":
        archives = ("nmnist_small/Train.zip", "nmnist_small/Test.zip")
        train, test = (archive(fetch(file), registry()[file].digests[0]) for file in archives)
    elif name == "mnist_to_nmnist":
        real = load_events("nmnist_small")
        seen = len(real.train.labels)  # numbers of N-MNIST are those of MNIST
        simulated = load_events("event_mnist").train
        train = _part(simulated, range(seen, len(simulated.labels)))
        test = _joined(_part(real.train, range(FITTED, seen)), real.test)
    else:
        train, test = map(_nmnist, _NMNIST_SIZE)
    return EventSet(name, train, test, CLASSES["mnist"])


def _simulated(pictures: Picture, labels: NDArray[np.int64], seed: int) -> EventSource:
    """Return recordings of pictures by a model of N-MNIST's camera."""
    model = NMNIST_CAMERA, NMNIST_SACCADES
    read = partial(_look_at, pictures, seed)
    digest = hashlib.sha256(np.ascontiguousarray(pictures).data)
    digest.update(repr((*model, seed)).encode())
    # Another state of the simulator makes other recordings: the first ones tell.
    first = read(range(min(2, len(labels))))
    digest.update(first.events.tobytes())
    return EventSource(labels, first.sensor, digest.hexdigest(), read)


# What reads is a function of the module with its first arguments bound: so sources can be sent to
# the workers of a DataLoader, however these are started.
def _look_at(pictures: Picture, seed: int, numbers: Sequence[int]) -> Recordings:
    shown = pictures[np.asarray(numbers, dtype=np.int64)]
    return record(shown, NMNIST_CAMERA, NMNIST_SACCADES, seed=seed, numbers=numbers)


def _part(source: EventSource, numbers: range) -> EventSource:
    """Return some of a source's recordings."""
    read = partial(_read_part, source, numbers)
    fingerprint = f"{source.fingerprint} {numbers.start} to {numbers.stop}"
    return EventSource(
        source.labels[numbers.start : numbers.stop], source.sensor, fingerprint, read
    )


def _read_part(source: EventSource, numbers: range, asked: Sequence[int]) -> Recordings:
    return source.read([numbers[number] for number in asked])


def _joined(first: EventSource, second: EventSource) -> EventSource:
    """Return the recordings of one sensor from two sources, one after the other."""
    read = partial(_read_joined, first, second)
    labels = np.concatenate([first.labels, second.labels])
    return EventSource(labels, first.sensor, f"{first.fingerprint} {second.fingerprint}", read)


def _read_joined(first: EventSource, second: EventSource, asked: Sequence[int]) -> Recordings:
    count = len(first.labels)
    parts = [first.read([n]) if n < count else second.read([n - count]) for n in asked]
    return Recordings.of([part[0] for part in parts], first.sensor)


def archive(path: Path, fingerprint: str) -> EventSource:
    """Return the recordings of a zip archive with entries `…/<label>/<number>.bin`.

    Raises:
        DamagedDataError: if the archive cannot be read, or has no such entries.
    """
    path = Path(path).resolve()  # found again when the working directory is another
    with reading(path, _REPLACE):
        changed = path.stat().st_mtime_ns
        packed = _opened(path, changed, os.getpid())
    return _numbered(path, packed.namelist(), partial(_packed, path, changed), fingerprint)


@lru_cache(maxsize=8)
def _opened(path: Path, changed: int, process: int) -> zipfile.ZipFile:
    """Return an archive, opened once in each process: a shared file has one place to read at."""
    return files.checked_zip(zipfile.ZipFile(path))


def _packed(path: Path, changed: int, name: str) -> bytes:
    with reading(name, _REPLACE):
        if path.stat().st_mtime_ns != changed:
            raise ValueError("the archive has changed since it was loaded: load it again")
        return _opened(path, changed, os.getpid()).read(name.removeprefix(f"{path}/"))


def tree(folder: Path) -> EventSource:
    """Return the recordings of a folder `<label>/<number>.bin`, as tonic leaves N-MNIST.

    Raises:
        DamagedDataError: if there are no such files.
    """
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.bin"))
    digest = hashlib.sha256()
    for name in found:
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return _numbered(folder, found, _file, digest.hexdigest())


def _file(name: str) -> bytes:
    return Path(name).read_bytes()


def _numbered(
    home: Path, entries: Sequence[str], content: Callable[[str], bytes], fingerprint: str
) -> EventSource:
    """Return recordings of N-MNIST in the order of their numbers, which is that of MNIST."""
    parts = [entry.split("/") for entry in entries if entry.endswith(".bin")]
    homes = {tuple(part[:-2]) for part in parts}  # Train and Test are not one set
    wrong = [
        part
        for part in parts
        if len(part) < 2 or not (_LABEL.fullmatch(part[-2]) and _NUMBER.fullmatch(part[-1]))
    ]
    wrong += parts[:1] if len(homes) > 1 else []
    if not parts or wrong:
        what = f"holds {'/'.join(wrong[0])!r}" if wrong else "holds no recordings"
        raise DamagedDataError(
            f"{home} {what}: expected <label>/<number>.bin with labels 0 to 9, as in N-MNIST's "
            "Train and Test. Give the right folder, or fetch the data anew."
        )
    parts.sort(key=lambda part: int(part[-1][:-4]))
    names = [f"{home}/{'/'.join(part)}" for part in parts]
    return _stored(names, [int(part[-2]) for part in parts], (34, 34, 2), fingerprint, content)


def _stored(
    names: Sequence[str],
    labels: Sequence[int],
    sensor: Sensor,
    fingerprint: str,
    content: Callable[[str], bytes],
) -> EventSource:
    """Return recordings in files of N-MNIST's format, whose content is found by their names."""
    read = partial(_read_files, names, sensor, content)
    return EventSource(np.array(labels), sensor, fingerprint, read)


def _read_files(
    names: Sequence[str],
    sensor: Sensor,
    content: Callable[[str], bytes],
    numbers: Sequence[int],
) -> Recordings:
    parts = [read_bin(content(names[number]), names[number]) for number in numbers]
    try:
        return Recordings.complete(parts, sensor)
    except EventError as error:
        name = names[numbers[error.recording]]
        raise DamagedDataError(f"{name} {error.fault}. {_REPLACE}") from error


def read_bin(content: bytes, name: str) -> Events:
    """Return the events of a file of N-MNIST, 40 bits each: x 8, y 8, polarity 1, µs 23.

    Row 240 marks, as tonic reads it, an overflow of the clock and no event.

    Raises:
        DamagedDataError: if the file is cut short.
    """
    if len(content) % _BYTES:
        raise DamagedDataError(
            f"{name} is cut short: {len(content)} bytes are no multiple of {_BYTES}, an event's "
            f"size. {_REPLACE}"
        )
    read = of_tonic("io", "read_mnist_file")
    events: Events = read(io.BytesIO(content), dtype=EVENT, is_stream=True)
    return events


def gesture_recordings() -> EventSource:
    """Return ten recordings of DVS128 Gesture, 1.45 s of each of the first ten classes.

    They show what such data are (Amir et al., CVPR 2017); nothing can be learned from so few.

    Raises:
        MissingDataError, DamagedDataError: see `fetch`.
    """
    names = sorted(name for name in registry() if name.startswith("dvs_gesture10/"))
    paths = [str(fetch(name)) for name in names]
    digests = "".join(registry()[name].digests[0] for name in names)
    return _stored(paths, range(10), (128, 128, 2), digests, _file)


def _nmnist(part: str) -> EventSource:
    """Return the training or the test part of N-MNIST, which tonic fetches if it is missing."""
    home = files.data_directory()
    folder, expected = home / "NMNIST" / part, _NMNIST_SIZE[part]
    if not folder.is_dir():
        by_tonic = of_tonic("datasets", "NMNIST")
        try:
            by_tonic(str(home), train=part == "Train")
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise MissingDataError(
                f"N-MNIST is not in {folder.parent} and could not be fetched by tonic "
                f"({type(error).__name__}: {error}).\nConnect to the network and run again, or put "
                "there by hand what tonic leaves, the archive and what is unpacked of it, or set "
                f"{files.SETTING} to a folder that has both."
            ) from error
    source = tree(folder)
    if len(source.labels) != expected:
        raise DamagedDataError(
            f"{folder} holds {len(source.labels):,} recordings, not {expected:,}. Unpack N-MNIST "
            f"anew, or delete {folder.parent} and run again to fetch it."
        )
    return source
