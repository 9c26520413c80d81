"""Time and energy of a mapped network: a model's predictions, not measurements on a chip.

Time is counted in phases of one length, long enough for the busiest core and the last packet, so it
does not depend on activity. Energy has two bounds: cores in use draw what they do at full load, all
the time; and operations that happen, which papers often count alone, and which leaves out what
dominates small networks. Between them lies a share of full load that was fitted to one published
energy. Energy reads counts and never changes what is computed. Not in it: loading weights, and what
a host does. Energies of packets and updates
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
from hybrid.tianjic.mapping import Mapping
from hybrid.tianjic.routing import Rates, Traffic, traffic
from hybrid.tianjic.rules import Core, Role
from hybrid.tianjic.schedule import Schedule, leaving, schedule
from hybrid.tianjic.shapes import DenseShape, Shape

HEADER = """\
Simulator or chip?            a simulator; nothing was measured on a chip
Energy or operation counts?   both: bounds of energy, and the operations they start from
Latency in seconds or steps?  phases that hold the busiest core and link, and their seconds"""
_SEED = 0
_RECURRENT = 2  # phases from spikes to the potentials they act on: weighed, added
# Constants that energy depends on while time stays.
_ENERGIES = (
    *("gating", "idle_share", "static_share", "packet_energy", "update_energy", "border_energy"),
    *("ann_efficiency", "snn_efficiency"),
)


class Timing(NamedTuple):
    """How long an inference takes."""

    depth: int  # phases from input to answer of one step
    phases_per_step: int
    steps: int
    phase: float  # seconds

    @property
    def phases(self) -> int:
        """Phases of one inference of T steps."""
        return self.depth + (self.steps - 1) * self.phases_per_step

    @property
    def apart(self) -> int:
        """Phases from one inference to the next, if its steps follow at once."""
        return self.steps * self.phases_per_step

    @property
    def latency(self) -> float:
        """Seconds of one inference."""
        return self.phases * self.phase

    @property
    def throughput(self) -> float:
        """Inferences per second, steps of the next sample following at once."""
        return 1.0 / (self.apart * self.phase)

    @property
    def unpipelined(self) -> float:
        """Inferences per second, one after the other."""
        return 1.0 / self.latency


class Operations(NamedTuple):
    """Operations of one inference: effective ones as NeuroBench counts them, zeros left out.

    Zeros among weights of convolutions, and of recurrent synapses, do count.
    """

    dense: float  # the same operations, nothing being zero
    macs: float  # with inputs of 8 bits
    acs: float  # with spikes: additions
    updates: float  # of neurons


class Energy(NamedTuple):
    """J per inference: a bound, what lies between, a bound."""

    busy: float  # at most: cores in use draw what they do at full load in all phases
    gated: float  # as fitted to one published energy: a part of that, whatever comes in
    naive: float  # at least: operations that happen, without all else that the chip draws


@dataclass(frozen=True)
class Cost:
    """What one inference costs."""

    mapping: Mapping
    schedule: Schedule
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
        """J of an inference on the chip it was mapped to, one after the other."""
        return self.energy_on(self.mapping.chip)

    @property
    def pipelined(self) -> Energy:
        """The same if the next inference follows at once: less time, fewer idle phases."""
        return self.energy_on(self.mapping.chip, phases=self.timing.apart)

    def energy_on(self, chip: Chip, *, phases: int | None = None) -> Energy:
        """Return the energy if constants were those of another chip; its time stays.

        A core that computes draws `gating` of what it does at full load, and the rest in
        proportion to its operations; one that waits, `idle_share` of the former. All but the static
        share of the chip's power, which it draws as long as an inference takes. At most, cores draw
        all of full load in all phases, and the static share is the largest of its range; at least,
        there are operations alone.

        Args:
            chip: gives the constants.
            phases: that an inference takes; None for all from its input to its answer.
        """
        phases, done = phases or self.timing.phases, self.operations
        naive = done.macs * chip.energy_per_mac + done.acs * chip.energy_per_sop
        seconds = self.mapping.chips * phases * self.timing.phase
        moved = self.steps * (
            self.traffic.hops * chip.packet_energy + self.traffic.borders * chip.border_energy
        )
        extra = done.updates * chip.update_energy + moved
        # In a longer phase, clocks run longer; work is the same.
        every = self.cores * phases * self.schedule.stretch
        share = power_share(chip, naive / (self.core_phases * chip.core_phase_energy))
        drawn = self.core_phases * share + max(0.0, every - self.core_phases) * waiting_share(chip)
        known = chip.constants["static_share"]
        most = known.value if known.high is None else known.high
        return Energy(
            seconds * most * chip.full_power + every * chip.core_phase_energy + extra,
            seconds * chip.static_power
            + (1.0 - chip.static_share) * drawn * chip.core_phase_energy
            + extra,
            naive,
        )


def power_share(chip: Chip, active: float) -> float:
    """Return what a computing core draws, of its dynamic power at full load.

    Args:
        chip: gives the gating fraction.
        active: share of its synapses that meet something in a phase.
    """
    return chip.gating + (1.0 - chip.gating) * min(active, 1.0)


def waiting_share(chip: Chip) -> float:
    """Return the same of a core that waits."""
    return chip.gating * chip.idle_share


def timing(mapping: Mapping, steps: int, phase: float) -> Timing:
    """Return how long T steps take.

    A layer takes one phase, and one more where partial sums are added. A local module takes up to
    five before its current can be added; and what a step leads to passes its tables, products and
    sums before the next step's potentials. If the newest steps are left out, that loop need not
    close in time. Spikes that come back to their own layer are weighed and added: two phases a
    step. All steps are run, though a first spike may have answered before.

    Args:
        mapping: cores.
        steps: T.
        phase: seconds of one, see `Schedule`.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}: it must be >= 1")
    passes = max(core.passes for core in mapping.cores)
    folds = max(core.folds for core in mapping.cores)
    loops = [shape.local.phases_per_step for shape in mapping.shapes if shape.local is not None]
    loops += [_RECURRENT for shape in mapping.shapes if shape.recurrent]
    depth = sum(_depth(mapping, shape) for shape in mapping.shapes) + folds - 1
    return Timing(depth, max([passes, *loops]), steps, phase)


def _depth(mapping: Mapping, shape: Shape) -> int:
    """Return the phases from a layer's input to its spikes."""

    def passes(role: Role) -> int:
        own = [core for core in mapping.cores if (core.layer, core.role) == (shape.name, role)]
        return len(own[0].primitives) if own else 0

    added = passes("sums")
    scored = passes("coincidences") + passes("scores") + passes("products")
    return max(passes("synapses"), scored) + added


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
        copies = mapping.count(shape.name, "copies")
        met = shape.synapses
        carried = steps * shape.synapses * shape.carried
        effective = steps * met * active * shape.density
        macs += effective if shape.graded else 0.0
        acs += 0.0 if shape.graded else effective
        if shape.recurrent:
            back = (steps - 1) * shape.outputs**2  # no spikes come back in the first step
            own = back * float(leaving(mapping, rates)[shape.name].mean())
            macs, acs = (macs + own, acs) if shape.graded else (macs, acs + own)
            dense += back
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
    return pairs * (share + weighted + shape.outputs * local.times)


def cost(mapping: Mapping, rates: Rates, steps: int, *, planned: Schedule | None = None) -> Cost:
    """Return what one inference of T steps costs.

    Args:
        mapping: the network on its chip.
        rates: of each layer, how often its inputs are active in a step [inputs]; under "output",
            the same of the last layer's neurons.
        steps: T.
        planned: how phases go, if it is known; by default as these rates have it.
    """
    shapes = {shape.name: shape for shape in mapping.shapes}
    sent = leaving(mapping, rates)
    planned = planned or schedule(mapping, sent)
    return Cost(
        mapping,
        planned,
        timing(mapping, steps, planned.phase),
        operations(mapping, rates, steps),
        traffic(mapping, sent, steps),
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


def deciding(spent: Cost, chip: Chip, *, samples: int = 256) -> dict[str, float]:
    """Return how much of the spread of the gated energy each uncertain constant makes, from 0 to 1.

    Total Sobol indices, over the ranges of constants; those that only act on time are left out, as
    it stays.
    """
    from scipy.stats import sobol_indices, uniform

    ranged = {
        name: (known.low, known.high)
        for name, known in chip.constants.items()
        if known.low is not None
        and known.high is not None
        and known.low < known.high
        and name in _ENERGIES
    }
    if len(ranged) < 2:
        return dict.fromkeys(ranged, 1.0)

    def energies(values: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = (dict(zip(ranged, column, strict=True)) for column in values.T.tolist())
        return np.array([[spent.energy_on(chip.changed(**one)).gated for one in columns]])

    spread = [uniform(low, high - low) for low, high in ranged.values()]
    found = sobol_indices(
        func=energies, n=samples, dists=spread, rng=np.random.default_rng(_SEED)
    ).total_order
    shares = dict(zip(ranged, np.clip(found.ravel(), 0.0, 1.0).tolist(), strict=True))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def core_events(mapping: Mapping, rates: Rates) -> NDArray[np.float64]:
    """Return how many synapses of each core meet an active input in a step [cores].

    Sums and products meet none.
    """

    def met(core: Core) -> float:
        if core.role == "recurrent":
            own = leaving(mapping, rates)[core.layer]
            return float(own[core.axons].mean()) * core.operations
        if not core.weights or core.role == "coincidences":
            return 0.0
        return float(rates[core.layer][core.axons].mean()) * core.operations * core.passes

    return np.array([met(core) for core in mapping.cores])


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
        "seconds": packets / (chip.input_ports * chip.clock),
    }


def loading(mapping: Mapping) -> dict[str, float]:
    """Return what it takes to put all weights on the chip: for another task, say.

    Seconds if each port takes a packet per clock: not published, a model of ours.
    """
    chip = mapping.chip
    moved = float(mapping.weight_bytes().sum())
    packets = moved / chip.packet_bytes
    seconds = packets / (chip.input_ports * chip.clock)
    return {"bytes": moved, "packets": packets, "seconds": seconds}


Energies = Table[str, tuple[float, float, float]]
_BOUNDS = {"busy": "at most", "gated": "fitted", "naive": "at least"}


def as_text(spent: Cost, rates: Rates, energies: Energies) -> str:
    """Return in words what a network takes: cores, time, operations, energy.

    Args:
        spent: what an inference takes.
        rates: how often inputs of layers are active in a step.
        energies: (5 %, median, 95 %) of each model in J, over what is uncertain.
    """
    mapping, time, done, plan = spent.mapping, spent.timing, spent.operations, spent.schedule
    moved, held = loading(mapping), mapping.kept_bytes()
    late = f"stretched {plan.stretch:.2f} times" if plan.stretch > 1.0 else "it fits"
    lines = [
        f"cores: {spent.cores} occupied of {mapping.chips * mapping.chip.cores} on "
        f"{mapping.chips} chip(s), {mapping.needed} needed for the weights alone; "
        f"{int(mapping.fits_sram().sum())} of them within "
        f"{mapping.chip.core_sram / 1000:.0f} KB, the fullest keeps {held.max():,} bytes",
        f"a phase: the busiest core computes for {plan.computing:,} clocks of "
        f"{plan.chip.phase_clocks:,}, the last packet arrives at "
        f"{int(np.median(plan.typical)):,} (worst: {plan.worst:,}): {late}",
        f"time: {time.phases} phases, {1e6 * time.latency:.0f} µs; per s "
        f"{time.unpipelined:,.0f} inferences one after the other, "
        f"{time.throughput:,.0f} in a pipeline",
        f"operations: {done.dense:,.0f} dense; not zero: {done.macs:,.0f} MAC, "
        f"{done.acs:,.0f} AC; {done.updates:,.0f} updates of neurons",
        f"a step, on average: the busiest core meets {core_events(mapping, rates).max():,.0f} "
        f"synapses, the busiest link carries {spent.traffic.busiest:,.0f} of "
        f"{spent.traffic.packets:,.0f} packets, {spent.traffic.hops:,.0f} hops",
        f"to load the weights: {moved['bytes']:,.0f} bytes, {1e6 * moved['seconds']:,.0f} µs "
        "through all ports; not counted below",
    ]
    alone, pipelined = spent.energy._asdict(), spent.pipelined._asdict()
    for model, (low, _, high) in energies.items():
        extent = "" if model == "naive" else f" ({1e6 * low:.2f} to {1e6 * high:.2f})"
        after = "" if model == "naive" else f"; in a pipeline {1e6 * pipelined[model]:.2f}"
        lines.append(f"{_BOUNDS[model]:9s} {1e6 * alone[model]:8.2f} µJ{extent}{after}")
    return "\n".join(f"    {line}" for line in lines)
