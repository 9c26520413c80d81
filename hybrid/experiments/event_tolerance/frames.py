"""From named recordings to the frames that networks see; frames are kept on disk."""

import hashlib
import inspect
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from hybrid.checks import require
from hybrid.data.events import camera, frames, recordings, sets
from hybrid.data.events.frames import to_frames
from hybrid.data.events.recordings import Recordings
from hybrid.data.events.sets import EventSet, EventSource, load_events
from hybrid.data.own import is_own, own_data
from hybrid.experiments.core.samples import on_samples
from hybrid.experiments.event_tolerance.settings import EventSettings
from hybrid.locks import alone
from hybrid.paths import folder_of
from hybrid.runs.files import DamagedFileError, load_tensors, save_tensors

CACHE_SETTING = "HYBRID_CACHE"
_AT_ONCE = 256  # recordings read together
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventData:
    """Recordings to learn from and to be tested on."""

    train: EventSource
    test: EventSource

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Classes of the recordings to learn from."""
        return self.train.labels

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Classes of the recordings to be tested on."""
        return self.test.labels


@lru_cache(maxsize=2)
def _known(dataset: str) -> EventSet:
    return load_events(dataset)


def event_set(dataset: str) -> EventSet:
    """Return a set of recordings, kept in memory for the trials that follow."""
    if not is_own(dataset):
        return _known(dataset)
    data = own_data(dataset)
    if not isinstance(data, EventSet):
        raise ValueError(
            f"{dataset} holds images: `fault_tolerance` and `classification` take them"
        )
    return data


def on_own(settings: EventSettings, dataset: str, label: str) -> EventSettings:
    """Return settings for recordings of one's own: all of them, in their own time."""
    event_set(dataset)
    return on_samples(replace(settings, recordings=None, tested=None, span=None), dataset, label)


def hash_of_events(settings: EventSettings) -> str:
    """Return a hash of a set of recordings."""
    return event_set(settings.dataset).sha256()


def recordings_for(settings: EventSettings) -> EventData:
    """Return the recordings that a trial uses.

    Raises:
        ValueError: if it asks for more than there are.
    """
    whole = event_set(settings.dataset)

    def first(name: str, source: EventSource) -> EventSource:
        count, there = getattr(settings, name), len(source.labels)
        require(settings, name, count is None or count <= there, f"at most {there:,}, or None")
        fingerprint = f"{source.fingerprint} first {count}"
        return replace(source, labels=source.labels[:count], fingerprint=fingerprint)

    return EventData(first("recordings", whole.train), first("tested", whole.test))


@lru_cache(maxsize=1)
def recordings_to_test(settings: EventSettings) -> Recordings:
    """Return all test recordings of a trial, kept in memory for the trials that follow."""
    source = recordings_for(settings).test
    return source.read(range(len(source.labels)))


def frames_of(settings: EventSettings, source: EventSource) -> Tensor:
    """Return the frames of all recordings as inputs [N, T · polarities · height · width], uint8.

    They are computed once: see `cache_directory`.
    """
    asked = f"{source.fingerprint} {settings.steps} {settings.span} {_code()}"
    key = hashlib.sha256(asked.encode()).hexdigest()[:24]
    path = cache_directory() / f"frames-{key}.safetensors"
    return _kept(path, asked, lambda: _count(settings, source))


def frames_from(settings: EventSettings, made: Recordings) -> Tensor:
    """Return the frames of recordings in memory, see `frames_of`."""
    counted = to_frames(made, settings.steps, span=settings.span)
    return torch.from_numpy(np.minimum(counted, 255).astype(np.uint8)).flatten(1)


def cache_directory() -> Path:
    """Return where frames are kept: `HYBRID_CACHE`, else the user's cache folder."""
    return folder_of(CACHE_SETTING, "frames")


def _count(settings: EventSettings, source: EventSource) -> Tensor:
    numbers = np.arange(len(source.labels))
    parts = np.split(numbers, range(_AT_ONCE, len(numbers), _AT_ONCE))
    title, unit = f"frames of {settings.dataset}", f"{_AT_ONCE} recordings"
    bar = tqdm(parts, desc=title, unit=unit, leave=False)
    return torch.cat([frames_from(settings, source.read(part.tolist())) for part in bar])


def _kept(path: Path, asked: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return the frames in a file; one process computes and keeps them, the others wait for it."""
    found = _read(path, asked)
    if found is not None:
        return found
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(path, "is counting"))
            found = _read(path, asked)
        except OSError as error:  # no right to write: it is only a cache
            _log.warning("frames are not kept: %s", error)
            return compute()
        if found is None:
            found = compute()
            try:
                save_tensors(path, {"frames": found}, {"asked": asked})
            except OSError as error:  # no room
                _log.warning("frames are not kept: %s", error)
    return found


def _read(path: Path, asked: str) -> Tensor | None:
    """Return the frames in a file; None if there is none, or if it holds something else."""
    try:
        tensors, about = load_tensors(path)
        if about == {"asked": asked}:
            return tensors["frames"]
        _log.warning("%s holds other frames; they are counted anew", path)
    except OSError:
        pass  # not there, or not to be read
    except (DamagedFileError, KeyError) as error:
        _log.warning("%s; the frames are counted anew", error)
    return None


@cache
def _code() -> str:
    """Return a hash of the code that frames depend on: other code, other frames."""
    modules = (recordings, frames, camera, sets, sys.modules[__name__])
    source = "".join(map(inspect.getsource, modules)) + recordings.tonic_version()
    return hashlib.sha256(source.encode()).hexdigest()
