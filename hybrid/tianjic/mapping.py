"""A network on cores: each layer cut into tiles, each core at a place on the mesh.

Rules of a core are in `rules`, how layers are cut in `tiling`, better places in `placement`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.rules import Core, Memory, Numbers, Role, RuleError, Rules, weight_bytes
from hybrid.tianjic.shapes import DenseShape, Shape
from hybrid.tianjic.tiling import convolution_cores, dense_cores


class Place(NamedTuple):
    """Where a core lies."""

    chip: int
    x: int
    y: int


@dataclass(frozen=True)
class Mapping:
    """A network on cores."""

    chip: Chip
    shapes: tuple[Shape, ...]
    cores: tuple[Core, ...]
    places: tuple[Place, ...]

    @property
    def chips(self) -> int:
        """Chips that are needed."""
        return max(place.chip for place in self.places) + 1

    @property
    def needed(self) -> int:
        """Cores that all weights would fill, were they free to lie anywhere: no mapping has fewer.

        What is beyond it, of those that are occupied, goes to edges of tiles, to sums, and to
        products of a local module.
        """
        weights = sum(core.weights for core in self.cores)
        return -(-weights // (self.chip.core_synapses * 8 // self.chip.weight_bits))

    def count(self, layer: str | None = None, role: Role | None = None) -> int:
        """Return the number of cores, of one layer or with one role."""
        return sum(layer in (None, core.layer) and role in (None, core.role) for core in self.cores)

    def roles(self, layer: str) -> dict[Role, list[int]]:
        """Return the cores of a layer by role."""
        own = [(i, core.role) for i, core in enumerate(self.cores) if core.layer == layer]
        return {role: [i for i, has in own if has == role] for role in get_args(Role)}

    def weight_bytes(self) -> Numbers:
        """Return bytes of weights in each core [cores]; sums and products have none."""
        return np.array([weight_bytes(core, self.chip) for core in self.cores])

    def kept_bytes(self) -> Numbers:
        """Return bytes of all that each core keeps [cores]."""
        return self.weight_bytes() + np.array([core.held for core in self.cores])

    def fits_sram(self) -> NDArray[np.bool_]:
        """Return which cores fit the smaller reading of the memory, 22 KB for all [cores].

        The larger one, a byte for each of 256 x 256 synapses beside that, is a design rule.
        """
        return np.asarray(self.kept_bytes() <= self.chip.core_sram)


def map_network(
    shapes: Sequence[Shape], chip: Chip, *, most_chips: int = 1, memory: Memory = "wide"
) -> Mapping:
    """Give each layer its cores, and each core a place, row after row.

    Args:
        shapes: of the layers, in the order of signals.
        chip: what there is.
        most_chips: chips that may be used.
        memory: what of it there is, as published figures contradict each other: "wide", a byte for
            each of 256 x 256 synapses and 22 KB beside; or "narrow", 22 KB for everything.

    Raises:
        RuleError: naming rule and layer, if the network does not fit.
        ValueError: if layers have no or equal names, or one does not take what the other gives.
    """
    _check_chain(shapes)
    if memory not in get_args(Memory):
        raise ValueError(f"memory = {memory!r}: it must be one of {', '.join(get_args(Memory))}")
    rules = Rules(chip, memory)
    cores: list[Core] = []
    for shape in shapes:
        layer = (
            dense_cores(shape, rules)
            if isinstance(shape, DenseShape)
            else convolution_cores(shape, rules)
        )
        for core in layer:
            rules.check(core)
        cores += layer
        if len(cores) > most_chips * chip.cores:
            raise RuleError(
                "cores",
                shape.name,
                f"{len(cores)} cores so far, {most_chips} chip(s) have {most_chips * chip.cores}: "
                "allow more chips, fold convolutions, or make layers smaller",
            )
    # Places follow a line that winds through the mesh, chip after chip.
    width, height = chip.mesh_width, chip.mesh_height
    winding = [(x if y % 2 == 0 else width - 1 - x, y) for y in range(height) for x in range(width)]
    places = (Place(n // chip.cores, *winding[n % chip.cores]) for n in range(len(cores)))
    return Mapping(chip, tuple(shapes), tuple(cores), tuple(places))


def _check_chain(shapes: Sequence[Shape]) -> None:
    names = [shape.name for shape in shapes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers {names}: give at least one, and different names")
    for before, after in pairwise(shapes):
        if before.outputs != after.inputs:
            raise ValueError(
                f"layer {after.name!r} takes {after.inputs} inputs, layer {before.name!r} before "
                f"it gives {before.outputs}"
            )
