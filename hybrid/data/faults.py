"""Faults of a visual input: a blanked centre, and five kinds of pixel noise.

Every fault takes images in [0, 1], [N, H, W], a level on its own axis, and a seeded generator.
Level 0 is the clean image. Noise comes from scikit-image and is clipped to [0, 1], as in the
authors' test scripts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.util import random_noise

Pictures = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """One kind of fault: its name, what its level means, and the largest level that makes sense."""

    name: str
    axis: str  # label of the level axis, with unit
    mode: str | None  # mode of skimage's random_noise; None for the crop
    parameter: str = ""  # name of random_noise's level argument
    highest: float = float("inf")


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("gaussian", "noise variance (intensity²)", "gaussian", "var"),
        Fault("salt", "salted pixels (fraction)", "salt", "amount", 1.0),
        Fault("pepper", "peppered pixels (fraction)", "pepper", "amount", 1.0),
        Fault("salt_pepper", "salted or peppered pixels (fraction)", "s&p", "amount", 1.0),
        Fault("speckle", "speckle variance (relative)", "speckle", "var"),
        Fault("crop", "half-width of the blanked square (pixels)", None),
    )
}


def check_level(name: str, level: float) -> None:
    """Raise ValueError, naming what is allowed, unless `level` is a level of fault `name`."""
    if name not in FAULTS:
        raise ValueError(f"fault {name!r} is unknown: choose one of {', '.join(FAULTS)}")
    fault = FAULTS[name]
    if not 0.0 <= level <= fault.highest:
        limit = "" if fault.highest == float("inf") else f" and <= {fault.highest:g}"
        raise ValueError(f"{name} level {level}: the {fault.axis} must be >= 0{limit}")
    if fault.mode is None and level != int(level):
        raise ValueError(f"{name} level {level}: the half-width is a whole number of pixels")


def corrupt(images: Pictures, name: str, level: float, rng: np.random.Generator) -> Pictures:
    """Return a corrupted copy of images.

    Args:
        images: [N, H, W] in [0, 1].
        name: a key of `FAULTS`.
        level: variance, fraction of pixels, or half-width in pixels of the blanked square.
        rng: source of the noise.

    Raises:
        ValueError: if the name is unknown, the level out of range, or images are not [N, H, W]
            in [0, 1].
    """
    check_level(name, level)
    fault = FAULTS[name]
    if images.ndim != 3 or images.min(initial=0.0) < 0.0 or images.max(initial=0.0) > 1.0:
        raise ValueError(
            f"images must be [N, H, W] with values in [0, 1], got shape {list(images.shape)}"
        )
    if level == 0.0:
        return images.copy()
    if fault.mode is None:
        return _blank_centre(images, level)
    noisy = random_noise(images, mode=fault.mode, rng=rng, clip=True, **{fault.parameter: level})
    return noisy.astype(np.float32)


def _blank_centre(images: Pictures, half_width: float) -> Pictures:
    """Set the central square of side 2 · half_width to 0 (all of the image if it is wider)."""
    blanked = images.copy()
    height, width = images.shape[1:]
    reach = int(half_width)
    rows = slice(max(height // 2 - reach, 0), height // 2 + reach)
    columns = slice(max(width // 2 - reach, 0), width // 2 + reach)
    blanked[:, rows, columns] = 0.0
    return blanked
