"""Layers onto cores: design rules, tiles, places on the mesh.

A core takes 256 inputs to 256 neurons. What is larger is cut into tiles: of the outputs freely; of
the inputs with a stage that adds up partial sums. How the laboratory's compiler maps is not
published: this is a model of ours. It assumes that a core can add partial sums of its neurons from
any number of tiles, one after the other, and that a core's memory of inputs holds those of earlier
steps (published for spikes: "historical spikes").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, Shape, pairs_along

Role = Literal["synapses", "carried", "sums", "copies", "coincidences", "scores", "products"]
ROLES: tuple[Role, ...] = (
    "synapses",  # weights and soma
    "carried",  # weights that training's trace became
    "sums",  # adds partial sums of a layer with more inputs than a core
    "copies",  # the same somas once more, which send potentials
    "coincidences",  # products of an input now and then, weighted by lag
    "scores",  # adds up a lag's coincidences
    "products",  # scores times earlier potentials
)


class RuleError(ValueError):
    """A network that the chip cannot hold: which rule, which layer, what to do."""

    def __init__(self, rule: str, layer: str, problem: str) -> None:
        super().__init__(f"rule {rule!r}, layer {layer!r}: {problem}")
        self.rule, self.layer = rule, layer


class Core(NamedTuple):
    """What one core does.

    A folded convolution has several passes in a step: axons and neurons are those of all of them,
    `fan_in`, `fan_out` and `operations` the most of one.
    """

    layer: str
    role: Role
    axons: NDArray[np.int64]  # which inputs of the layer come in; of products: which lags
    neurons: NDArray[np.int64]  # which outputs of the layer go out; of one score for all: 0
    operations: int  # of one phase, at most: synapses met, sums added
    weights: int  # kept in it
    fan_in: int
    fan_out: int
    passes: int = 1  # phases of each step in which it computes
    lag: int | None = None


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
        return -(-len(self.cores) // self.chip.cores)

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

    def weight_bytes(self) -> NDArray[np.int64]:
        """Return bytes of weights in each core [cores]; sums and products have none."""
        return -(-np.array([core.weights for core in self.cores]) * self.chip.weight_bits // 8)

    def fits_sram(self) -> NDArray[np.bool_]:
        """Return which cores' weights fit the smaller reading of the memory (22 KB) [cores].

        The larger one, a byte for each of 256 x 256 synapses, is a design rule.
        """
        return np.asarray(self.weight_bytes() <= self.chip.core_sram)


def map_network(shapes: Sequence[Shape], chip: Chip, *, most_chips: int = 1) -> Mapping:
    """Give each layer its cores, and each core a place.

    Args:
        shapes: of the layers, in the order of signals.
        chip: what there is.
        most_chips: chips that may be used.

    Raises:
        RuleError: naming rule and layer, if the network does not fit.
        ValueError: if layers have no or equal names.
    """
    names = [shape.name for shape in shapes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers {names}: give at least one, and different names")
    cores: list[Core] = []
    for shape in shapes:
        own = _dense(shape, chip) if isinstance(shape, DenseShape) else _convolution(shape, chip)
        for core in own:
            _check(core, chip)
        cores += own
        if len(cores) > most_chips * chip.cores:
            raise RuleError(
                "cores",
                shape.name,
                f"{len(cores)} cores so far, {most_chips} chip(s) have {most_chips * chip.cores}: "
                "allow more chips, fold convolutions, or make layers smaller",
            )
    return Mapping(chip, tuple(shapes), tuple(cores), tuple(_places(len(cores), chip)))


def tiles(count: int, size: int) -> list[NDArray[np.int64]]:
    """Cut 0 … count - 1 into as few and as equal runs of at most `size` as possible."""
    return list(np.array_split(np.arange(count), -(-count // size)))


def _check(core: Core, chip: Chip) -> None:
    """Raise RuleError for a core that asks for more than there is in one."""
    for rule, asked, most, unit in (
        ("fan-in", core.fan_in, chip.fan_in, "inputs"),
        ("fan-out", core.fan_out, chip.fan_out, "neurons"),
        ("synapses", core.weights, chip.core_synapses * 8 // chip.weight_bits, "weights"),
        ("phase", busy_clocks(core, chip), chip.phase_clocks, "clocks of a phase"),
    ):
        if asked > most:
            raise RuleError(rule, core.layer, f"{core.role}: {asked} {unit}, a core has {most}")


def busy_clocks(core: Core, chip: Chip) -> int:
    """Return the clocks that a core computes for in a phase: its synapses, then its neurons."""
    return -(-core.operations // chip.macs_per_clock) + core.fan_out


def _dense(shape: DenseShape, chip: Chip) -> list[Core]:
    rows, columns = tiles(shape.inputs, chip.fan_in), tiles(shape.outputs, chip.fan_out)

    def matrix(role: Role) -> list[Core]:
        return [_weighted(shape.name, role, a, n) for a, n in product(rows, columns)]

    def somas(role: Role) -> list[Core]:
        """The stage that has whole potentials."""
        terms = len(rows) * (1 + shape.carried) + (shape.local is not None)
        return [_adding(shape.name, role, np.concatenate(rows), n, terms) for n in columns]

    split = len(rows) > 1 or shape.carried
    cores = matrix("synapses")
    if shape.carried:
        cores += matrix("carried")
    if split:
        cores += somas("sums")
    if shape.local is not None:
        cores += somas("copies") if split else matrix("copies")
        cores += local_cores(shape, chip)
    return cores


Numbers = NDArray[np.int64]


def _weighted(
    name: str, role: Role, axons: Numbers, neurons: Numbers, lag: int | None = None
) -> Core:
    """Return a core that takes all of some inputs to all of some neurons."""
    count = len(axons) * len(neurons)
    return Core(name, role, axons, neurons, count, count, len(axons), len(neurons), lag=lag)


def _adding(
    name: str, role: Role, axons: Numbers, neurons: Numbers, terms: int, lag: int | None = None
) -> Core:
    """Return a core that adds `terms` numbers for each of its neurons, one after the other."""
    return Core(name, role, axons, neurons, terms * len(neurons), 0, 1, len(neurons), lag=lag)


def local_cores(shape: DenseShape, chip: Chip) -> list[Core]:
    """Return the cores of a local module in its history form, synapses never rewritten.

    For each lag: products of inputs now and `lag` + 1 steps ago, weighted by decay^lag · rate
    (static weights) and added up to one score; the score times the potential of that time. With a
    factor per synapse, the weights of a lag are a whole matrix, and scores belong to neurons.
    A model of ours of what vector operations on cores in ANN mode could do.
    """
    assert shape.local is not None
    rows, columns = tiles(shape.inputs, chip.fan_in), tiles(shape.outputs, chip.fan_out)
    scored = columns if shape.local.per_synapse else [np.zeros(1, np.int64)]
    cores: list[Core] = []
    for lag in range(shape.local.lags):
        cores += [
            _weighted(shape.name, "coincidences", a, n, lag) for a, n in product(rows, scored)
        ]
        if len(rows) > 1:
            everything = np.arange(shape.inputs)
            cores += [_adding(shape.name, "scores", everything, n, len(rows), lag) for n in scored]
    lags = np.arange(shape.local.lags)
    for n in columns:
        cores.append(
            Core(shape.name, "products", lags, n, len(lags) * len(n), 0, len(lags), len(n))
        )
    return cores


def _convolution(shape: ConvolutionShape, chip: Chip) -> list[Core]:
    """Cut a convolution into blocks of positions, channels in and channels out, fewest cores."""
    best: list[Core] | None = None
    channels = shape.image[0]
    down, across = shape.positions
    for block in product(_sides(down), _sides(across)):
        seen = _patch(block, shape)
        within = min(channels, chip.fan_in // (seen[0] * seen[1]))
        out = min(shape.channels, chip.fan_out // (block[0] * block[1]))
        if not within or not out:
            continue
        parts = -(-channels // within)
        count = -(-down // block[0]) * -(-across // block[1]) * -(-shape.channels // out)
        count *= parts + (parts > 1)
        if best is None or count < len(best):
            best = _blocks(shape, block, within, out)
    if best is None:
        raise RuleError("fan-in", shape.name, f"a kernel of 3 x 3 needs 9 of {chip.fan_in} inputs")
    return _folded(best, shape) if shape.fold == "folded" else best


def _sides(positions: int) -> list[int]:
    """Return sides of blocks that are worth trying."""
    return sorted({-(-positions // parts) for parts in range(1, positions + 1)})


def _patch(block: tuple[int, int], shape: ConvolutionShape) -> tuple[int, int]:
    """Return the largest number of pixels that a block of positions sees, down and across."""
    _, height, width = shape.image
    down, across = ((side - 1) * shape.stride + 3 for side in block)
    return min(down, height), min(across, width)


def _blocks(shape: ConvolutionShape, block: tuple[int, int], within: int, out: int) -> list[Core]:
    channels, height, width = shape.image
    down, across = shape.positions
    pixels = np.arange(shape.inputs).reshape(shape.image)
    outputs = np.arange(shape.outputs).reshape(shape.channels, down, across)
    cores = []
    parts = tiles(channels, within)
    for top, left in product(range(0, down, block[0]), range(0, across, block[1])):
        bottom, right = min(top + block[0], down), min(left + block[1], across)
        rows = _seen(top, bottom, shape.stride, height)
        columns = _seen(left, right, shape.stride, width)
        pairs = pairs_along(top, bottom, shape.stride, height) * pairs_along(
            left, right, shape.stride, width
        )
        for chosen in tiles(shape.channels, out):
            neurons = outputs[chosen, top:bottom, left:right].ravel()
            for part in parts:
                axons = pixels[part][:, rows, columns].ravel()
                met = pairs * len(part) * len(chosen)
                sizes = len(axons), len(neurons)
                cores.append(Core(shape.name, "synapses", axons, neurons, met, met, *sizes))
            if len(parts) > 1:
                everything = pixels[:, rows, columns].ravel()
                cores.append(_adding(shape.name, "sums", everything, neurons, len(parts)))
    return cores


def _seen(first: int, end: int, stride: int, side: int) -> slice:
    return slice(max(first * stride - 1, 0), min((end - 1) * stride + 2, side))


def _folded(cores: list[Core], shape: ConvolutionShape) -> list[Core]:
    """Let the cores of one row of blocks work for all rows, one after the other."""
    down, across = shape.positions
    tops = [int(core.neurons[0]) % (down * across) // across for core in cores]
    each = tops.count(tops[0])  # cores of a row of blocks
    return [_merged(cores[i::each]) for i in range(each)]


def _merged(passes: list[Core]) -> Core:
    """Return one core for what several do, each in a phase of its own, with the same weights."""
    return passes[0]._replace(
        axons=np.unique(np.concatenate([core.axons for core in passes])),
        neurons=np.concatenate([core.neurons for core in passes]),
        operations=max(core.operations for core in passes),
        weights=max(core.weights for core in passes),
        fan_in=max(core.fan_in for core in passes),
        fan_out=max(core.fan_out for core in passes),
        passes=len(passes),
    )


def _places(count: int, chip: Chip) -> list[Place]:
    """Return places along a line that winds through the mesh, chip after chip."""
    width, height = chip.mesh_width, chip.mesh_height
    winding = [(x if y % 2 == 0 else width - 1 - x, y) for y in range(height) for x in range(width)]
    return [Place(n // chip.cores, *winding[n % chip.cores]) for n in range(count)]
