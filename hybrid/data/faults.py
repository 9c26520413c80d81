"""Faults of a visual input: a blanked centre, and kinds of pixel noise.

Every fault takes images in [0, 1], [N, *, H, W], a level on its own axis, and a seeded generator.
Level 0 is the clean image. Noise comes from scikit-image and is clipped to [0, 1], as in the
authors' test scripts. Clipping moves the mean: where most pixels are black, noise makes an image
brighter. Two more kinds tell noise from that shift: "gaussian_unclipped", and "gaussian_centred",
which is clipped and then gives each pixel its clean value as its mean again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid.checks import choose

Pictures = NDArray[np.float32]
Change = TypeVar("Change")


@dataclass(frozen=True)
class Fault(Generic[Change]):
    """One kind of fault: its name, what its level means, and the largest level that makes sense."""

    name: str
    axis: str  # label of the level axis, with unit
    change: Change  # what brings it about
    highest: float = float("inf")

    def check(self, level: float) -> None:
        """Raise ValueError, naming what is allowed, unless `level` is on the axis."""
        if not 0.0 <= level <= self.highest:
            limit = "" if self.highest == float("inf") else f" and <= {self.highest:g}"
            raise ValueError(f"{self.name} level {level}: the {self.axis} must be >= 0{limit}")


def check_level(name: str, level: float) -> None:
    """Raise ValueError, naming what is allowed, unless `level` is a level of fault `name`."""
    FAULTS[choose("fault", name, FAULTS)].check(level)
    if name == "crop" and level != int(level):
        raise ValueError(f"{name} level {level}: the half-width is a whole number of pixels")


def corrupt(images: Pictures, name: str, level: float, rng: np.random.Generator) -> Pictures:
    """Return a corrupted copy of images.

    Args:
        images: [N, H, W], or [N, C, H, W] of colours, in [0, 1].
        name: a key of `FAULTS`.
        level: variance, fraction of pixels, or half-width in pixels of the blanked square.
        rng: source of the noise.

    Raises:
        ValueError: if the name is unknown, the level out of range, or images are of another
            shape or range.
    """
    check_level(name, level)
    if images.ndim not in (3, 4) or images.min(initial=0.0) < 0.0 or images.max(initial=0.0) > 1.0:
        raise ValueError(
            "images must be [N, H, W] or [N, C, H, W] with values in [0, 1], got shape "
            f"{list(images.shape)}"
        )
    return FAULTS[name].change(images, level, rng) if level else images.copy()


def _noise(mode: str, parameter: str, *, clip: bool = True) -> Callable[..., Pictures]:
    """Return noise of a mode of scikit-image, whose strength is a parameter of this name."""

    def add(images: Pictures, level: float, rng: np.random.Generator) -> Pictures:
        from skimage.util import random_noise

        noisy = random_noise(images, mode=mode, rng=rng, clip=clip, **{parameter: level})
        return noisy.astype(np.float32)

    return add


def _centred(images: Pictures, variance: float, rng: np.random.Generator) -> Pictures:
    """Add clipped Gaussian noise, less what clipping does to each pixel in the mean."""
    from scipy.stats import norm
    from skimage.util import random_noise

    noisy = random_noise(images, mode="gaussian", rng=rng, clip=True, var=variance)
    deviation = np.sqrt(variance)
    low, high = -images / deviation, (1.0 - images) / deviation  # in deviations from the pixel
    inside = images * (norm.cdf(high) - norm.cdf(low))
    mean = inside + deviation * (norm.pdf(low) - norm.pdf(high)) + norm.sf(high)
    return (noisy + images - mean).astype(np.float32)


def _blank_centre(images: Pictures, half_width: float, _: np.random.Generator) -> Pictures:
    """Set the central square of side 2 · half_width to 0 (all of the image if it is wider)."""
    blanked = images.copy()
    height, width = images.shape[-2:]
    reach = int(half_width)
    rows = slice(max(height // 2 - reach, 0), height // 2 + reach)
    columns = slice(max(width // 2 - reach, 0), width // 2 + reach)
    blanked[..., rows, columns] = 0.0
    return blanked


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("gaussian", "noise variance (intensity²)", _noise("gaussian", "var")),
        Fault("salt", "salted pixels (fraction)", _noise("salt", "amount"), 1.0),
        Fault("pepper", "peppered pixels (fraction)", _noise("pepper", "amount"), 1.0),
        Fault("salt_pepper", "salted or peppered pixels (fraction)", _noise("s&p", "amount"), 1.0),
        Fault("speckle", "speckle variance (relative)", _noise("speckle", "var")),
        Fault("crop", "half-width of the blanked square (pixels)", _blank_centre),
        Fault("gaussian_unclipped", "noise variance", _noise("gaussian", "var", clip=False)),
        Fault("gaussian_centred", "noise variance", _centred),
    )
}
