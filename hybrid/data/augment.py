"""Random changes of training images that leave their class alone."""

import torch
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
    padded = torch.nn.functional.pad(images - fill, (padding,) * 4) + fill
    index = torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]
    picked = padded.permute(0, 2, 3, 1)[tuple(i.to(images.device) for i in index)]
    return picked.permute(0, 3, 1, 2).contiguous()
