"""What experiments learn from and are tested on: images by name, or data of one's own."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hybrid.checks import require
from hybrid.data.events.frames import to_frames
from hybrid.data.events.sets import EventSet, EventSource
from hybrid.data.images import CLASSES, Images, load_images
from hybrid.data.own import classes_in, image_of, images_in, is_own, made_at, own_data, place_of
from hybrid.experiments.core.settings import Settings, SettingsT


class Samples(Protocol):
    """What is learned from and tested on: `Images`, or whatever `inputs` makes inputs of."""

    @property
    def train(self) -> Any: ...

    @property
    def train_labels(self) -> np.ndarray: ...

    @property
    def test(self) -> Any: ...

    @property
    def test_labels(self) -> np.ndarray: ...


def flat(settings: Settings, pixels: np.ndarray) -> Tensor:
    """Return images as inputs [N, in], in [0, 1]."""
    return torch.from_numpy(pixels).flatten(1)


@lru_cache(maxsize=2)
def _known(dataset: str) -> Images:
    return load_images(dataset)


@lru_cache(maxsize=2)
def _framed(place: str, steps: int) -> Images:
    """Return events of one's own as frames, see `images_of`."""
    data = made_at(place)
    assert isinstance(data, EventSet)

    def frames(source: EventSource) -> np.ndarray:
        counts = to_frames(source.read(range(len(source.labels))), steps)
        return counts.reshape(len(counts), -1).astype(np.float32)

    return Images(frames(data.train), data.train.labels, frames(data.test), data.test.labels)


def images_of(dataset: str, steps: int | None = None) -> Images:
    """Return an image set, kept in memory for the trials that follow.

    Events of one's own become frames of so many steps, [N, steps · polarities · height · width].

    Raises:
        ValueError: if data of one's own are events, and no steps are asked for.
    """
    if not is_own(dataset):
        return _known(dataset)
    if steps is None or isinstance(own_data(dataset), Images):
        return images_in(dataset)
    return _framed(place_of(dataset), steps)


def images_for(settings: Settings) -> Images:
    """Return the images that a trial learns from."""
    return images_of(settings.dataset)


def shape_of(dataset: str) -> tuple[int, int, int]:
    """Return the shape of the images of a set: channels, height, width."""
    if is_own(dataset):
        return image_of(own_data(dataset))
    return (3, 32, 32) if dataset.startswith("cifar10") else (1, 28, 28)


def number_of_classes(dataset: str) -> int:
    """Return how many classes an image set has."""
    return classes_in(own_data(dataset)) if is_own(dataset) else len(CLASSES[dataset])


def class_names(dataset: str, count: int) -> tuple[str, ...]:
    """Return the names of so many classes; those of one's own have numbers."""
    return CLASSES.get(dataset) or tuple(map(str, range(count)))


def checked_dataset(settings: Settings, known: Sequence[str]) -> None:
    """Refuse a data set that is neither known nor one's own."""
    allowed = f"one of {', '.join(known)}, or the place of a function, my_data.py:make"
    require(settings, "dataset", settings.dataset in known or is_own(settings.dataset), allowed)


def held_out(wanted: int, data: Images | EventSet) -> int:
    """Return how much of one's own data is held out: at most a tenth, but of each class one."""
    labels = data.train.labels if isinstance(data, EventSet) else data.train_labels
    return min(wanted, max(len(labels) // 10, classes_in(data)))


def on_images(settings: SettingsT, dataset: str, label: str) -> SettingsT:
    """Return settings for images of one's own: as many classes, and less held out of few.

    Raises:
        ValueError: if the data are events, or settings and images do not go together.
    """
    images_in(dataset)
    return on_samples(settings, dataset, label)


def on_samples(settings: SettingsT, dataset: str, label: str) -> SettingsT:
    """Return settings for images or events of one's own, see `on_images`."""
    data = own_data(dataset)
    validation = held_out(settings.validation, data)
    changes: dict[str, Any] = {"dataset": dataset, "label": label, "validation": validation}
    if dense := getattr(settings, "dense", ()):
        changes["dense"] = (*dense[:-1], replace(dense[-1], size=classes_in(data)))
    return replace(settings, **changes)


def hash_of_images(settings: Settings) -> str:
    """Return a hash of an image set, after fetching it."""
    return images_for(settings).sha256()
