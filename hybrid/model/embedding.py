"""A convolutional embedding: drawings become feature vectors (authors' few-shot network)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.checks import choose
from hybrid.model.built import Built
from hybrid.model.neurons import is_batched

Activation = Literal["tanh", "relu"]


class Embedding(Built):
    """Convolutions of 3 x 3 with stride 2, each with an activation; the last one's is the feature.

    The authors' network has four of 128 channels, tanh, and neither `normalised` layers nor a
    `length`: images of 31 x 31 become 512 features.

    Args:
        channels: of the convolutions, first one first.
        image: shape of the images (channels, height, width).
        activation: "tanh" or "relu".
        normalised: whether batch normalisation stands before each activation. In training mode
            it uses the statistics of all images of the call, in evaluation mode running ones.
        length: Euclidean length that every feature vector is scaled to; None leaves it.
        generator: source of the initial weights, torch's own distribution for convolutions.

    Raises:
        ValueError: if a size, length or name makes no sense.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        image: tuple[int, int, int] = (1, 31, 31),
        activation: Activation = "tanh",
        normalised: bool = False,
        length: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels = {tuple(channels)}: give at least one number, all >= 1")
        choose("activation", activation, get_args(Activation))
        if length is not None and length <= 0.0:
            raise ValueError(f"length = {length}: it must be > 0, or None")
        self.image, self.length, self.normalised = image, length, normalised
        self.rectified = activation == "relu"
        self._activation = torch.relu_ if self.rectified else torch.tanh_
        self.convolutions, self.normalisations = nn.ModuleList(), nn.ModuleList()
        inputs, *size = image
        for out in channels:
            self.convolutions.append(convolution(inputs, out, generator, stride=2))
            self.normalisations.append(nn.BatchNorm2d(out) if normalised else nn.Identity())
            inputs, size = out, [(side + 1) // 2 for side in size]
        self.features = inputs * size[0] * size[1]
        # Channels last in memory: the same numbers, faster.
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [N, features] of images [N, channels, height, width].

        Raises:
            ValueError: if the images do not have the embedding's shape.
        """
        if images.ndim != 4 or images.shape[1:] != self.image:
            raise ValueError(f"images must have shape [N, {self.image}], got {list(images.shape)}")
        x = images  # under vmap torch has no such layout
        if not is_batched(images):
            x = images.contiguous(memory_format=torch.channels_last)
        for convolve, normalise in zip(self.convolutions, self.normalisations, strict=True):
            x = self._activation(normalise(convolve(x)))
        x = x.flatten(1)
        return x if self.length is None else self.length * F.normalize(x, dim=1)


class Pixels(Built):
    """No embedding at all: the features of an image are its pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [N, height · width] of images [N, 1, height, width]."""
        return images.flatten(1)


def convolution(
    inputs: int, outputs: int, generator: torch.Generator | None, *, stride: int = 1
) -> nn.Conv2d:
    """Return a padded 3 x 3 convolution with torch's initial distribution from `generator`."""
    module = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
    bound = (9 * inputs) ** -0.5
    for parameter in (module.weight, module.bias):
        assert parameter is not None
        with torch.no_grad():
            parameter.uniform_(-bound, bound, generator=generator)
    return module
