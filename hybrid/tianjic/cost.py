"""Time and energy of a mapped network: a model's predictions, not measurements on a chip.

Time is counted in phases of fixed length, so it does not depend on activity. Energy has three
models: what cores in use draw at full load, what activity costs, both beside a static share of the
whole chip, and the naive count of operations that papers often give, which leaves out what
dominates small networks. Energy reads counts and never changes what is computed. Not in it: loading
weights, and what no core was given to (a root, a division, a host). Energies of packets and updates
are drawn on top of what full load was calibrated to, so ranges reach too high rather than too low.
Source: `chip.toml` for
constants; the efficiency at full load is published, everything below full load is a model of ours.
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.mapping import Mapping, Role, busy_clocks
from hybrid.tianjic.routing import INPUT, Traffic, traffic
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
    """Operations of one inference: effective ones as NeuroBench counts them, zeros left out."""

    dense: float  # the same operations, nothing being zero
    macs: float  # with inputs of 8 bits
    acs: float  # with spikes: additions
    updates: float  # of neurons


class Energy(NamedTuple):
    """J per inference by three models, the larger first."""

    busy: float  # cores in use draw what they do at full load while they compute; static share
    activity: float  # operations that happen; static share
    naive: float  # operations alone: theoretical, without the power of the rest of the chip


@dataclass(frozen=True)
class Cost:
    """What one inference costs."""

    timing: Timing
    operations: Operations
    energy: Energy
    traffic: Traffic
    cores: int
    core_phases: int  # phases in which cores compute, all together
    chips: int
    steps: int

    def energy_on(self, chip: Chip) -> Energy:
        """Return the energy if constants were those of another chip; its time stays."""
        naive = (
            self.operations.macs * chip.energy_per_mac + self.operations.acs * chip.energy_per_sop
        )
        static = self.chips * chip.static_power * self.timing.latency
        extra = (
            self.operations.updates * chip.update_energy
            + self.steps * self.traffic.hops * chip.packet_energy
        )
        dynamic = 1.0 - chip.static_share
        full = self.core_phases * chip.core_phase_energy
        return Energy(static + dynamic * full, static + dynamic * naive + extra, naive)


def timing(mapping: Mapping, steps: int) -> Timing:
    """Return how long T steps take.

    A layer takes one phase, and one more where partial sums are added. A local module has to find
    its scores (one phase, or two) and multiply them (one) before potentials are whole; and what a
    step leads to passes products and sums, two phases, before the next step's potentials. If the
    newest steps are left out, that loop need not close in time.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: give at least one")
    depth = sum(_depth(mapping, shape) for shape in mapping.shapes)
    passes = max(core.passes for core in mapping.cores)
    per_step = max([passes, *(_loop(shape) for shape in mapping.shapes)])
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


def _depth(mapping: Mapping, shape: Shape) -> int:
    """Return the phases from a layer's input to its spikes."""
    plain = 1 + (mapping.count(shape.name, "sums") > 0)
    if not isinstance(shape, DenseShape) or shape.local is None:
        return plain
    scores = 1 + (mapping.count(shape.name, "scores") > 0)
    return max(plain, scores + 2)


def _loop(shape: Shape) -> int:
    """Return the phases between two steps that a layer's local module asks for."""
    local = shape.local if isinstance(shape, DenseShape) else None
    return 1 if local is None else max(1, 2 - local.delay)


def operations(mapping: Mapping, rates: Rates, steps: int) -> Operations:
    """Return operations of one inference.

    Args:
        mapping: the network.
        rates: of each layer, how often each of its inputs is not zero in a step [inputs].
        steps: T.
    """
    macs = acs = updates = dense = 0.0
    for shape in mapping.shapes:
        active = float(rates[shape.name].mean())
        met = shape.synapses * (1 + _repeated(mapping, shape))
        weights = shape.density if isinstance(shape, DenseShape) else 1.0
        effective = steps * met * active * weights
        macs += effective if shape.graded else 0.0
        acs += 0.0 if shape.graded else effective
        shown = _shown(shape, steps)
        dense += shown * met
        updates += shown * shape.outputs * (1 + (mapping.count(shape.name, "copies") > 0))
        if isinstance(shape, DenseShape):
            carried = steps * shape.synapses * shape.carried
            macs += active * carried + _local_macs(shape, active, steps)
            dense += carried + _local_macs(shape, 1.0, steps)
    return Operations(dense, macs, acs, updates)


def _shown(shape: Shape, steps: int) -> int:
    """Return the steps in which a layer has anything to do."""
    return 1 if isinstance(shape, DenseShape) and shape.once else steps


def _repeated(mapping: Mapping, shape: Shape) -> bool:
    """Return whether copies of a layer's neurons have synapses of their own."""
    return any(
        core.weights for core in mapping.cores if (core.layer, core.role) == (shape.name, "copies")
    )


def _local_macs(shape: DenseShape, active: float, steps: int) -> float:
    """Return multiplications of a local module's history over T steps, at most.

    As if all inputs that are active now had been active then.
    """
    local = shape.local
    if local is None:
        return 0.0
    met = [local.lags if local.filled else min(local.lags, t - local.delay) for t in range(steps)]
    pairs = sum(max(0, count) for count in met)
    share = active * shape.inputs
    weighted = share * (shape.outputs if local.per_synapse else 1)
    return pairs * (share + weighted + shape.outputs)


def cost(mapping: Mapping, rates: Rates, steps: int) -> Cost:
    """Return what one inference of T steps costs.

    Args:
        mapping: the network on its chip.
        rates: of each layer, how often its inputs are active in a step [inputs]; under "output",
            the same of the last layer's neurons.
        steps: T.
    """
    shapes = {shape.name: shape for shape in mapping.shapes}
    names = list(shapes)
    leaving = dict(zip(names, [*(rates[name] for name in names[1:]), rates["output"]], strict=True))
    found = Cost(
        timing(mapping, steps),
        operations(mapping, rates, steps),
        Energy(0.0, 0.0, 0.0),
        traffic(mapping, leaving | {INPUT: rates[names[0]]}),
        len(mapping.cores),
        sum(_shown(shapes[core.layer], steps) * core.passes for core in mapping.cores),
        mapping.chips,
        steps,
    )
    return replace(found, energy=found.energy_on(mapping.chip))


def energy_range(
    found: Cost, chip: Chip, *, draws: int, source: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return (5 %, median, 95 %) of each energy, uncertain constants drawn from their ranges."""
    if draws < 1:
        raise ValueError(f"draws = {draws}: give at least one")
    drawn = np.array([found.energy_on(chip.drawn(source)) for _ in range(draws)])
    quantiles = np.quantile(drawn, (0.05, 0.5, 0.95), axis=0)
    return {
        name: (float(q[0]), float(q[1]), float(q[2]))
        for name, q in zip(Energy._fields, quantiles.T, strict=True)
    }


def core_events(mapping: Mapping, rates: Rates) -> NDArray[np.float64]:
    """Return how many synapses of each core meet an active input in a step [cores].

    Sums and products meet none.
    """
    return np.array(
        [
            float(rates[core.layer][core.axons].mean()) * core.operations * core.passes
            if core.weights and core.role != "coincidences"
            else 0.0
            for core in mapping.cores
        ]
    )


def phase_use(mapping: Mapping, moved: Traffic) -> dict[str, float]:
    """Return how much of a phase is used: by the busiest core, the busiest link, one after another.

    A packet takes a clock on a link, and hops add to that: a model, with `hop_clocks` assumed. More
    than 1 together means that a phase of fixed length may be too short; on average over inputs.
    """
    chip = mapping.chip
    reach = chip.mesh_width + chip.mesh_height - 2
    computing = max(busy_clocks(core, chip) for core in mapping.cores) / chip.phase_clocks
    routing = (moved.busiest + reach * chip.hop_clocks) / chip.phase_clocks
    return {"computing": computing, "routing": routing, "together": computing + routing}


def write_back(shape: DenseShape, active: float, chip: Chip, steps: int) -> dict[str, float]:
    """Return what a host adds that keeps a layer's trace and rewrites its synapses in each step.

    The trace decays and an outer product is added to it; inputs and potentials come to the host,
    all synapses go back. Reading them is no extra work: they are the layer's own. Seconds are those
    of the packets alone, see `loading`; what a host takes to compute, and its energy, depend on the
    host and are left out.

    Args:
        shape: of the layer.
        active: share of its inputs that are not zero in a step.
        chip: gives the payload of a packet.
        steps: T.
    """
    written = steps * shape.synapses * chip.weight_bits / 8
    seen = steps * (active * shape.inputs + shape.outputs)
    packets = written / chip.packet_bytes + seen
    return {
        "bytes": written,
        "packets": packets,
        "operations": steps * shape.synapses * (1.0 + active),
        "seconds": packets / chip.clock,
    }


def loading(mapping: Mapping) -> dict[str, float]:
    """Return what it takes to put all weights on the chip: for another task, say.

    Seconds if one port takes a packet per clock: not published, so at least that long is a model
    of ours.
    """
    chip = mapping.chip
    moved = float(mapping.weight_bytes().sum())
    packets = moved / chip.packet_bytes
    return {"bytes": moved, "packets": packets, "seconds": packets / chip.clock}


def roles(mapping: Mapping) -> dict[Role, int]:
    """Return how many cores have each role."""
    found: dict[Role, int] = {}
    for core in mapping.cores:
        found[core.role] = found.get(core.role, 0) + 1
    return found
