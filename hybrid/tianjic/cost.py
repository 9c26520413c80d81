"""Time and energy of a mapped network: a model's predictions, not measurements on a chip.

Time is counted in phases of fixed length, so it does not depend on activity. Energy has three
models: what cores in use draw at full load, what activity costs, both beside a static share of the
whole chip, and the naive count of operations that papers often give, which leaves out what
dominates small networks. Energy reads counts and never changes what is computed. Not in it: loading
weights, and what no core was given to (a root, a division, a host). Energies of packets and updates
are drawn on top of what full load was calibrated to, so ranges reach too high rather than too low.
Source: `chip.toml` for constants; the efficiency at full load is published, everything below full
load is a model of ours.
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip
from hybrid.tianjic.mapping import Core, Mapping, busy_clocks
from hybrid.tianjic.routing import INPUT, Traffic, traffic
from hybrid.tianjic.shapes import DenseShape, Shape

HEADER = """\
Simulator or chip?            a simulator; nothing was measured on a chip
Energy or operation counts?   both: three models of energy, and the operations they start from
Latency in seconds or steps?  phases of fixed length, and seconds that follow from them"""
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

    mapping: Mapping
    timing: Timing
    operations: Operations
    traffic: Traffic
    core_phases: int  # phases in which cores compute, all together
    steps: int

    @property
    def cores(self) -> int:
        """Cores in use."""
        return len(self.mapping.cores)

    @property
    def energy(self) -> Energy:
        """J of an inference on the chip it was mapped to."""
        return self.energy_on(self.mapping.chip)

    def energy_on(self, chip: Chip) -> Energy:
        """Return the energy if constants were those of another chip; its time stays."""
        done = self.operations
        naive = done.macs * chip.energy_per_mac + done.acs * chip.energy_per_sop
        static = self.mapping.chips * chip.static_power * self.timing.latency
        packets = self.steps * self.traffic.hops * chip.packet_energy
        extra = done.updates * chip.update_energy + packets
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
        raise ValueError(f"steps = {steps}: it must be >= 1")
    passes = max(core.passes for core in mapping.cores)
    loops = [2 - shape.local.delay for shape in mapping.shapes if shape.local is not None]
    per_step = max([passes, *loops])
    depth = sum(_depth(mapping, shape) for shape in mapping.shapes) + passes - 1
    phases, phase = depth + (steps - 1) * per_step, mapping.chip.phase
    apart = 1.0 / (steps * per_step * phase)
    return Timing(depth, per_step, phases, phases * phase, apart, 1.0 / (phases * phase))


def _depth(mapping: Mapping, shape: Shape) -> int:
    """Return the phases from a layer's input to its spikes."""
    plain = 1 + (mapping.count(shape.name, "sums") > 0)
    scored = 3 + (mapping.count(shape.name, "scores") > 0)
    return plain if shape.local is None else max(plain, scored)


def operations(mapping: Mapping, rates: Rates, steps: int) -> Operations:
    """Return operations of one inference.

    Args:
        mapping: the network.
        rates: of each layer, how often each of its inputs is not zero in a step [inputs].
        steps: T.
    """
    macs = acs = updates = dense = 0.0
    for shape in mapping.shapes:
        active, times = float(rates[shape.name].mean()), 1 if shape.once else steps
        copies = [c for c in mapping.cores if (c.layer, c.role) == (shape.name, "copies")]
        met = shape.synapses * (1 + any(core.weights for core in copies))
        carried = steps * shape.synapses * shape.carried
        effective = steps * met * active * shape.density
        macs += effective if shape.graded else 0.0
        acs += 0.0 if shape.graded else effective
        macs += active * carried + _local_macs(shape, active, steps)
        dense += times * met
        dense += carried + _local_macs(shape, 1.0, steps)
        updates += times * shape.outputs * (1 + bool(copies))
    return Operations(dense, macs, acs, updates)


def _local_macs(shape: Shape, active: float, steps: int) -> float:
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
    first, *later = (rates[name] for name in shapes)
    leaving = dict(zip(shapes, [*later, rates["output"]], strict=True))
    return Cost(
        mapping,
        timing(mapping, steps),
        operations(mapping, rates, steps),
        traffic(mapping, leaving | {INPUT: first}),
        core_phases=sum((1 if shapes[c.layer].once else steps) * c.passes for c in mapping.cores),
        steps=steps,
    )


def energy_range(
    spent: Cost, chip: Chip, *, draws: int, source: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return (5 %, median, 95 %) of each energy, uncertain constants drawn from their ranges."""
    if draws < 1:
        raise ValueError(f"draws = {draws}: it must be >= 1")
    drawn = np.array([spent.energy_on(chip.drawn(source)) for _ in range(draws)])
    low, middle, high = np.quantile(drawn, (0.05, 0.5, 0.95), axis=0).tolist()
    return dict(zip(Energy._fields, zip(low, middle, high, strict=True), strict=True))


def core_events(mapping: Mapping, rates: Rates) -> NDArray[np.float64]:
    """Return how many synapses of each core meet an active input in a step [cores].

    Sums and products meet none.
    """

    def met(core: Core) -> float:
        if not core.weights or core.role == "coincidences":
            return 0.0
        return float(rates[core.layer][core.axons].mean()) * core.operations * core.passes

    return np.array([met(core) for core in mapping.cores])


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


Energies = Table[str, tuple[float, float, float]]


def as_text(spent: Cost, rates: Rates, energies: Energies) -> str:
    """Return in words what a network takes: cores, time, operations, energy.

    Args:
        spent: what an inference takes.
        rates: how often inputs of layers are active in a step.
        energies: (5 %, median, 95 %) of each model in J.
    """
    mapping, time, done = spent.mapping, spent.timing, spent.operations
    used, moved = phase_use(mapping, spent.traffic), loading(mapping)
    over = "" if used["together"] <= 1 else ": more than one phase may hold"
    lines = [
        f"cores: {spent.cores} occupied of {mapping.chips * mapping.chip.cores} on "
        f"{mapping.chips} chip(s), {mapping.needed} needed for the weights alone; "
        f"{int(mapping.fits_sram().sum())} of them within 22 KB",
        f"time: {time.phases} phases, {1e6 * time.latency:.0f} µs; per s "
        f"{time.unpipelined:,.0f} inferences one after the other, "
        f"{time.throughput:,.0f} in a pipeline",
        f"operations: {done.dense:,.0f} dense; not zero: {done.macs:,.0f} MAC, "
        f"{done.acs:,.0f} AC; {done.updates:,.0f} updates of neurons",
        f"a step, on average: the busiest core meets {core_events(mapping, rates).max():,.0f} "
        f"synapses, the busiest link carries {spent.traffic.busiest:,.0f} of "
        f"{spent.traffic.packets:,.0f} packets",
        f"of a phase, on average: computing {used['computing']:.0%}, "
        f"routing {used['routing']:.0%}{over}",
        f"to load the weights: {moved['bytes']:,.0f} bytes, {1e6 * moved['seconds']:,.0f} µs "
        "through one port; not counted below",
    ]
    for model, (low, middle, high) in energies.items():
        extent = "" if low == high else f" ({1e6 * low:.2f} to {1e6 * high:.2f})"
        lines.append(f"{model:9s} {1e6 * middle:8.2f} µJ{extent}")
    return "\n".join(f"    {line}" for line in lines)
