"""Where cores lie: near to those that they send to, and to the ports that they hear from.

A quadratic assignment, by a library's solver from several starts: packets between two places times
the hops between them, summed over all pairs. It counts copies of a packet one by one, which costs
more than the tree of them does: that is what the solver minimises, not what is reported.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from hybrid.tianjic.mapping import Mapping, Place
from hybrid.tianjic.mesh import Node
from hybrid.tianjic.routing import Floats, Numbers, multicasts, node
from hybrid.tianjic.rules import RuleError

_SEED = 0
_RESTARTS = 4


def placed(mapping: Mapping, *, avoid: Collection[Place] = ()) -> Mapping:
    """Return the mapping with its cores where packets have shorter ways; the same each time.

    All numbers are taken as sent in every step. If that makes ways no shorter, places stay as they
    are.

    Args:
        mapping: cores, on as many chips as they need.
        avoid: places that are not to be used: dead cores.

    Raises:
        RuleError: if too few cores are left.
    """
    from scipy.optimize import quadratic_assignment

    nodes, between = _nodes_and_packets(mapping, avoid)
    apart = np.abs(nodes[:, None] - nodes[None]).sum(2).astype(float)
    chip, rng = mapping.chip, np.random.default_rng(_SEED)
    free = len(nodes) - sum(x < 0 for x, _ in nodes.tolist())
    fixed = np.repeat(np.arange(free, len(nodes))[:, None], 2, axis=1)  # ports stay where they are
    solved = [
        quadratic_assignment(
            between, apart, options={"rng": rng, "P0": begin, "partial_match": fixed}
        ).col_ind
        for begin in ("barycenter", *["randomized"] * _RESTARTS)
    ]

    def hops(order: Numbers) -> float:
        return float((between * apart[np.ix_(order, order)]).sum())

    best = min(np.arange(len(nodes)), *solved, key=hops)
    places = [
        Place(x // chip.mesh_width, x % chip.mesh_width, y)
        for x, y in nodes[best[: len(mapping.cores)]].tolist()
    ]
    return replace(mapping, places=tuple(places))


def _nodes_and_packets(mapping: Mapping, avoid: Collection[Place]) -> tuple[Numbers, Floats]:
    """Return places [places, 2] and the packets of a step between them [places, places].

    Places are those of the cores, the other nodes of their chips, and ports beside their nodes.
    """
    chip, spoilt = mapping.chip, {node(mapping, place) for place in avoid}
    every: list[Node] = [
        (x, y) for y in range(chip.mesh_height) for x in range(mapping.chips * chip.mesh_width)
    ]
    usable = [place for place in every if place not in spoilt]
    if len(usable) < len(mapping.cores):
        raise RuleError(
            "cores",
            mapping.cores[-1].layer,
            f"{len(mapping.cores)} cores are needed, {len(usable)} are left of {len(every)}",
        )
    taken = [node(mapping, place) for place in mapping.places]
    if spoilt & set(taken):
        taken = usable[: len(taken)]
    casts = multicasts(mapping)
    ports = sorted({(-1, cast.start[1]) for cast in casts if cast.source is None})
    others = set(taken)
    nodes = [*taken, *(place for place in usable if place not in others), *ports]
    found = np.zeros((len(nodes), len(nodes)))
    for cast in casts:
        source = nodes.index((-1, cast.start[1])) if cast.source is None else cast.source
        found[source, list(cast.targets)] += cast.packets(chip.packet_bytes)
    return np.array(nodes), found
