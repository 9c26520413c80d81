"""Random changes of training images that leave their class alone."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_flip(
    images: Tensor, generator: torch.Generator, *, padding: int = 4, fill: Tensor | float = 0.0
) -> Tensor:
    """Shift each image by up to `padding` pixels and mirror half of them.

    Args:
        images: [N, C, H, W].
        generator: source of the shifts and of who is mirrored (on the CPU).
        padding: largest shift in pixels, in both directions.
        fill: value of what is shifted in, a number or [C, 1, 1].

    Returns:
        Images of the same shape.

    Source: the authors' CIFAR-10 script (random crop of the padded image, horizontal flip).
    """
    n, _, height, width = images.shape
    shifts = torch.randint(2 * padding + 1, (2, n, 1), generator=generator)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    rows = shifts[0] + torch.arange(height)
    columns = torch.arange(width).expand(n, -1)
    columns = shifts[1] + torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images - fill, (padding,) * 4) + fill
    index = torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]
    picked = padded.permute(0, 2, 3, 1)[tuple(i.to(images.device) for i in index)]
    return picked.permute(0, 3, 1, 2).contiguous()


def add_noise(images: Tensor, generator: torch.Generator, *, variance: float = 0.06) -> Tensor:
    """Add Gaussian noise to each image [N, in] in [0, 1], of a variance from U(0, `variance`)."""
    n = len(images)
    deviation = (variance * torch.rand(n, 1, generator=generator)).sqrt()
    noise = deviation * torch.randn(n, images[0].numel(), generator=generator)
    return (images + noise.view_as(images).to(images)).clamp(0.0, 1.0)


def erase(images: Tensor, generator: torch.Generator, *, largest: int = 18) -> Tensor:
    """Blank a rectangle of each image [N, H, W] or [N, C, H, W].

    Its sides are from U{0, …, `largest`} pixels.

    Source: random erasing, Zhong et al., AAAI 2020, with black as the value and sides of our own.
    """
    n, *shape = len(images), *images.shape[-2:]
    hidden = torch.ones(n, *shape, dtype=torch.bool)
    for axis, length in enumerate(shape, start=1):
        side = torch.randint(min(largest, length) + 1, (n, 1), generator=generator)
        first = (torch.rand(n, 1, generator=generator) * (length - side + 1)).long()
        places = torch.arange(length)
        inside = (places >= first) & (places < first + side)  # [N, length]
        hidden &= inside.unsqueeze(3 - axis)
    hidden = hidden if images.ndim == 3 else hidden.unsqueeze(1)
    return images.masked_fill(hidden.to(images.device), 0.0)


class Jitter(NamedTuple):
    """How far an image may be turned, scaled and shifted, each uniformly in both directions."""

    degrees: float
    scale: float  # share of the size
    pixels: float

    def __call__(self, images: Tensor, source: np.random.Generator, *, fill: float = 0.0) -> Tensor:
        """Return images [N, C, H, W], each turned, scaled and shifted about its centre.

        Args:
            source: draws the changes.
            fill: value of what comes into sight.
        """
        n, _, height, width = images.shape
        draws = torch.from_numpy(source.uniform(-1.0, 1.0, (4, n))).to(images)
        angle, size = draws[0] * math.radians(self.degrees), 1.0 + draws[1] * self.scale
        # Coordinates run from -1 to 1, whatever the size.
        right, down = draws[2:] * (2.0 * self.pixels) / torch.tensor([[width], [height]]).to(images)
        cos, sin = size * angle.cos(), size * angle.sin()
        rows = torch.stack([cos, -sin, right]), torch.stack([sin, cos, down])
        maps = torch.stack(rows).permute(2, 0, 1)  # [N, 2, 3]
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return F.grid_sample(images - fill, grid, align_corners=False) + fill
