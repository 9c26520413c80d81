"""Cutting layers into tiles, each of which fits a core.

Outputs are cut freely; inputs with cores that add up partial sums, which take no more than 256
numbers either. How the laboratory's compiler maps is not published: this is a model of ours, made
of the operations in `primitives`. It assumes that a core's memory of inputs holds those of earlier
steps (published for spikes: "historical spikes").
"""

from collections.abc import Iterable
from itertools import product

import numpy as np

from hybrid.tianjic.rules import Core, Numbers, Role, RuleError, Rules, tiles
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape

_TABLE = 256  # bytes of a table of 8 bits to 8 bits
_STEPS = 16  # of an inference, at most, for which tables are kept
_COLUMN = np.zeros(0, np.int64)


def dense_cores(shape: DenseShape, rules: Rules) -> list[Core]:
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
    divided = tall or shape.carried or shape.recurrent or shape.hosted or local is not None
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
    back: list[Numbers] = []
    if shape.recurrent:
        back, wide = rules.cuts(
            shape.outputs, shape.outputs, lambda a, n: matrix("recurrent", a, n, soma=False)
        )
        cores += [matrix("recurrent", a, n, soma=False) for a, n in product(back, wide)]
    # Of a potential.
    terms = len(rows) * (1 + shape.carried) + len(back) + (local is not None)
    cores += _sums(shape, "sums", terms, rules)
    if shape.hosted:
        return [*cores, *_sums(shape, "copies", terms, rules)]
    if local is None:
        return cores
    return [*cores, *_sums(shape, "copies", terms, rules), *_local(shape, local, rules)]


_LOCAL_WAY = 5  # phases that a local current takes longer to sums than that of synapses, at most


def _whole(held: float) -> int:
    return int(-(-held // 1))


def _sums(shape: DenseShape, role: Role, terms: int, rules: Rules) -> list[Core]:
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


def _local(shape: DenseShape, local: LocalShape, rules: Rules) -> list[Core]:
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


def convolution_cores(shape: ConvolutionShape, rules: Rules) -> list[Core]:
    """Cut a convolution into blocks of positions, channels in and channels out, fewest cores."""
    chip, (channels, height, width) = rules.chip, shape.image
    down, across = shape.positions
    choices = []
    for block in product(_sides(down), _sides(across)):
        seen = [((n - 1) * shape.stride + shape.kernel) * shape.pooled for n in block]
        pixels, positions = min(seen[0], height) * min(seen[1], width), block[0] * block[1]
        for within, out in product(
            _halves(min(channels, chip.fan_in // pixels)),
            _halves(min(shape.channels, chip.fan_out // positions)),
        ):
            parts = -(-channels // within)
            each = shape.kernel**2 if shape.fold == "folded" else min(pixels, shape.side**2)
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
            f"a kernel of {shape.side} x {shape.side} needs {shape.side**2} of "
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
    shape: ConvolutionShape, rules: Rules, axons: Numbers, neurons: Numbers, met: int, parts: int
) -> Core:
    """Return a core that weighs; it has somas if it sees all channels."""
    held = _whole(2 * len(axons) * rules.of_number(shape.graded) + 2 * len(neurons) * rules.of_sum)
    held += (parts == 1) * (_TABLE * shape.table + len(neurons) * shape.spiking * rules.of_soma)
    work = (f"P04, {_activation(shape)}" if parts == 1 else "P04",)
    sizes = met, met, held, len(axons), len(neurons)
    return Core(shape.name, "synapses", axons, neurons, work, *sizes)


def _blocks(
    shape: ConvolutionShape, rules: Rules, block: tuple[int, int], within: int, out: int
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
                held += len(own) * shape.spiking * rules.of_soma
                work = (f"P02, {_activation(shape)}",)
                cores.append(
                    Core(
                        *(shape.name, "sums", everything, own, work, taken, 0),
                        *(held, taken, len(own)),
                    )
                )
    return cores


def _activation(shape: ConvolutionShape) -> str:
    """Return the operation that makes a convolution's sums activations, or spikes."""
    return "P08" if shape.spiking else "P07" if shape.table else "P05"


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
