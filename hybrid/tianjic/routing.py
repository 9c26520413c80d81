"""Packets between cores: who sends to whom, which links they pass.

A neuron sends one packet to each core that needs its output, along x first, then along y. Inputs
enter at a port beside the first core. Between chips packets pass the border of the mesh. Hops and
loads follow from the places alone and from how often neurons were active: the simulation itself
knows nothing of routes. Of Tianjic's network only that it is a mesh is published: routes are those
of TianjicX (openBII/BiMap).
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.mapping import Mapping, Place

Node = tuple[int, int]  # x over all chips, y
Link = tuple[Node, Node]
PORT: Node = (-1, 0)  # where inputs enter
INPUT = "input"  # name of what enters there


@dataclass(frozen=True)
class Flow:
    """Packets from one core to another."""

    source: int | None  # number of the core; None for the port
    target: int
    senders: NDArray[np.int64]  # outputs of the source's layer, or its sums; inputs
    active: str | None  # of what the rates say how often senders send; None: at each step


@dataclass(frozen=True)
class Traffic:
    """What a mapping's network carries in one step, on average."""

    packets: float
    hops: float  # of all packets together
    links: Table[Link, float]  # packets of each link

    @property
    def busiest(self) -> float:
        """Packets of the busiest link."""
        return max(self.links.values(), default=0.0)


def flows(mapping: Mapping) -> list[Flow]:
    """Return who sends to whom: from the port, within each layer, and from layer to layer."""
    first = mapping.shapes[0]
    found = [Flow(None, i, mapping.cores[i].axons, INPUT) for i in _receivers(mapping, first.name)]
    for shape in mapping.shapes:
        found += _within(mapping, shape.name)
    for before, after in pairwise(mapping.shapes):
        senders, receivers = _somas(mapping, before.name), _receivers(mapping, after.name)
        found += _meet(mapping, senders, receivers, before.name)
    return found


def traffic(mapping: Mapping, rates: Table[str, NDArray[np.float64]]) -> Traffic:
    """Return the average traffic of a step.

    Args:
        mapping: cores and places.
        rates: of each layer, how often its outputs are active in a step [outputs], 0 to 1; under
            "input", the same of what enters.
    """
    links: dict[Link, float] = {}
    packets = hops = 0.0
    for flow in flows(mapping):
        count = load(flow, rates)
        path = way(mapping, flow)
        for link in pairwise(path):
            links[link] = links.get(link, 0.0) + count
        packets += count
        hops += count * (len(path) - 1)
    return Traffic(packets, hops, links)


def load(flow: Flow, rates: Table[str, NDArray[np.float64]]) -> float:
    """Return the packets of a flow in a step, on average."""
    if flow.active is None:
        return float(len(flow.senders))
    return float(rates[flow.active][flow.senders].sum())


def way(mapping: Mapping, flow: Flow) -> list[Node]:
    """Return all nodes that a flow passes."""
    target = node(mapping, mapping.places[flow.target])
    start = PORT if flow.source is None else node(mapping, mapping.places[flow.source])
    return route(start, target)


def node(mapping: Mapping, place: Place) -> Node:
    """Return where a place lies if chips stand in a row."""
    return place.chip * mapping.chip.mesh_width + place.x, place.y


def route(start: Node, end: Node) -> list[Node]:
    """Return all nodes that a packet passes, first and last included: x first, then y."""
    (x, y), (to_x, to_y) = start, end
    step_x, step_y = (1 if to_x >= x else -1), (1 if to_y >= y else -1)
    path = [(at, y) for at in range(x, to_x + step_x, step_x)]
    return path + [(to_x, at) for at in range(y + step_y, to_y + step_y, step_y)]


def _cores(mapping: Mapping, layer: str, *roles: str) -> list[int]:
    """Return the cores of a layer that have one of some roles."""
    return [i for i, core in enumerate(mapping.cores) if core.layer == layer and core.role in roles]


def _somas(mapping: Mapping, layer: str) -> list[int]:
    """Return the cores that a layer's spikes leave from: where sums are added, if they are."""
    return _cores(mapping, layer, "sums") or _cores(mapping, layer, "synapses")


def _receivers(mapping: Mapping, layer: str) -> list[int]:
    """Return the cores that take a layer's inputs: all that have weights."""
    found = _cores(mapping, layer, "synapses", "carried", "copies", "coincidences")
    return [i for i in found if mapping.cores[i].weights]


def _within(mapping: Mapping, layer: str) -> list[Flow]:
    """Return flows inside a layer: partial sums, and those of its local module."""
    somas, copies = _somas(mapping, layer), _cores(mapping, layer, "copies")
    adding = [i for i in (*somas, *copies) if not mapping.cores[i].weights]
    found = _meet(mapping, _cores(mapping, layer, "synapses", "carried"), adding)
    scores = _cores(mapping, layer, "coincidences")
    for target in _cores(mapping, layer, "scores"):
        lag = mapping.cores[target].lag
        same = [i for i in scores if mapping.cores[i].lag == lag]
        found += _meet(mapping, same, [target])
    scores = _cores(mapping, layer, "scores") or scores
    products = _cores(mapping, layer, "products")
    for i in scores:  # a score of all inputs goes to all neurons, one of a neuron to that neuron
        own = mapping.cores[i].neurons
        if len(own) == 1:
            found += [Flow(i, target, own, None) for target in products]
        else:
            found += _meet(mapping, [i], products)
    found += _meet(mapping, copies, products)
    return found + _meet(mapping, products, [*somas, *copies])


def _meet(
    mapping: Mapping, senders: list[int], receivers: list[int], active: str | None = None
) -> list[Flow]:
    """Return the flows between cores that share numbers: outputs that are inputs or neurons."""
    found = []
    for i in senders:
        for j in receivers:
            source, target = mapping.cores[i], mapping.cores[j]
            wanted = target.neurons if source.layer == target.layer else target.axons
            shared = np.intersect1d(source.neurons, wanted)
            if len(shared):
                found.append(Flow(i, j, shared, active))
    return found
