"""Packets between cores: who sends what to whom, and which links that loads.

A number that is not always there, a spike or an activation, is a packet of its own, sent if it is
not zero; numbers that are always there, such as partial sums, share packets. What several cores
need is sent once and copied on its way. Inputs enter through ports at the left edge of the first
chip. Routes, and what waits for what, are in `mesh`; the simulation of the network itself knows
nothing of them.
"""

from collections import defaultdict
from collections.abc import Mapping as Table
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.mapping import Mapping, Place
from hybrid.tianjic.mesh import Link, Node, Stream, tree
from hybrid.tianjic.rules import Core, Role

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
INPUT = "input"  # name of what enters from outside
Rates = Table[str, Floats]  # how often numbers are not zero in a step, by layer
Roles = Table[Role, list[int]]  # numbers of a layer's cores


@dataclass(frozen=True)
class Flow:
    """Numbers that go from one core to another."""

    source: int | None  # number of the core; None for a port
    target: int
    senders: Numbers  # which outputs of the source's layer, which of its sums; which inputs
    active: str | None  # of what the rates say how often senders send; None: at each step
    bits: int = 8  # of each number


@dataclass(frozen=True)
class Multicast:
    """Numbers that go from one place to the same cores."""

    source: int | None
    start: Node
    targets: tuple[int, ...]  # numbers of cores
    ends: tuple[Node, ...]
    senders: Numbers
    active: str | None
    bits: int
    share: float  # that goes out in one phase, at most: less than 1 if cores are folded
    once: bool  # whether they are sent in the last step alone

    def packets(self, packet_bytes: int) -> int:
        """Return how many packets it takes for all numbers."""
        if self.active is not None:
            return len(self.senders)
        return -(-len(self.senders) * self.bits // (8 * packet_bytes))

    def expected(self, rates: Rates, packet_bytes: int, steps: int = 1) -> float:
        """Return the packets of a step, on average over T steps."""
        if self.active is None:
            return self.packets(packet_bytes) / (steps if self.once else 1)
        return float(rates[self.active][self.senders].sum())


@dataclass(frozen=True)
class Traffic:
    """What a mapping's network carries in one step, on average."""

    packets: float
    hops: float  # of all packets together
    borders: float  # of these, hops from chip to chip
    links: Table[Link, float]  # packets of each link

    @property
    def busiest(self) -> float:
        """Packets of the busiest link."""
        return max(self.links.values(), default=0.0)


def flows(mapping: Mapping) -> list[Flow]:
    """Return who sends to whom: from ports, within each layer, and from layer to layer."""
    layers = [mapping.roles(shape.name) for shape in mapping.shapes]
    result = [Flow(None, i, mapping.cores[i].axons, INPUT) for i in _receivers(mapping, layers[0])]
    for layer in layers:
        result += _within(mapping, layer)
    for (before, after), shape in zip(pairwise(layers), mapping.shapes, strict=False):
        result += _meet(mapping, somas(before), _receivers(mapping, after), 8, shape.name)
    return result


def multicasts(mapping: Mapping) -> list[Multicast]:
    """Return the same, numbers with the same targets together."""
    found: dict[tuple[int | None, Node, str | None, int], dict[int, list[int]]] = {}
    for flow in flows(mapping):
        for start, senders in _entered(mapping, flow):
            key = flow.source, start, flow.active, flow.bits
            targets = found.setdefault(key, {})
            for sender in senders.tolist():
                targets.setdefault(sender, []).append(flow.target)
    result = []
    shapes = {shape.name: shape for shape in mapping.shapes}
    for (source, start, active, bits), targets in found.items():
        together: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for sender, takers in targets.items():
            together[tuple(takers)].append(sender)
        for cores, same in together.items():
            # A folded core sends phase by phase, and is sent what it needs in the same way.
            taken = (mapping.cores[i] for i in cores)
            share = max(core.numbers / len(core.axons) if core.folds > 1 else 1.0 for core in taken)
            once = shapes[mapping.cores[cores[0]].layer].once
            if source is not None:
                sending = mapping.cores[source]
                if sending.folds > 1:
                    share = min(share, sending.sends / len(sending.neurons))
            ends = tuple(dict.fromkeys(node(mapping, mapping.places[i]) for i in cores))
            senders = np.array(same)
            known = senders, active, bits, share, once
            result.append(Multicast(source, start, cores, ends, *known))
    return result


def _entered(mapping: Mapping, flow: Flow) -> list[tuple[Node, Numbers]]:
    """Return where numbers of a flow start: at their core, or at the port of each input."""
    if flow.source is not None:
        return [(node(mapping, mapping.places[flow.source]), flow.senders)]
    ports, inputs = mapping.chip.input_ports, mapping.shapes[0].inputs
    port = flow.senders * ports // inputs
    rows = (np.arange(ports) * 2 + 1) * mapping.chip.mesh_height // (2 * ports)
    return [((0, int(rows[k])), flow.senders[port == k]) for k in np.unique(port).tolist()]


def traffic(mapping: Mapping, rates: Rates, steps: int = 1) -> Traffic:
    """Return the average traffic of a step.

    Args:
        mapping: cores and places.
        rates: of each layer, how often its outputs are active in a step [outputs], 0 to 1; under
            "input", the same of what enters.
        steps: T, for layers that are asked once.
    """
    links: dict[Link, float] = {}
    packets = hops = borders = 0.0
    width, payload = mapping.chip.mesh_width, mapping.chip.packet_bytes
    for cast in multicasts(mapping):
        count = cast.expected(rates, payload, steps)
        passed = tree(cast.start, cast.ends)
        for link in passed:
            links[link] = links.get(link, 0.0) + count
        packets += count
        hops += count * len(passed)
        borders += count * sum(a[0] // width != b[0] // width for a, b in passed)
    return Traffic(packets, hops, borders, links)


def streams(mapping: Mapping, starts: Numbers) -> tuple[list[Multicast], list[Stream]]:
    """Return what is sent, and the same as the mesh takes it.

    Args:
        mapping: cores and places.
        starts: clock of a phase from which each core sends [cores].
    """
    casts = multicasts(mapping)
    made = [
        Stream(
            cast.start,
            cast.ends,
            0 if cast.source is None else int(starts[cast.source]),
            cast.source is None,
        )
        for cast in casts
    ]
    return casts, made


def node(mapping: Mapping, place: Place) -> Node:
    """Return where a place lies if chips stand in a row."""
    return place.chip * mapping.chip.mesh_width + place.x, place.y


def somas(layer: Roles) -> list[int]:
    """Return the cores that a layer's spikes leave from: where sums are added, if they are."""
    return layer["sums"] or layer["synapses"]


def _receivers(mapping: Mapping, layer: Roles) -> list[int]:
    """Return the cores that take a layer's inputs: those with weights, but recurrent ones."""
    taking = (cores for role, cores in layer.items() if role != "recurrent")
    return sorted(i for cores in taking for i in cores if mapping.cores[i].weights)


def _within(mapping: Mapping, layer: Roles) -> list[Flow]:
    """Return flows inside a layer: partial sums, and those of its local module."""
    cores, wide = mapping.cores, mapping.chip.partial_sum_bits
    adding = [*layer["sums"], *layer["copies"]]
    matrices = sorted([*layer["synapses"], *layer["carried"], *layer["recurrent"]])
    result = _meet(mapping, matrices, adding, wide)
    for i, j in product(somas(layer), layer["recurrent"]):
        shared = np.intersect1d(cores[i].neurons, cores[j].axons)
        if len(shared):
            result.append(Flow(i, j, shared, cores[i].layer))
    for target in layer["scores"]:
        lag = [i for i in layer["coincidences"] if cores[i].lag == cores[target].lag]
        result += _meet(mapping, lag, [target], wide)
    products = layer["products"]
    for i in layer["scores"] or layer["coincidences"]:
        if cores[i].lag is None:  # scores of all neurons, for all of them
            result += [Flow(i, target, cores[i].neurons, None) for target in products]
        else:
            result += _meet(mapping, [i], products, 8)
    result += _meet(mapping, layer["copies"], products, 8)
    return result + _meet(mapping, products, adding, wide)


def _meet(
    mapping: Mapping,
    senders: list[int],
    receivers: list[int],
    bits: int,
    active: str | None = None,
) -> list[Flow]:
    """Return the flows between cores that share numbers: outputs that are inputs or neurons."""
    result = []
    for i, j in product(senders, receivers):
        source, target = mapping.cores[i], mapping.cores[j]
        shared = np.intersect1d(source.neurons, _wanted(source, target))
        if len(shared):
            result.append(Flow(i, j, shared, active, bits))
    return result


def _wanted(source: Core, target: Core) -> Numbers:
    """Return which outputs of one core another takes."""
    return target.neurons if source.layer == target.layer else target.axons
