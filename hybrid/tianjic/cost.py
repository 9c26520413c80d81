"""Time and energy of a mapped network: a model's predictions, not measurements on a chip.

Time is counted in phases of fixed length, so it does not depend on activity. Energy has three
models, nested: what cores draw at full load, what activity costs beside a static share, and the
naive count of operations that papers often give, which leaves out what dominates small networks.
Energy reads counts and never changes what is computed. Source: `chip.toml` for constants; the
efficiency at full load is published, everything below full load is a model of ours.
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.mapping import Mapping, Role, busy_clocks
from hybrid.tianjic.routing import Traffic, traffic
from hybrid.tianjic.shapes import DenseShape, Shape

Rates = Table[str, NDArray[np.float64]]  # of each layer, how often inputs are active in a step


class Timing(NamedTuple):
    """How long an inference takes."""

    depth: int  # phases from input to answer of one step
    phases_per_step: int
    phases: int  # of one inference of T steps
    latency: float  # seconds
    throughput: float  # inferences per second, steps of the next sample following at once
    unpipelined: float  # inferences per second, one after the other


class Operations(NamedTuple):
    """Operations of one inference, as NeuroBench counts them."""

    dense: float  # pairs of input and output, whatever is zero
    macs: float  # with inputs of 8 bits that are not zero
    acs: float  # with spikes: additions
    updates: float  # of neurons


class Energy(NamedTuple):
    """J per inference by three models."""

    busy: float  # cores that are used draw what they do at full load, all others nothing
    activity: float  # static share for as long as it takes, and operations that happen
    naive: float  # operations alone: theoretical, no power of the rest of the chip


@dataclass(frozen=True)
class Cost:
    """What one inference costs."""

    timing: Timing
    operations: Operations
    energy: Energy
    traffic: Traffic
    cores: int
    core_phases: int


def timing(mapping: Mapping, steps: int) -> Timing:
    """Return how long T steps take.

    A layer takes one phase, and one more where partial sums are added. A local module whose
    current comes in time needs three phases between steps: potential, product, sum. If it may be
    late by two steps, it needs none.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: give at least one")
    depth = sum(1 + (mapping.count(shape.name, "sums") > 0) for shape in mapping.shapes)
    passes = max(core.passes for core in mapping.cores)
    per_step = max([passes, *(_feedback(shape) for shape in mapping.shapes)])
    depth += passes - 1
    phases = depth + (steps - 1) * per_step
    phase = mapping.chip.phase
    return Timing(
        depth,
        per_step,
        phases,
        phases * phase,
        1.0 / (steps * per_step * phase),
        1.0 / (phases * phase),
    )


def _feedback(shape: Shape) -> int:
    """Return the phases between two steps that a layer's local module asks for."""
    local = shape.local if isinstance(shape, DenseShape) else None
    return 1 if local is None else max(1, 3 - local.delay)


def operations(mapping: Mapping, rates: Rates, steps: int) -> Operations:
    """Return operations of one inference.

    Args:
        mapping: the network.
        rates: of each layer, how often each of its inputs is not zero in a step [inputs].
        steps: T.
    """
    dense = macs = acs = updates = 0.0
    for shape in mapping.shapes:
        active = float(rates[shape.name].mean()) * shape.synapses
        copies = 1 + (mapping.count(shape.name, "copies") > 0)
        dense += steps * shape.synapses
        if shape.graded:
            macs += steps * active * copies
        else:
            acs += steps * active * copies
        if isinstance(shape, DenseShape):
            macs += steps * active * shape.carried + _local_macs(shape, rates, steps)
        updates += steps * shape.outputs * copies
    return Operations(dense, macs, acs, updates)


def _local_macs(shape: DenseShape, rates: Rates, steps: int) -> float:
    """Return multiplications of a local module's history over T steps, at most.

    As if all inputs that are active now had been active then.
    """
    if shape.local is None:
        return 0.0
    pairs = sum(max(0, min(shape.local.lags, t - shape.local.delay)) for t in range(steps))
    share = float(rates[shape.name].sum())
    weighted = share * (shape.outputs if shape.local.per_synapse else 1)
    return pairs * (share + weighted + shape.outputs)


def cost(mapping: Mapping, rates: Rates, steps: int) -> Cost:
    """Return what one inference of T steps costs.

    Args:
        mapping: the network on its chip.
        rates: of each layer, how often its inputs are active in a step [inputs]; under "output",
            the same of the last layer's neurons.
        steps: T.
    """
    time = timing(mapping, steps)
    counted = operations(mapping, rates, steps)
    names = [shape.name for shape in mapping.shapes]
    leaving = dict(zip(names, [*(rates[name] for name in names[1:]), rates["output"]], strict=True))
    moved = traffic(mapping, leaving)
    core_phases = steps * sum(core.passes for core in mapping.cores)
    chip = mapping.chip
    naive = counted.macs * chip.energy_per_mac + counted.acs * chip.energy_per_sop
    activity = (
        mapping.chips * chip.static_power * time.latency
        + (1.0 - chip.static_share) * naive
        + counted.updates * chip.update_energy
        + steps * moved.hops * chip.packet_energy
    )
    energy = Energy(core_phases * chip.core_phase_energy, activity, naive)
    return Cost(time, counted, energy, moved, len(mapping.cores), core_phases)


def energy_range(
    mapping: Mapping, rates: Rates, steps: int, *, draws: int, source: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return (5 %, median, 95 %) of each energy, uncertain constants drawn from their ranges."""
    if draws < 1:
        raise ValueError(f"draws = {draws}: give at least one")
    found = [
        cost(
            Mapping(mapping.chip.drawn(source), mapping.shapes, mapping.cores, mapping.places),
            rates,
            steps,
        ).energy
        for _ in range(draws)
    ]
    quantiles = np.quantile(np.array(found), (0.05, 0.5, 0.95), axis=0)
    return {
        name: (float(q[0]), float(q[1]), float(q[2]))
        for name, q in zip(Energy._fields, quantiles.T, strict=True)
    }


def phase_use(mapping: Mapping, moved: Traffic) -> dict[str, float]:
    """Return how much of a phase is used: by the busiest core, and by the busiest link.

    A packet takes a clock on a link, and hops add to that: a model, with `hop_clocks` assumed.
    """
    chip = mapping.chip
    reach = chip.mesh_width + chip.mesh_height - 2
    busiest = max(busy_clocks(core, chip) for core in mapping.cores)
    return {
        "computing": busiest / chip.phase_clocks,
        "routing": (moved.busiest + reach * chip.hop_clocks) / chip.phase_clocks,
    }


def write_back(shape: DenseShape, chip: Chip, steps: int) -> dict[str, float]:
    """Return what it would take a host to rewrite a layer's synapses after each step.

    Args:
        shape: of the layer.
        chip: gives the payload of a packet.
        steps: T.
    """
    written = steps * shape.synapses * chip.weight_bits / 8
    return {
        "bytes": written,
        "packets": written / chip.packet_bytes,
        "operations": 3.0 * steps * shape.synapses,  # decay, outer product, product with inputs
    }


def roles(mapping: Mapping) -> dict[Role, int]:
    """Return how many cores have each role."""
    found: dict[Role, int] = {}
    for core in mapping.cores:
        found[core.role] = found.get(core.role, 0) + 1
    return found
