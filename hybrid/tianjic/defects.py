"""What may be broken in a chip: cores, bits of weights, packets.

A dead core sends nothing. Bits of weights flip once, after loading, or are stuck at a value; and
numbers get lost on their way, one by one. What is known before loading can be worked around: cores
are left out when a network is placed (`placement.placed`), and a weight with stuck bits becomes the
nearest that its cell can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybrid.checks import require
from hybrid.tianjic.chip import Chip
from hybrid.tianjic.mapping import Place

_BITS = 8


@dataclass(frozen=True, kw_only=True)
class Defects:
    """Defects of one chip, or of several in a row.

    Args:
        dead: places of cores that send nothing.
        flipped: share of the bits of weights that are wrong; cells have 8 bits each.
        stuck: share of the bits of weights that hold one value, whatever is written.
        known: whether stuck bits were known when weights were written.
        lost: share of the numbers that do not arrive where they are sent.
        seed: of where all that is.

    Raises ValueError, naming the field, for values that make no sense.
    """

    dead: frozenset[Place] = frozenset()
    flipped: float = 0.0
    stuck: float = 0.0
    known: bool = False
    lost: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("flipped", "stuck", "lost"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")

    def written(self, weights: Tensor, core: int) -> Tensor:
        """Return what a core has of the weights that were written into it, whole numbers of 8 bits.

        Args:
            weights: any shape.
            core: its number: each has defects of its own.
        """
        if not self.flipped and not self.stuck:
            return weights
        source = np.random.default_rng([self.seed, core])
        held = weights.numpy().astype(np.int8)
        if self.stuck:
            mask, value = _bits(source, self.stuck, held.shape), _bits(source, 0.5, held.shape)
            held = _nearest(held, mask, value) if self.known else _forced(held, mask, value)
        if self.flipped:
            flips = _bits(source, self.flipped, held.shape)
            held = (held.view(np.uint8) ^ flips).view(np.int8)
        return torch.from_numpy(held)


NONE = Defects()


def dead_cores(chip: Chip, chips: int, count: int, seed: int) -> frozenset[Place]:
    """Return so many places of dead cores, drawn from all; a larger count adds to a smaller one.

    Raises:
        ValueError: if there are not so many cores.
    """
    every = [
        Place(number, x, y)
        for number in range(chips)
        for y in range(chip.mesh_height)
        for x in range(chip.mesh_width)
    ]
    if not 0 <= count <= len(every):
        raise ValueError(f"count = {count}: {chips} chip(s) have {len(every)} cores")
    order = np.random.default_rng(seed).permutation(len(every))
    return frozenset(every[i] for i in order[:count])


def _bits(source: np.random.Generator, share: float, shape: Sequence[int]) -> np.ndarray:
    """Return numbers of 8 bits of which each is 1 with a certain probability."""
    drawn = source.random((*shape, _BITS)) < share
    return np.packbits(drawn, axis=-1)[..., 0]


def _forced(held: np.ndarray, mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    return ((held.view(np.uint8) & ~mask) | (value & mask)).view(np.int8)


def _nearest(held: np.ndarray, mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the nearest numbers whose bits under a mask have given values."""
    every = np.arange(-128, 128, dtype=np.int16)
    patterns = every.astype(np.int8).view(np.uint8)
    result, touched = held.copy(), mask != 0
    some, bits, fixed = held[touched].astype(np.int16), mask[touched], (value & mask)[touched]
    found = np.empty(len(some), np.int8)
    for start in range(0, len(some), 4096):
        part = slice(start, start + 4096)
        fits = (patterns[None] & bits[part, None]) == fixed[part, None]
        apart = np.where(fits, np.abs(every[None] - some[part, None]), 1 << 10)
        found[part] = every[apart.argmin(1)]
    result[touched] = found
    return result
