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
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, Shape

Numbers = NDArray[np.int64]
Role = Literal[
    "synapses",  # weights and soma
    "carried",  # weights that training's trace became
    "sums",  # adds partial sums of a layer with more inputs than a core
    "copies",  # the same somas once more, which send potentials
    "coincidences",  # products of an input now and then, weighted by lag
    "scores",  # adds up a lag's coincidences
    "products",  # scores times earlier potentials
]


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
    axons: Numbers  # which inputs of the layer come in; of products: which lags
    neurons: Numbers  # which outputs of the layer go out; of one score for all: 0
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

    def weight_bytes(self) -> Numbers:
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
        layer = _dense(shape, chip) if isinstance(shape, DenseShape) else _convolution(shape, chip)
        for core in layer:
            _check(core, chip)
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


def tiles(count: int, size: int) -> list[Numbers]:
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


def _core(
    layer: str, role: Role, axons: Numbers, neurons: Numbers, *, weights: int = 0, terms: int = 0
) -> Core:
    """Return a core whose inputs meet weights, or that adds terms one by one for each neuron."""
    operations, fan_in = weights + terms * len(neurons), len(axons) if weights else 1
    return Core(layer, role, axons, neurons, operations, weights, fan_in, len(neurons))


def _dense(shape: DenseShape, chip: Chip) -> list[Core]:
    """Cut a layer into tiles; add what its local module takes in its history form.

    For each lag: products of inputs now and `lag` + 1 steps ago, weighted by decay^lag · rate
    (static weights, never rewritten) and added up to one score; the score times the potential of
    that time. With a factor per synapse, the weights of a lag are a whole matrix, and scores belong
    to neurons. A model of ours of what vector operations on cores in ANN mode could do.
    """
    local, inputs = shape.local, np.arange(shape.inputs)
    rows, columns = tiles(shape.inputs, chip.fan_in), tiles(shape.outputs, chip.fan_out)

    def matrix(role: Role, outputs: list[Numbers]) -> list[Core]:
        tiled = product(rows, outputs)
        return [_core(shape.name, role, a, n, weights=len(a) * len(n)) for a, n in tiled]

    def sums(role: Role, outputs: list[Numbers], terms: int) -> list[Core]:
        return [_core(shape.name, role, inputs, n, terms=terms) for n in outputs]

    split = len(rows) > 1 or shape.carried
    terms = len(rows) * (1 + shape.carried) + (local is not None)  # of a whole potential
    cores = matrix("synapses", columns)
    if shape.carried:
        cores += matrix("carried", columns)
    if split:
        cores += sums("sums", columns, terms)
    if local is None:
        return cores
    cores += sums("copies", columns, terms) if split else matrix("copies", columns)
    scored = columns if local.per_synapse else [np.zeros(1, np.int64)]
    for lag in range(local.lags):
        scores = sums("scores", scored, len(rows)) if len(rows) > 1 else []
        cores += [core._replace(lag=lag) for core in matrix("coincidences", scored) + scores]
    lags = np.arange(local.lags)
    products = [_core(shape.name, "products", lags, n, terms=len(lags)) for n in columns]
    return cores + [core._replace(fan_in=len(lags)) for core in products]


def _convolution(shape: ConvolutionShape, chip: Chip) -> list[Core]:
    """Cut a convolution into blocks of positions, channels in and channels out, fewest cores."""
    channels, height, width = shape.image
    down, across = shape.positions
    choices = []
    for block in product(_sides(down), _sides(across)):
        seen_down, seen_across = ((side - 1) * shape.stride + 3 for side in block)
        within = min(channels, chip.fan_in // (min(seen_down, height) * min(seen_across, width)))
        out = min(shape.channels, chip.fan_out // (block[0] * block[1]))
        if within and out:
            parts = -(-channels // within)
            blocks = -(-down // block[0]) * -(-across // block[1]) * -(-shape.channels // out)
            choices.append((blocks * (parts + (parts > 1)), block, within, out))
    if not choices:
        raise RuleError("fan-in", shape.name, f"a kernel of 3 x 3 needs 9 of {chip.fan_in} inputs")
    _, block, within, out = min(choices, key=lambda choice: choice[0])
    cores = _blocks(shape, block, within, out)
    if shape.fold == "unfolded":
        return cores
    # The cores of one row of blocks work for all rows, one after the other.
    each = len(cores) // -(-down // block[0])
    return [_merged(cores[i::each]) for i in range(each)]


def _sides(positions: int) -> list[int]:
    """Return sides of blocks that are worth trying."""
    return sorted({-(-positions // parts) for parts in range(1, positions + 1)})


def _blocks(shape: ConvolutionShape, block: tuple[int, int], within: int, out: int) -> list[Core]:
    """Return the cores of a convolution, `within` channels in and `out` channels out of each."""
    channels, height, width = shape.image
    pixels = np.arange(shape.inputs).reshape(shape.image)
    outputs = np.arange(shape.outputs).reshape(shape.channels, *shape.positions)
    parts = tiles(channels, within)
    cores = []
    for down, across in product(*map(_runs, shape.positions, block)):
        seen = shape.seen(down, height), shape.seen(across, width)
        pairs = shape.pairs(down, height) * shape.pairs(across, width)
        for chosen in tiles(shape.channels, out):
            neurons = outputs[chosen, down, across].ravel()
            for part in parts:
                met = pairs * len(part) * len(chosen)
                axons = pixels[part, *seen].ravel()
                cores.append(_core(shape.name, "synapses", axons, neurons, weights=met))
            if len(parts) > 1:
                everything = pixels[:, *seen].ravel()
                cores.append(_core(shape.name, "sums", everything, neurons, terms=len(parts)))
    return cores


def _runs(positions: int, side: int) -> list[slice]:
    """Cut positions along a side into runs of `side`, the last one shorter if need be."""
    return [slice(n, min(n + side, positions)) for n in range(0, positions, side)]


def _merged(passes: list[Core]) -> Core:
    """Return one core for what several do, each in a phase of its own, with the same weights."""
    counts = ("operations", "weights", "fan_in", "fan_out")
    most = {name: max(getattr(core, name) for core in passes) for name in counts}
    axons = np.unique(np.concatenate([core.axons for core in passes]))
    neurons = np.concatenate([core.neurons for core in passes])
    return passes[0]._replace(axons=axons, neurons=neurons, passes=len(passes), **most)
