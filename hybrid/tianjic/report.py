"""What a network takes on the simulated chip, in words: cores, time, operations, energy."""

from collections.abc import Mapping as Table

from hybrid.tianjic.cost import Cost, Rates, core_events, loading, phase_use
from hybrid.tianjic.mapping import Mapping

HEADER = """\
Simulator or chip?            a simulator; nothing was measured on a chip
Energy or operation counts?   both: three models of energy, and the operations they start from
Latency in seconds or steps?  phases of fixed length, and seconds that follow from them"""
Energies = Table[str, tuple[float, float, float]]


def as_text(mapping: Mapping, found: Cost, rates: Rates, energies: Energies) -> str:
    """Return some lines about one network.

    Args:
        mapping: cores and places.
        found: what an inference takes.
        rates: how often inputs of layers are active in a step.
        energies: (5 %, median, 95 %) of each model in J.
    """
    lines = [*_cores(mapping), *_time(found), *_work(mapping, found, rates), *_load(mapping)]
    lines += [_energy(model, *interval) for model, interval in energies.items()]
    return "\n".join(f"    {line}" for line in lines)


def _cores(mapping: Mapping) -> list[str]:
    there = mapping.chips * mapping.chip.cores
    within = int(mapping.fits_sram().sum())
    return [
        f"cores: {len(mapping.cores)} occupied of {there} on {mapping.chips} chip(s), "
        f"{mapping.needed} needed for the weights alone; {within} of them within 22 KB",
    ]


def _time(found: Cost) -> list[str]:
    time = found.timing
    return [
        f"time: {time.phases} phases, {1e6 * time.latency:.0f} µs; per s "
        f"{time.unpipelined:,.0f} inferences one after the other, "
        f"{time.throughput:,.0f} in a pipeline",
    ]


def _work(mapping: Mapping, found: Cost, rates: Rates) -> list[str]:
    done, used = found.operations, phase_use(mapping, found.traffic)
    over = "" if used["together"] <= 1 else ": more than one phase may hold"
    return [
        f"operations: {done.dense:,.0f} dense; not zero: {done.macs:,.0f} MAC, "
        f"{done.acs:,.0f} AC; {done.updates:,.0f} updates of neurons",
        f"a step, on average: the busiest core meets {core_events(mapping, rates).max():,.0f} "
        f"synapses, the busiest link carries {found.traffic.busiest:,.0f} of "
        f"{found.traffic.packets:,.0f} packets",
        f"of a phase, on average: computing {used['computing']:.0%}, "
        f"routing {used['routing']:.0%}{over}",
    ]


def _load(mapping: Mapping) -> list[str]:
    moved = loading(mapping)
    return [
        f"to load the weights: {moved['bytes']:,.0f} bytes, {1e6 * moved['seconds']:,.0f} µs "
        "through one port; not counted below",
    ]


def _energy(model: str, low: float, middle: float, high: float) -> str:
    extent = "" if low == high else f" ({1e6 * low:.2f} to {1e6 * high:.2f})"
    return f"{model:9s} {1e6 * middle:8.2f} µJ{extent}"
