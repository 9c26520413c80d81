"""One phase on the mesh, clock by clock: who waits for whom, and when the last packet arrives.

Each node has a router. A packet goes along x first, then along y; a packet for several cores is
copied where their ways part. Inputs of a router hold a few packets; what finds its next buffer full
waits where it is. A link carries one packet per clock, a link between chips one in several.

Dimension-ordered routes close no circle of buffers that wait for each other, and a packet fits a
buffer as a whole: no deadlock, whatever the load (`waiting_order` shows it for given streams). Each
row has a link to the next chip, and a link takes a whole packet per clock. Of Tianjic's network
only that it is a mesh is published; buffers, clocks per hop and ports are assumptions with ranges,
see `chip.toml`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid.tianjic.chip import Chip

Node = tuple[int, int]  # x over all chips, which stand in a row; y
Link = tuple[Node, Node]
Numbers = NDArray[np.int64]

_STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # the links that leave a router
_HERE = 4  # its fifth output: the core
_CORE, _OUTSIDE = 4, 5  # inputs beside those of the four links: the core, a port of the chip


class DeadlockError(RuntimeError):
    """Packets that wait for each other for ever."""


class Stream(NamedTuple):
    """Packets that leave one place for the same cores."""

    source: Node
    targets: tuple[Node, ...]
    start: int = 0  # clock from which they may leave
    outside: bool = False  # whether they come in through a port at the source


class Drained(NamedTuple):
    """What became of a phase's packets, side by side for several samples."""

    clocks: Numbers  # at which the last packet has arrived [samples]
    links: dict[Link, Numbers]  # packets of each link that carried any [samples]


def route(start: Node, end: Node) -> list[Node]:
    """Return all nodes that a packet passes, first and last included: x first, then y."""
    (x, y), (to_x, to_y) = start, end
    step_x, step_y = (1 if to_x >= x else -1), (1 if to_y >= y else -1)
    path = [(at, y) for at in range(x, to_x + step_x, step_x)]
    return path + [(to_x, at) for at in range(y + step_y, to_y + step_y, step_y)]


def tree(source: Node, targets: Iterable[Node]) -> set[Link]:
    """Return the links that a packet for several cores passes, each of them once."""
    return {link for target in targets for link in pairwise(route(source, target))}


def waiting_order(streams: Iterable[Stream]) -> list[Link]:
    """Return links in an order in which none waits for an earlier one.

    Raises:
        DeadlockError: if there is none: full buffers might wait for each other in a circle.
    """
    waits: TopologicalSorter[Link] = TopologicalSorter()
    for stream in streams:
        links = tree(stream.source, stream.targets)
        for link in links:
            waits.add(link, *(after for after in links if after[0] == link[1]))
    try:
        return list(waits.static_order())
    except CycleError as error:
        raise DeadlockError(f"links wait for each other: {error.args[1]}") from error


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Routers, their links and their buffers.

    Args:
        width, height: nodes, over all chips.
        chip_width: nodes of a row that lie on one chip.
        hop_clocks: from one router's buffer to the next.
        buffer_packets: that an input of a router holds.
        border_clocks: of a packet on a link between chips, during which it carries no other.
    """

    width: int
    height: int
    chip_width: int
    hop_clocks: int = 1
    buffer_packets: int = 4
    border_clocks: int = 1

    @classmethod
    def of(cls, chip: Chip, chips: int) -> "Mesh":
        """Return the mesh of some chips in a row."""
        return cls(
            width=chips * chip.mesh_width,
            height=chip.mesh_height,
            chip_width=chip.mesh_width,
            hop_clocks=chip.hop_clocks,
            buffer_packets=chip.buffer_packets,
            border_clocks=chip.border_clocks,
        )

    @property
    def nodes(self) -> int:
        """How many there are."""
        return self.width * self.height

    def number(self, node: Node) -> int:
        """Return a node's number, row by row."""
        return node[1] * self.width + node[0]

    def node(self, number: int) -> Node:
        """Return the node of a number."""
        return number % self.width, number // self.width

    def crosses(self, link: Link) -> bool:
        """Return whether a link leads to another chip."""
        (x, _), (to_x, _) = link
        return x // self.chip_width != to_x // self.chip_width

    @cached_property
    def neighbours(self) -> Numbers:
        """The node that each link leads to [nodes, 4]; the node itself beyond the border."""
        y, x = np.divmod(np.arange(self.nodes), self.width)
        found = [
            np.clip(y + down, 0, self.height - 1) * self.width
            + np.clip(x + across, 0, self.width - 1)
            for across, down in _STEPS
        ]
        return np.stack(found, 1)

    @cached_property
    def periods(self) -> Numbers:
        """Clocks for which a packet keeps each link busy [nodes, 4]."""
        chip_of = np.arange(self.nodes) % self.width // self.chip_width
        crossing = chip_of[self.neighbours] != chip_of[:, None]
        return np.where(crossing, self.border_clocks, 1)

    def outputs(self, stream: Stream) -> NDArray[np.uint8]:
        """Return where each router sends a stream's packets: a bit for each of 5 outputs."""
        found = np.zeros(self.nodes, np.uint8)
        for (x, y), (to_x, to_y) in tree(stream.source, stream.targets):
            found[self.number((x, y))] |= 1 << _STEPS.index((to_x - x, to_y - y))
        for target in stream.targets:
            found[self.number(target)] |= 1 << _HERE
        return found

    def drain(self, streams: Sequence[Stream], packets: Numbers) -> Drained:
        """Return how long packets take that all leave in one phase.

        Args:
            streams: who sends to whom.
            packets: how many of each stream [samples, streams]; samples do not meet each other.

        Raises:
            DeadlockError: if packets are left and none can move.
        """
        return _Run(self, streams, packets).finished()


class _Run:
    """The state of all routers, one behind the other for each sample."""

    def __init__(self, mesh: Mesh, streams: Sequence[Stream], packets: Numbers) -> None:
        self.mesh, self.samples = mesh, len(packets)
        routers = self.samples * mesh.nodes
        self.outputs = np.stack([mesh.outputs(s) for s in streams]) if streams else None
        self.place = np.tile(np.arange(mesh.nodes), self.samples)  # of a router on its mesh
        base = np.repeat(np.arange(self.samples) * mesh.nodes, mesh.nodes)[:, None]
        self.after = np.tile(mesh.neighbours, (self.samples, 1)) + base
        self.periods = np.tile(mesh.periods, (self.samples, 1))
        # What waits in each router: of its four links in rings, of its core and port in a list.
        depth = mesh.buffer_packets
        self.ring = np.zeros((routers, 4, depth), np.int64)
        self.ready = np.zeros((routers, 4, depth), np.int64)
        self.first = np.zeros((routers, 4), np.int64)
        self.held = np.zeros((routers, 4), np.int64)
        self.queue, self.next, self.end = _queues(mesh, streams, packets)
        self.starts = np.array([stream.start for stream in streams], np.int64)
        self.left = np.zeros((routers, 6), np.uint8)  # outputs that the first packet still needs
        self.head = np.zeros((routers, 6), np.int64)  # its stream
        self.turn = np.zeros((routers, 5), np.int64)  # which input each output prefers
        self.free = np.zeros((routers, 4), np.int64)  # clock from which a link is free
        self.carried = np.zeros((routers, 4), np.int64)
        self.last = np.zeros(self.samples, np.int64)

    def finished(self) -> Drained:
        """Return what became of all packets."""
        clock = 0
        while True:
            waiting = self.held.any(1) | (self.next < self.end).any(1)
            if not waiting.any():
                break
            busy = np.flatnonzero(waiting)
            self._look(busy, clock)
            if self._move(busy, clock):
                clock += 1
                continue
            clock = self._next_event(busy, clock)
        links = self.carried.reshape(self.samples, self.mesh.nodes, 4)
        used = {
            (node, (node[0] + step[0], node[1] + step[1])): links[:, number, way]
            for number, way in np.argwhere(links.any(0)).tolist()
            for node, step in [(self.mesh.node(number), _STEPS[way])]
        }
        return Drained(self.last, used)

    def _look(self, busy: Numbers, clock: int) -> None:
        """Look where the first packet of each input has to go, if it is a new one."""
        left, first = self.left[busy], self.first[busy]
        ways = np.arange(4)
        stream = self.ring[busy[:, None], ways, first]
        new = (left[:, :4] == 0) & (self.held[busy] > 0)
        new &= self.ready[busy[:, None], ways, first] <= clock
        position, there = self.next[busy], self.next[busy] < self.end[busy]
        own = self.queue[np.where(there, position, 0)]
        fresh = (left[:, 4:] == 0) & there & (self.starts[own] <= clock)
        streams, unseen = np.hstack([stream, own]), np.hstack([new, fresh])
        assert self.outputs is not None
        wanted = self.outputs[streams, self.place[busy][:, None]]
        self.left[busy] = np.where(unseen, wanted, left)
        self.head[busy] = np.where(unseen, streams, self.head[busy])

    def _move(self, busy: Numbers, clock: int) -> bool:
        """Let each output take one packet; return whether any moved."""
        before = self.left[busy]
        asked = (before[:, None, :] >> np.arange(5, dtype=np.uint8)[:, None]) & 1
        after, ways = self.after[busy], np.arange(4)
        room = self.held[after, ways] < self.mesh.buffer_packets
        room &= self.free[busy] <= clock
        asked[:, :4] &= room[:, :, None]
        rank = (np.arange(6) - self.turn[busy][:, :, None]) % 6
        chosen = np.where(asked, rank, 6).argmin(2)
        at, out = np.nonzero(asked.any(2))
        if not len(at):
            return False
        came = chosen[at, out]
        routers = busy[at]
        np.bitwise_and.at(self.left, (routers, came), ~(np.uint8(1) << out.astype(np.uint8)))
        self.turn[routers, out] = came + 1
        arrived = out == _HERE
        np.maximum.at(self.last, routers[arrived] // self.mesh.nodes, clock + 1)
        moved = ~arrived
        source, way = routers[moved], out[moved]
        target = self.after[source, way]
        # The ring's end as it was: a packet that leaves it in this clock makes room in the next.
        slot = (self.first[target, way] + self.held[target, way]) % self.mesh.buffer_packets
        self.ring[target, way, slot] = self.head[source, came[moved]]
        travel = np.maximum(self.periods[source, way], self.mesh.hop_clocks)
        self.ready[target, way, slot] = clock + travel
        self.free[source, way] = clock + self.periods[source, way]
        self.carried[source, way] += 1
        self.held[target, way] += 1
        gone = (before != 0) & (self.left[busy] == 0)
        router, came = np.nonzero(gone[:, :4])
        self.first[busy[router], came] = (
            self.first[busy[router], came] + 1
        ) % self.mesh.buffer_packets
        self.held[busy[router], came] -= 1
        router, came = np.nonzero(gone[:, 4:])
        self.next[busy[router], came] += 1
        return True

    def _next_event(self, busy: Numbers, clock: int) -> int:
        """Return the clock at which something can change, if nothing can move now."""
        ways = np.arange(4)
        held = self.held[busy] > 0
        ready = self.ready[busy[:, None], ways, self.first[busy]][held]
        there = self.next[busy] < self.end[busy]
        starts = self.starts[self.queue[np.where(there, self.next[busy], 0)]][there]
        times = np.concatenate([ready, starts, self.free[busy].ravel()])
        times = times[times > clock]
        if not len(times):
            raise DeadlockError(f"clock {clock}: packets are left, and none can move")
        return int(times.min())


def _queues(
    mesh: Mesh, streams: Sequence[Stream], packets: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Return what each core and port sends, one packet after the other, and where that lies.

    Returns:
        Numbers of streams; first and end of each router's list of its core and of its port.
    """
    samples = len(packets)
    places = [(mesh.number(s.source), int(s.outside)) for s in streams]
    order = sorted(range(len(streams)), key=lambda i: places[i])
    lists: list[Numbers] = [np.zeros(1, np.int64)]
    begin = np.zeros((samples * mesh.nodes, 2), np.int64)
    end, length = np.zeros_like(begin), 1
    for sample in range(samples):
        for stream in order:
            number, outside = places[stream]
            router, count = sample * mesh.nodes + number, int(packets[sample, stream])
            if end[router, outside] == 0:
                begin[router, outside] = length
            lists.append(np.full(count, stream))
            length += count
            end[router, outside] = length
    return np.concatenate(lists), begin, end
