"""Packets on the mesh against a slow mesh of queues, written packet by packet."""

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.mesh import (
    DeadlockError,
    Link,
    Mesh,
    Node,
    Stream,
    route,
    tree,
    waiting_order,
)

CHIP = load_chip()
SMALL = Mesh(width=4, height=3, chip_width=4)


@dataclass
class Packet:
    """One packet, and where else it has to go from here."""

    source: Node
    targets: frozenset[Node]


@dataclass
class Router:
    """Queues of packets by where they came from, each with the clock it can leave at."""

    queues: dict[object, deque[tuple[int, Packet]]] = field(default_factory=dict)
    preferred: dict[object, int] = field(default_factory=Counter)


def slow_drain(mesh: Mesh, streams: list[Stream], packets: list[int]) -> tuple[int, Counter[Link]]:
    """Return the last clock and loads of links; an independent account of the same rules."""
    routers: dict[Node, Router] = {}
    for stream, count in zip(streams, packets, strict=True):
        router = routers.setdefault(stream.source, Router())
        queue = router.queues.setdefault(("in", stream.outside), deque())
        made = (Packet(stream.source, frozenset(stream.targets)) for _ in range(count))
        queue.extend((stream.start, packet) for packet in made)
    busy_until: Counter[Link] = Counter()
    loads: Counter[Link] = Counter()
    clock = last = 0
    while any(queue for router in routers.values() for queue in router.queues.values()):
        room = {
            (node, name): mesh.buffer_packets - len(queue)
            for node, router in routers.items()
            for name, queue in router.queues.items()
        }
        moves: list[tuple[Node, object, Node | None, Packet]] = []
        for node, router in routers.items():
            heads: dict[object, dict[Node | None, set[Node]]] = {}
            for name, queue in router.queues.items():
                if not queue or queue[0][0] > clock:
                    continue
                ways: dict[Node | None, set[Node]] = {}
                for target in queue[0][1].targets:
                    path = route(node, target)
                    ways.setdefault(path[1] if len(path) > 1 else None, set()).add(target)
                heads[name] = ways
            outputs = {way for ways in heads.values() for way in ways}
            for way in sorted(outputs, key=str):
                if way is not None:
                    link = (node, way)
                    if busy_until[link] > clock or room.get((way, node), mesh.buffer_packets) < 1:
                        continue
                asking = sorted((n for n in heads if way in heads[n]), key=str)
                name = asking[router.preferred[way] % len(asking)]
                router.preferred[way] += 1
                packet = router.queues[name][0][1]
                moves.append((node, name, way, Packet(node, frozenset(heads[name][way]))))
                left = packet.targets - heads[name][way]
                router.queues[name][0] = (clock, Packet(packet.source, left))
        for node, _, way, packet in moves:
            if way is None:
                last = max(last, clock + 1)
                continue
            loads[node, way] += 1
            period = mesh.border_clocks if mesh.crosses((node, way)) else 1
            busy_until[node, way] = clock + period
            queue = routers.setdefault(way, Router()).queues.setdefault(node, deque())
            queue.append((clock + max(mesh.hop_clocks, period), packet))
        for router in routers.values():
            for queue in router.queues.values():
                if queue and not queue[0][1].targets:
                    queue.popleft()
        clock += 1
        assert clock < 200_000, "the slow mesh came to rest"
    return last, loads


def drawn(mesh: Mesh, source: np.random.Generator, streams: int) -> list[Stream]:
    """Return streams between random nodes, some from ports."""

    def node() -> Node:
        return int(source.integers(mesh.width)), int(source.integers(mesh.height))

    made = []
    for _ in range(streams):
        outside, count = bool(source.random() < 0.1), int(source.integers(1, 6))
        start = (0, int(source.integers(mesh.height))) if outside else node()
        targets = tuple({node() for _ in range(count)})
        made.append(Stream(start, targets, int(source.integers(60)), outside))
    return made


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), hop=st.integers(1, 3), depth=st.integers(2, 5))
def test_the_mesh_agrees_with_a_slow_one(seed: int, hop: int, depth: int) -> None:
    """Loads of links are equal; the last arrival nearly, as the order at a router is free."""
    source = np.random.default_rng(seed)
    mesh = Mesh(
        width=8, height=5, chip_width=4, hop_clocks=hop, buffer_packets=depth, border_clocks=3
    )
    streams = drawn(mesh, source, 25)
    packets = source.integers(0, 60, (2, len(streams)))
    found = mesh.drain(streams, packets)
    for sample in range(2):
        last, loads = slow_drain(mesh, streams, packets[sample].tolist())
        own = {link: int(load[sample]) for link, load in found.links.items() if load[sample]}
        assert own == dict(loads)
        assert found.clocks[sample] == pytest.approx(last, rel=0.15, abs=4)


def test_a_lone_packet_takes_its_hops() -> None:
    """It leaves in clock 2, takes five hops of 3 clocks, and one clock into the core."""
    mesh = Mesh(width=4, height=3, chip_width=4, hop_clocks=3)
    found = mesh.drain([Stream((0, 0), ((3, 2),), start=2)], np.array([[1]]))
    assert found.clocks.tolist() == [2 + 5 * 3 + 1]
    assert len(found.links) == 5


def test_a_copy_passes_each_link_once() -> None:
    """Three targets along one row: the way there is shared."""
    stream = Stream((0, 0), ((1, 0), (2, 0), (3, 0), (3, 2)))
    assert tree(stream.source, stream.targets) == {
        *pairwise([(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2)])
    }
    found = SMALL.drain([stream], np.array([[10]]))
    assert all(load.tolist() == [10] for load in found.links.values())


def test_what_one_link_carries_bounds_the_time_from_below() -> None:
    """Two cores send through one link: their packets follow each other."""
    streams = [Stream((0, 0), ((3, 0),)), Stream((1, 0), ((3, 0),))]
    (clocks,) = SMALL.drain(streams, np.array([[100, 100]])).clocks
    assert 200 <= clocks <= 200 + 6


def test_a_full_buffer_holds_back_but_loses_nothing() -> None:
    """A slow border between chips: buffers fill up to the source."""
    mesh = Mesh(width=8, height=1, chip_width=4, buffer_packets=2, border_clocks=5)
    found = mesh.drain([Stream((0, 0), ((7, 0),))], np.array([[50], [0]]))
    assert found.clocks[0] == pytest.approx(50 * 5, abs=12)
    assert found.clocks[1] == 0
    assert all(load.tolist() == [50, 0] for load in found.links.values())


def test_nothing_sent_takes_no_time() -> None:
    assert SMALL.drain([], np.zeros((2, 0), np.int64)).clocks.tolist() == [0, 0]


def test_routes_close_no_circle() -> None:
    """Any streams: links have an order. A circle, which no route here makes, is found."""
    source = np.random.default_rng(1)
    mesh = Mesh.of(CHIP, 2)
    order = waiting_order(drawn(mesh, source, 200))
    assert len(order) == len(set(order)) > 100


def test_a_circle_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes that turn both ways, as no router here does, may wait for each other."""
    corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
    around = {corner: [corners[(i + k) % 4] for k in range(3)] for i, corner in enumerate(corners)}
    monkeypatch.setattr("hybrid.tianjic.mesh.route", lambda start, end: around[start])
    with pytest.raises(DeadlockError, match="wait for each other"):
        waiting_order([Stream(path[0], (path[-1],)) for path in around.values()])
