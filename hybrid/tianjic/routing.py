"""Packets between cores: who sends to whom, which links they pass.

A neuron sends one packet to each core that needs its output, along x first, then along y. Inputs
enter at a port beside the first core. Between chips packets pass the border of the mesh. Hops and
loads follow from the places alone and from how often neurons were active: the simulation itself
knows nothing of routes. Of Tianjic's network only that it is a mesh is published: routes are those
of TianjicX (openBII/BiMap).
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass
from itertools import pairwise, product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.mapping import Mapping, Place, Role

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
    layers = [_roles(mapping, shape.name) for shape in mapping.shapes]
    result = [Flow(None, i, mapping.cores[i].axons, INPUT) for i in _receivers(mapping, layers[0])]
    for layer in layers:
        result += _within(mapping, layer)
    for (before, after), shape in zip(pairwise(layers), mapping.shapes, strict=False):
        result += _meet(mapping, _somas(before), _receivers(mapping, after), shape.name)
    return result


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
        start = PORT if flow.source is None else node(mapping, mapping.places[flow.source])
        path = route(start, node(mapping, mapping.places[flow.target]))
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


def node(mapping: Mapping, place: Place) -> Node:
    """Return where a place lies if chips stand in a row."""
    return place.chip * mapping.chip.mesh_width + place.x, place.y


def route(start: Node, end: Node) -> list[Node]:
    """Return all nodes that a packet passes, first and last included: x first, then y."""
    (x, y), (to_x, to_y) = start, end
    step_x, step_y = (1 if to_x >= x else -1), (1 if to_y >= y else -1)
    path = [(at, y) for at in range(x, to_x + step_x, step_x)]
    return path + [(to_x, at) for at in range(y + step_y, to_y + step_y, step_y)]


Roles = Table[Role, list[int]]  # numbers of a layer's cores


def _roles(mapping: Mapping, layer: str) -> Roles:
    """Return the cores of a layer by role."""
    roles = [(i, core.role) for i, core in enumerate(mapping.cores) if core.layer == layer]
    return {role: [i for i, own in roles if own == role] for role in get_args(Role)}


def _somas(layer: Roles) -> list[int]:
    """Return the cores that a layer's spikes leave from: where sums are added, if they are."""
    return layer["sums"] or layer["synapses"]


def _receivers(mapping: Mapping, layer: Roles) -> list[int]:
    """Return the cores that take a layer's inputs: all that have weights."""
    return sorted(i for cores in layer.values() for i in cores if mapping.cores[i].weights)


def _within(mapping: Mapping, layer: Roles) -> list[Flow]:
    """Return flows inside a layer: partial sums, and those of its local module."""
    cores, somas, copies = mapping.cores, _somas(layer), layer["copies"]
    matrices = sorted([*layer["synapses"], *layer["carried"]])
    result = _meet(mapping, matrices, [i for i in (*somas, *copies) if not cores[i].weights])
    for target in layer["scores"]:
        lag = [i for i in layer["coincidences"] if cores[i].lag == cores[target].lag]
        result += _meet(mapping, lag, [target])
    products = layer["products"]
    for i in layer["scores"] or layer["coincidences"]:
        # A score of all inputs goes to all neurons, one of a neuron to that neuron.
        if len(cores[i].neurons) == 1:
            result += [Flow(i, target, cores[i].neurons, None) for target in products]
        else:
            result += _meet(mapping, [i], products)
    result += _meet(mapping, copies, products)
    return result + _meet(mapping, products, [*somas, *copies])


def _meet(
    mapping: Mapping, senders: list[int], receivers: list[int], active: str | None = None
) -> list[Flow]:
    """Return the flows between cores that share numbers: outputs that are inputs or neurons."""
    result = []
    for i, j in product(senders, receivers):
        source, target = mapping.cores[i], mapping.cores[j]
        wanted = target.neurons if source.layer == target.layer else target.axons
        shared = np.intersect1d(source.neurons, wanted)
        if len(shared):
            result.append(Flow(i, j, shared, active))
    return result
