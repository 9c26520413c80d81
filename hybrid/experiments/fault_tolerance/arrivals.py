"""Test images that arrive in other ways: how far a method needs its images well mixed.

Whatever learns from test images, a trace or a running estimate, learns from which images come
together. The usual test shuffles them, and one test set has one fault at one strength.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hybrid.data.faults import corrupt
from hybrid.data.images import Images
from hybrid.runs.seeds import numpy_stream

VARIANCE = 0.06  # of the noise
MIXED = (
    ("gaussian", 0.0),
    ("gaussian", 0.03),
    ("gaussian", VARIANCE),
    ("crop", 4.0),
    ("crop", 8.0),
    ("salt", 0.06),
    ("pepper", 0.36),
    ("speckle", 600.0),
)  # each image has one of them


class Arrival(NamedTuple):
    """Test images in the order in which they come.

    Attributes:
        name: of what is special about them.
        inputs: [N, in].
        labels: [N].
        parts: what is counted on its own: level, first image, end.
    """

    name: str
    inputs: Tensor
    labels: Tensor
    parts: tuple[tuple[float, int, int], ...]


def arrivals(images: Images, seed: int) -> list[Arrival]:
    """Return what the test images can come as.

    "batch of": noisy and shuffled, as usual. "sorted": by class, clean (level 0) or noisy (1).
    "mixed": each image with a fault of its own. "changing": a clean third (level 1), a noisy one
    (2) and a clean one (3).
    """
    count, labels = len(images.test), images.test_labels
    noisy = corrupt(images.test, "gaussian", VARIANCE, numpy_stream(seed, "arrivals", "noise"))
    drawn = numpy_stream(seed, "arrivals", "mixed").integers(len(MIXED), size=count)
    mixed = images.test.copy()
    for number, (name, level) in enumerate(MIXED):
        own, source = drawn == number, numpy_stream(seed, "arrivals", "mixed", number)
        mixed[own] = corrupt(images.test[own], name, level, source)
    first, second = count // 3, 2 * count // 3
    changing = images.test.copy()
    changing[first:second] = noisy[first:second]
    thirds = (1.0, 0, first), (2.0, first, second), (3.0, second, count)
    order = np.argsort(labels, kind="stable")

    def arrival(
        name: str,
        pixels: np.ndarray,
        labels: np.ndarray,
        *parts: tuple[float, int, int],
    ) -> Arrival:
        inputs = torch.from_numpy(pixels).flatten(1)
        return Arrival(name, inputs, torch.from_numpy(labels), parts)

    return [
        arrival("batch of", noisy, labels, (100.0, 0, count)),
        arrival("sorted", images.test[order], labels[order], (0.0, 0, count)),
        arrival("sorted", noisy[order], labels[order], (1.0, 0, count)),
        arrival("mixed", mixed, labels, (0.0, 0, count)),
        arrival("changing", changing, labels, *thirds),
    ]
