"""From named recordings to the frames that networks see; frames are kept on disk."""

import hashlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pooch
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from hybrid.data import dvs, events, frames, recordings
from hybrid.data.events import EventSet, EventSource, load_events
from hybrid.data.frames import to_frames
from hybrid.data.recordings import Recordings, Sensor
from hybrid.experiments.base import require
from hybrid.experiments.event_config import Config
from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors

CACHE_SETTING = "HYBRID_CACHE"
_AT_ONCE = 256  # recordings read together
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class First:
    """The first recordings of a source."""

    source: EventSource
    count: int | None

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.source.labels[: self.count]

    @property
    def sensor(self) -> Sensor:
        return self.source.sensor

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint} first {self.count}"

    def read(self, numbers: Sequence[int]) -> Recordings:
        return self.source.read(numbers)


@dataclass(frozen=True)
class EventData:
    """Recordings to learn from and to be tested on: samples of `image_trials`."""

    train: EventSource
    test: EventSource
    classes: tuple[str, ...]

    @property
    def train_labels(self) -> NDArray[np.int64]:
        return self.train.labels

    @property
    def test_labels(self) -> NDArray[np.int64]:
        return self.test.labels


@lru_cache(maxsize=2)
def event_set(dataset: str) -> EventSet:
    """Return a set of recordings, kept in memory for the trials that follow."""
    return load_events(dataset)


def hash_of_events(dataset: str) -> str:
    """Return a hash of a set of recordings."""
    return event_set(dataset).sha256()


def recordings_for(config: Config) -> EventData:
    """Return the recordings that a config uses.

    Raises:
        ValueError: if it asks for more than there are.
    """
    whole = event_set(config.dataset)
    for name, wanted, source in (
        ("recordings", config.recordings, whole.train),
        ("tested", config.tested, whole.test),
    ):
        there = len(source.labels)
        require(config, name, wanted is None or wanted <= there, f"at most {there:,}, or None")
    return EventData(
        First(whole.train, config.recordings), First(whole.test, config.tested), whole.classes
    )


@lru_cache(maxsize=1)
def test_recordings(config: Config) -> Recordings:
    """Return all test recordings of a config, kept in memory for the trials that follow."""
    source = recordings_for(config).test
    return source.read(range(len(source.labels)))


def frames_of(config: Config, source: EventSource) -> Tensor:
    """Return the frames of all recordings as inputs [N, T · polarities · height · width], uint8.

    They are computed once: see `cache_directory`.
    """
    spec = f"{config.steps} {config.by} {config.span}"
    key = hashlib.sha256(f"{source.fingerprint} {spec} {_code()}".encode()).hexdigest()[:24]
    path = cache_directory() / f"frames-{key}.safetensors"
    return _kept(path, lambda: _count(config, source))


def frames_from(config: Config, made: Recordings) -> Tensor:
    """Return the frames of recordings in memory, see `frames_of`."""
    counted = to_frames(made, config.steps, config.by, span=config.span)
    return torch.from_numpy(np.minimum(counted, 255).astype(np.uint8)).flatten(1)


def cache_directory() -> Path:
    """Return where frames are kept: `HYBRID_CACHE`, else the user's cache folder."""
    setting = os.environ.get(CACHE_SETTING)
    return Path(setting).expanduser() if setting else Path(pooch.os_cache("hybrid")) / "frames"


def _count(config: Config, source: EventSource) -> Tensor:
    numbers = np.arange(len(source.labels))
    parts = [
        frames_from(config, source.read(part.tolist()))
        for part in tqdm(
            np.split(numbers, range(_AT_ONCE, len(numbers), _AT_ONCE)),
            desc=f"frames of {config.dataset}",
            unit=f"{_AT_ONCE} recordings",
            leave=False,
        )
    ]
    return torch.cat(parts)


def _kept(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Return what a file holds; compute and keep it if there is none, or a damaged one."""
    try:
        return load_tensors(path)[0]["frames"]
    except OSError:
        pass  # not there, or not to be read
    except DamagedFileError as error:
        _log.warning("%s; the frames are counted anew", error)
    found = compute()
    try:
        save_tensors(path, {"frames": found}, {})
    except OSError as error:  # no room, no right to write: it is only a cache
        _log.warning("frames are not kept: %s", error)
    return found


@cache
def _code() -> str:
    """Return a hash of the code that frames depend on: other code, other frames."""
    modules = (recordings, frames, dvs, events, sys.modules[__name__])
    source = "".join(map(inspect.getsource, modules)) + events.tonic_version()
    return hashlib.sha256(source.encode()).hexdigest()
