"""Constants of a classification network."""

import math
from dataclasses import dataclass, replace

import numpy as np

from hybrid.checks import require
from hybrid.data.events.sets import EventSet
from hybrid.data.images import CLASSES, DATA_NAMES, Images
from hybrid.data.own import is_own, own_data
from hybrid.experiments.core.network import NetworkSettings
from hybrid.experiments.core.samples import (
    checked_dataset,
    images_of,
    on_samples,
    shape_of,
)
from hybrid.model.coding import EventCounts, InParts

_SHARE = 99  # per cent of the pixels with events whose counts are not cut


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(NetworkSettings):
    """One network on one data set of images.

    Args:
        augment: random crops and mirrored images, of colour images alone.

    Raises ValueError, naming the field, for values that make no sense.
    """

    augment: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_dataset(self, DATA_NAMES)
        if not is_own(self.dataset):
            outputs, classes = self.dense[-1].size, len(CLASSES[self.dataset])
            require(self, "dense", outputs == classes, f"layers that end in {classes} classes")
            parts = self.encode != InParts() or (28 * 28) % self.steps == 0
            require(self, "steps", parts, "a divisor of the 784 pixels that are shown in parts")
            events = isinstance(self.encode, EventCounts)
            require(self, "encode", not events, "no EventCounts: these are images")
        if self.colour:
            require(self, "convolutions", bool(self.convolutions), "there, for colour images")
        require(
            self, "encode", self.encode is None or not self.convolutions, "None with convolutions"
        )
        require(self, "augment", self.colour or not self.augment, "False for grey images")

    @property
    def colour(self) -> bool:
        """Whether images are in colour."""
        return self.dataset.startswith("cifar10")

    @property
    def image(self) -> tuple[int, int, int]:
        """Shape of what is shown at each step (channels, height, width)."""
        shape = shape_of(self.dataset)
        return (1, 1, math.prod(shape) // self.steps) if self.encode == InParts() else shape


def hash_of(settings: ClassificationSettings) -> str:
    """Return a hash of what a trial learns from, after fetching it."""
    return samples_of(settings).sha256()


def samples_of(settings: ClassificationSettings) -> Images:
    """Return the images that a trial learns from, or frames of events of one's own."""
    if isinstance(settings.encode, EventCounts):
        return images_of(settings.dataset, settings.steps)
    return images_of(settings.dataset)


def on_own(settings: ClassificationSettings, dataset: str, label: str) -> ClassificationSettings:
    """Return settings for data of one's own; events are counted in windows and shown in order."""
    own = on_samples(settings, dataset, label)
    if own.encode == InParts():  # by rows
        channels, height, _ = shape_of(dataset)
        own = replace(own, steps=channels * height)
    if isinstance(own_data(dataset), EventSet):
        counts = images_of(dataset, own.steps).train
        ceiling = max(round(float(np.percentile(counts[counts > 0], _SHARE))), 1)
        own = replace(own, encode=EventCounts(ceiling=ceiling), tau=None)
    return own
