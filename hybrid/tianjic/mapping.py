"""Layers onto cores: design rules, tiles, memory, places on the mesh.

A core takes 256 numbers to 256 neurons. What is larger is cut into tiles: of the outputs freely; of
the inputs with cores that add up partial sums, which take no more than 256 numbers either. All that
a core keeps has to fit its memory: weights, inputs that wait or are remembered, sums, potentials,
tables. How the laboratory's compiler maps is not published: this is a model of ours, made of the
operations in `primitives`. It assumes that a core's memory of inputs holds those of earlier steps
(published for spikes: "historical spikes").
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape, Shape

Numbers = NDArray[np.int64]
Role = Literal[
    "synapses",  # weights, and a soma unless sums have it
    "carried",  # weights that training's trace became
    "sums",  # adds what a neuron's potential is made of; soma
    "copies",  # the same somas once more, which send potentials
    "coincidences",  # products of an input now and then, weighted
    "scores",  # adds up coincidences
    "products",  # scores times earlier potentials
]
Memory = Literal["wide", "narrow"]
_TABLE = 256  # bytes of a table of 8 bits to 8 bits
_STEPS = 16  # of an inference, at most, for which tables are kept
_COLUMN = np.zeros(0, np.int64)


class RuleError(ValueError):
    """A network that the chip cannot hold: which rule, which layer, what to do."""

    def __init__(self, rule: str, layer: str, problem: str) -> None:
        super().__init__(f"rule {rule!r}, layer {layer!r}: {problem}")
        self.rule, self.layer = rule, layer


class Core(NamedTuple):
    """What one core does.

    A folded convolution does the same several times in a step: axons and neurons are those of all
    of them, `operations`, `numbers` and `sends` the most of one.
    """

    layer: str
    role: Role
    axons: Numbers  # which inputs of the layer come in; of sums all, of products lags
    neurons: Numbers  # which outputs of the layer go out; of scores for all neurons: lags
    primitives: tuple[str, ...]  # what it does in each phase of a step, one after the other
    operations: int  # of one phase, at most: synapses met, sums added
    weights: int  # kept in it
    held: int  # bytes of all else that it keeps
    numbers: int  # that come in for one phase
    sends: int  # numbers that go out of one phase
    folds: int = 1  # how often it does that in a step
    lag: int | None = None  # whose coincidences, scores; None for all

    @property
    def passes(self) -> int:
        """Phases of each step in which it computes."""
        return self.folds * len(self.primitives)


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
    rules = _Rules(chip, memory)
    cores: list[Core] = []
    for shape in shapes:
        layer = (
            _dense(shape, rules) if isinstance(shape, DenseShape) else _convolution(shape, rules)
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


def tiles(count: int, size: int) -> list[Numbers]:
    """Cut 0 … count - 1 into as few and as equal runs of at most `size` as possible."""
    return list(np.array_split(np.arange(count), -(-count // size)))


def busy_clocks(core: Core, chip: Chip) -> int:
    """Return the clocks that a core computes for in a phase: its synapses, then its neurons."""
    return -(-core.operations // chip.macs_per_clock) + core.sends


def weight_bytes(core: Core, chip: Chip) -> int:
    """Return bytes of a core's weights."""
    return -(-core.weights * chip.weight_bits // 8)


class _Rules(NamedTuple):
    """What a core can do and hold."""

    chip: Chip
    memory: Memory

    def asked(self, core: Core) -> list[tuple[str, int, int, str]]:
        """Return for each rule: its name, what a core asks for, what there is, of what."""
        chip, weights = self.chip, weight_bytes(core, self.chip)
        found = [
            ("fan-in", core.numbers, chip.fan_in, "numbers that come in"),
            ("fan-out", core.sends, chip.fan_out, "neurons"),
            ("phase", busy_clocks(core, chip), chip.phase_clocks, "clocks of a phase"),
        ]
        if self.memory == "narrow":
            return [*found, ("memory", weights + core.held, chip.core_sram, "bytes")]
        return [
            *found,
            ("synapses", weights, chip.core_synapses, "bytes of weights"),
            ("memory", core.held, chip.core_sram, "bytes beside weights"),
        ]

    def fits(self, core: Core) -> bool:
        """Return whether a core keeps all rules."""
        return all(asked <= most for _, asked, most, _ in self.asked(core))

    def check(self, core: Core) -> None:
        """Raise RuleError for a core that asks for more than there is in one."""
        for rule, asked, most, unit in self.asked(core):
            if asked > most:
                raise RuleError(rule, core.layer, f"{core.role}: {asked} {unit}, a core has {most}")

    def filled(self, count: int, most: int, made: Callable[[Numbers], Core]) -> list[Core]:
        """Return cores for so many neurons, at most `most` to a core, and fewer if need be."""
        most = min(most, self.chip.fan_out, count)
        while most > 1 and not self.fits(made(np.arange(most))):
            most = -(-most // 2)
        return [made(neurons) for neurons in tiles(count, most)]

    def of_number(self, graded: bool) -> float:
        """Return bytes of an input: 8 bits, or a spike."""
        return 1.0 if graded else 1 / 8

    @property
    def of_sum(self) -> int:
        """Bytes of a partial sum."""
        return -(-self.chip.partial_sum_bits // 8)

    @property
    def of_soma(self) -> int:
        """Bytes of a soma: its potential, its bias, and what its threshold has risen by."""
        return 3 * -(-self.chip.potential_bits // 8)

    def cuts(
        self, inputs: int, outputs: int, made: Callable[[Numbers, Numbers], Core]
    ) -> tuple[list[Numbers], list[Numbers]]:
        """Return tiles of inputs and outputs, as few as fit; of equally few, few of inputs.

        Raises:
            RuleError: see `check`; of what a core with one input and one output asks for.
        """
        self.check(made(np.arange(1), np.arange(1)))
        least = -(-inputs // self.chip.fan_in)
        choices = []
        for count in sorted({*range(least, min(inputs, 16 * least) + 1), inputs}):
            rows = tiles(inputs, -(-inputs // count))
            low, high = 1, min(outputs, self.chip.fan_out)
            if not self.fits(made(rows[0], np.arange(low))):
                continue
            while low < high:  # the widest tile of outputs that fits
                middle = (low + high + 1) // 2
                fits = self.fits(made(rows[0], np.arange(middle)))
                low, high = (middle, high) if fits else (low, middle - 1)
            choices.append((len(rows) * -(-outputs // low), len(rows), low))
        _, count, width = min(choices)
        return tiles(inputs, -(-inputs // count)), tiles(outputs, width)


def _dense(shape: DenseShape, rules: _Rules) -> list[Core]:
    """Cut a layer into tiles; add what its local module takes in its history form.

    For each input and lag: the product of that input now and `lag` + 1 steps ago, weighted by a
    rate (static, never rewritten); added up to one score, which decays with its lag; the score
    times the potential of that time. With a factor per synapse, a lag's weights are a whole matrix,
    and scores belong to neurons.
    """
    local, each, add = shape.local, rules.of_number(shape.graded), rules.of_sum
    # With sums of their own, synapses only weigh. Their inputs wait until a local module is done.
    waits = 0 if local is None else -(-_LOCAL_WAY // local.phases_per_step)

    def matrix(role: Role, a: Numbers, n: Numbers, *, soma: bool) -> Core:
        held = (2 + waits) * len(a) * each + len(n) * (add + soma * rules.of_soma)
        work = "P04, P08" if soma else "P04"
        if role == "carried":  # what fades is looked up as it arrives, in a table for each step
            work, held = "P04, P07", held + _STEPS * _TABLE
        met = len(a) * len(n)
        return Core(shape.name, role, a, n, (work,), met, met, _whole(held), len(a), len(n))

    tall = shape.inputs > rules.chip.fan_in
    divided = tall or shape.carried or local is not None
    rows, columns = rules.cuts(
        shape.inputs,
        shape.outputs,
        lambda a, n: matrix("carried" if shape.carried else "synapses", a, n, soma=not divided),
    )
    divided = divided or len(rows) > 1
    cores = [matrix("synapses", a, n, soma=not divided) for a, n in product(rows, columns)]
    if not divided:
        return cores
    if shape.carried:
        cores += [matrix("carried", a, n, soma=False) for a, n in product(rows, columns)]
    terms = len(rows) * (1 + shape.carried) + (local is not None)  # of a potential
    cores += _sums(shape, "sums", terms, rules)
    if local is None:
        return cores
    return [*cores, *_sums(shape, "copies", terms, rules), *_local(shape, local, rules)]


_LOCAL_WAY = 5  # phases that a local current takes longer to sums than that of synapses, at most


def _whole(held: float) -> int:
    return int(-(-held // 1))


def _sums(shape: DenseShape, role: Role, terms: int, rules: _Rules) -> list[Core]:
    """Return the cores that add up so many terms of each potential, and have the somas."""
    most, keep = rules.chip.fan_in // terms, rules.of_sum + rules.of_soma
    if most < 1:
        raise RuleError(
            "fan-in",
            shape.name,
            f"{role}: {terms} partial sums of a neuron, a core takes "
            f"{rules.chip.fan_in}: make layers smaller",
        )
    work: tuple[str, ...] = ("P02, P08",)
    if role == "copies":  # what the local rule makes of a potential: less its threshold, a table
        hosted = shape.local is not None and shape.local.hosted
        work, keep = (*work, "P02, host" if hosted else "P02, P07"), keep + rules.of_sum + 1

    def adding(neurons: Numbers) -> Core:
        count, axons = len(neurons), np.arange(shape.inputs)
        held = 2 * terms * count * rules.of_sum + count * keep + _TABLE * (role == "copies")
        sizes = terms * count, 0, held, terms * count, count
        return Core(shape.name, role, axons, neurons, work, *sizes)

    return rules.filled(shape.outputs, most, adding)


def _local(shape: DenseShape, local: LocalShape, rules: _Rules) -> list[Core]:
    """Return the cores of a local module."""
    chip, name, add = rules.chip, shape.name, rules.of_sum
    each, lags = rules.of_number(shape.graded), np.arange(local.lags)
    remembered = local.lags + local.delay + 2

    def coincidences(a: Numbers, n: Numbers, lag: int | None) -> Core:
        own = len(lags) if lag is None else 1  # lags that it works for
        met = len(a) * (own if lag is None else len(n))
        weights = len(a) * (1 if lag is None else len(n))
        held = _whole(remembered * len(a) * each + own * len(a) + len(n) * add)
        work = ("P03, P06", "P41" if lag is None else "P04, P06")
        sizes = max(met, own * len(a)), weights, held, len(a), len(n)
        return Core(name, "coincidences", a, n, work, *sizes, lag=lag)

    def scores(n: Numbers, terms: int, lag: int | None) -> Core:
        work = ("P02, P06", "P03, P06") if lag is None else ("P02, P06",)
        count = len(n)
        held = 2 * terms * count * add + 2 * count
        sizes = terms * count, 0, held, terms * count, count
        return Core(name, "scores", _COLUMN, n, work, *sizes, lag=lag)

    def products(n: Numbers) -> Core:
        count, own = len(n), len(lags) * (len(n) if local.per_synapse else 1)
        met = len(lags) * local.times * count
        kept = (remembered + local.times * len(lags)) * count  # potentials of 8 bits
        held = kept + 2 * own + count * add
        work = ("P03", "P02") if local.per_synapse else ("P04",)
        return Core(name, "products", lags, n, work, met, 0, held, own + count, count)

    if local.per_synapse:
        rows, columns = rules.cuts(shape.inputs, shape.outputs, lambda a, n: coincidences(a, n, 0))
        wide = max(1, chip.fan_in // len(rows))
        scored = tiles(shape.outputs, min(wide, chip.fan_out))
        most = chip.fan_in // (len(lags) + 1)
    else:
        rows, columns = tiles(shape.inputs, chip.fan_in), [lags]
        while not rules.fits(coincidences(rows[0], lags, None)) and len(rows[0]) > 1:
            rows = tiles(shape.inputs, -(-len(rows[0]) // 2))
        scored = tiles(len(lags), max(1, chip.fan_in // len(rows)))
        most = chip.fan_in - len(lags)
    if most < 1:
        raise RuleError(
            "fan-in",
            name,
            f"products: {len(lags)} lags and a potential, a core takes "
            f"{chip.fan_in} numbers: remember fewer lags",
        )
    cores = []
    for lag in lags.tolist() if local.per_synapse else [None]:
        cores += [coincidences(a, n, lag) for a, n in product(rows, columns)]
        if lag is None or len(rows) > 1:
            cores += [scores(n, len(rows), lag) for n in scored]
    return [*cores, *rules.filled(shape.outputs, most, products)]


def _convolution(shape: ConvolutionShape, rules: _Rules) -> list[Core]:
    """Cut a convolution into blocks of positions, channels in and channels out, fewest cores."""
    chip, (channels, height, width) = rules.chip, shape.image
    down, across = shape.positions
    choices = []
    for block in product(_sides(down), _sides(across)):
        seen = [(side - 1) * shape.stride + shape.kernel for side in block]
        pixels, positions = min(seen[0], height) * min(seen[1], width), block[0] * block[1]
        for within, out in product(
            _halves(min(channels, chip.fan_in // pixels)),
            _halves(min(shape.channels, chip.fan_out // positions)),
        ):
            parts = -(-channels // within)
            each = shape.kernel**2 if shape.fold == "folded" else min(pixels, shape.kernel**2)
            met = positions * each * within * out
            axons, neurons = np.arange(pixels * within), np.arange(positions * out)
            core = _block(shape, rules, axons, neurons, met, parts)
            if shape.fold == "folded":  # it keeps what all rows of its columns see
                core = core._replace(held=core.held + 2 * within * min(seen[1], width) * height)
            if not rules.fits(core) or parts > chip.fan_in:
                continue
            adding = -(-positions * out // (chip.fan_in // parts)) if parts > 1 else 0
            blocks = -(-down // block[0]) * -(-across // block[1]) * -(-shape.channels // out)
            choices.append((blocks * (parts + adding), parts, block, within, out))
    if not choices:
        raise RuleError(
            "fan-in",
            shape.name,
            f"a kernel of {shape.kernel} x {shape.kernel} needs {shape.kernel**2} of "
            f"{chip.fan_in} inputs, or more memory than there is",
        )
    *_, block, within, out = min(choices)
    cores = _blocks(shape, rules, block, within, out)
    if shape.fold == "unfolded":
        return cores
    # The cores of one row of blocks work for all rows, one after the other.
    each, left = divmod(len(cores), -(-down // block[0]))
    assert not left, "rows of blocks have the same cores"
    return [_merged(cores[i::each]) for i in range(each)]


def _sides(positions: int) -> list[int]:
    """Return sides of blocks that are worth trying."""
    return sorted({-(-positions // parts) for parts in range(1, positions + 1)})


def _halves(most: int) -> Iterable[int]:
    """Yield a number, its half, and so on down to 1; nothing for 0."""
    while most:
        yield most
        most //= 2


def _block(
    shape: ConvolutionShape, rules: _Rules, axons: Numbers, neurons: Numbers, met: int, parts: int
) -> Core:
    """Return a core that weighs; it has somas if it sees all channels."""
    held = _whole(2 * len(axons) * rules.of_number(shape.graded) + 2 * len(neurons) * rules.of_sum)
    held += _TABLE * (shape.table and parts == 1)
    work = (f"P04, {_activation(shape)}" if parts == 1 else "P04",)
    sizes = met, met, held, len(axons), len(neurons)
    return Core(shape.name, "synapses", axons, neurons, work, *sizes)


def _blocks(
    shape: ConvolutionShape, rules: _Rules, block: tuple[int, int], within: int, out: int
) -> list[Core]:
    """Return the cores of a convolution, `within` channels in and `out` channels out of each."""
    channels, height, width = shape.image
    pixels = np.arange(shape.inputs).reshape(shape.image)
    outputs = np.arange(shape.outputs).reshape(shape.channels, *shape.positions)
    parts = tiles(channels, within)
    most = rules.chip.fan_in // len(parts)
    cores = []
    for down, across in product(*map(_runs, shape.positions, block)):
        seen = shape.seen(down, height), shape.seen(across, width)
        pairs = shape.pairs(down, height) * shape.pairs(across, width)
        for chosen in tiles(shape.channels, out):
            neurons = outputs[chosen, down, across].ravel()
            for part in parts:
                met = pairs * len(part) * len(chosen)
                if shape.fold == "folded":  # rows of blocks share all weights that any of them has
                    met = max(met, len(neurons) * shape.kernel**2 * len(part))
                cores.append(
                    _block(shape, rules, pixels[part, *seen].ravel(), neurons, met, len(parts))
                )
            if len(parts) < 2:
                continue
            everything = pixels[:, *seen].ravel()
            # As many as the largest block needs, so that all rows of blocks have the same cores.
            for own in np.array_split(neurons, -(-block[0] * block[1] * out // most)):
                if not len(own) and shape.fold == "unfolded":
                    continue
                taken = len(parts) * len(own)
                held = 2 * (taken + len(own)) * rules.of_sum + _TABLE * shape.table
                work = (f"P02, {_activation(shape)}",)
                cores.append(
                    Core(
                        *(shape.name, "sums", everything, own, work, taken, 0),
                        *(held, taken, len(own)),
                    )
                )
    return cores


def _activation(shape: ConvolutionShape) -> str:
    """Return the operation that makes a convolution's sums activations."""
    return "P07" if shape.table else "P05"


def _runs(positions: int, side: int) -> list[slice]:
    """Cut positions along a side into runs of `side`, the last one shorter if need be."""
    return [slice(n, min(n + side, positions)) for n in range(0, positions, side)]


def _merged(passes: list[Core]) -> Core:
    """Return one core for what several do, each in a phase of its own, with the same weights."""
    counts = ("operations", "weights", "held", "numbers", "sends")
    most = {name: max(getattr(core, name) for core in passes) for name in counts}
    axons = np.unique(np.concatenate([core.axons for core in passes]))
    neurons = np.concatenate([core.neurons for core in passes])
    if most["weights"]:  # inputs of all passes may wait in the core; partial sums come one by one
        most["held"] += 2 * (len(axons) - max(len(core.axons) for core in passes))
    return passes[0]._replace(axons=axons, neurons=neurons, folds=len(passes), **most)
