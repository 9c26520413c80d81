"""Packets between cores: who sends to whom, which links they pass.

A neuron sends one packet to each core that needs its output, along x first, then along y. Between
chips packets pass the border of the mesh. Hops and loads follow from the places alone and from how
often neurons were active: the simulation itself knows nothing of routes. Of Tianjic's network only
that it is a mesh is published: routes are those of TianjicX (openBII/BiMap).
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.mapping import Core, Mapping, Place

Node = tuple[int, int]  # x over all chips, y
Link = tuple[Node, Node]


@dataclass(frozen=True)
class Flow:
    """Packets from one core to another."""

    source: int  # number of the core
    target: int
    senders: NDArray[np.int64]  # outputs of the source's layer, or its sums
    activity: bool  # whether only active neurons send: spikes; else all do, at each step


@dataclass(frozen=True)
class Traffic:
    """What a mapping's network carries in one step, on average."""

    packets: float  # sent
    arrived: float
    hops: float  # of all packets together
    links: Table[Link, float]  # packets of each link

    @property
    def busiest(self) -> float:
        """Packets of the busiest link."""
        return max(self.links.values(), default=0.0)


def flows(mapping: Mapping) -> list[Flow]:
    """Return who sends to whom, within each layer and from each layer to the next."""
    found: list[Flow] = []
    for shape in mapping.shapes:
        found += _within(mapping, shape.name)
    for before, after in pairwise(mapping.shapes):
        senders = _outlets(mapping, before.name, "synapses")
        receivers = [
            i
            for i, core in enumerate(mapping.cores)
            if core.layer == after.name
            and core.role in ("synapses", "carried", "copies", "coincidences")
        ]
        found += _meet(mapping, senders, receivers, activity=True)
    return found


def traffic(mapping: Mapping, rates: Table[str, NDArray[np.float64]]) -> Traffic:
    """Return the average traffic of a step.

    Args:
        mapping: cores and places.
        rates: of each layer, how often its outputs are active in a step [outputs], 0 to 1.
    """
    links: dict[Link, float] = {}
    packets = arrived = hops = 0.0
    for flow in flows(mapping):
        source, target = mapping.cores[flow.source], mapping.places[flow.target]
        count = float(len(flow.senders))
        if flow.activity:
            count = float(rates[source.layer][flow.senders].sum())
        path = route(mapping, mapping.places[flow.source], target)
        for link in pairwise(path):
            links[link] = links.get(link, 0.0) + count
        packets += count
        hops += count * (len(path) - 1)
        arrived += count * (path[-1] == node(mapping, target))
    return Traffic(packets, arrived, hops, links)


def node(mapping: Mapping, place: Place) -> Node:
    """Return where a place lies if chips stand in a row."""
    return place.chip * mapping.chip.mesh_width + place.x, place.y


def route(mapping: Mapping, source: Place, target: Place) -> list[Node]:
    """Return all nodes that a packet passes, first and last included: x first, then y."""
    (x, y), (to_x, to_y) = node(mapping, source), node(mapping, target)
    step_x, step_y = (1 if to_x >= x else -1), (1 if to_y >= y else -1)
    path = [(at, y) for at in range(x, to_x + step_x, step_x)]
    return path + [(to_x, at) for at in range(y + step_y, to_y + step_y, step_y)]


def _outlets(mapping: Mapping, layer: str, role: str) -> list[int]:
    """Return the cores that a layer's spikes leave from: where sums are added, if they are."""
    own = [i for i, core in enumerate(mapping.cores) if core.layer == layer]
    sums = [i for i in own if mapping.cores[i].role == "sums"]
    return sums or [i for i in own if mapping.cores[i].role == role]


def _within(mapping: Mapping, layer: str) -> list[Flow]:
    """Return flows inside a layer: partial sums, and those of its local module."""
    by_role: dict[str, list[int]] = {}
    for i, core in enumerate(mapping.cores):
        if core.layer == layer:
            by_role.setdefault(core.role, []).append(i)
    found: list[Flow] = []
    outlets = by_role.get("sums", by_role.get("synapses", []))
    partial = [*by_role.get("synapses", []), *by_role.get("carried", [])]
    if "sums" in by_role:
        found += _meet(mapping, partial, by_role["sums"], activity=False)
    scored = by_role.get("coincidences", [])
    if "scores" in by_role:
        for target in by_role["scores"]:
            lag = mapping.cores[target].lag
            same = [i for i in scored if mapping.cores[i].lag == lag]
            found += _meet(mapping, same, [target], activity=False)
        scored = by_role["scores"]
    products = by_role.get("products", [])
    for i in scored:  # a score of all inputs goes to all neurons, one of a neuron to that neuron
        own = mapping.cores[i].neurons
        if len(own) == 1:
            found += [Flow(i, target, own, False) for target in products]
        else:
            found += _meet(mapping, [i], products, activity=False)
    found += _meet(mapping, by_role.get("copies", []), products, activity=False)
    found += _meet(mapping, products, outlets, activity=False)
    return found


def _meet(
    mapping: Mapping, senders: list[int], receivers: list[int], *, activity: bool
) -> list[Flow]:
    """Return the flows between cores that share numbers: outputs that are inputs or neurons."""
    found = []
    for i in senders:
        for j in receivers:
            shared = np.intersect1d(mapping.cores[i].neurons, _wanted(mapping.cores, i, j))
            if len(shared):
                found.append(Flow(i, j, shared, activity))
    return found


def _wanted(cores: tuple[Core, ...], source: int, target: int) -> NDArray[np.int64]:
    """Return the outputs of a source that a target takes in."""
    same = cores[source].layer == cores[target].layer
    return cores[target].neurons if same else cores[target].axons
