"""Layers on cores: nothing lost, nothing too large, packets that arrive."""

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.mapping import Mapping, RuleError, busy_clocks, map_network
from hybrid.tianjic.routing import INPUT, PORT, flows, load, node, route, traffic
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape, Shape

CHIP = load_chip()


def dense(*sizes: int, **options: object) -> list[DenseShape]:
    return [
        DenseShape(name=f"layer {i}", inputs=a, outputs=b, **options)  # type: ignore[arg-type]
        for i, (a, b) in enumerate(pairwise(sizes))
    ]


def rates(mapping: Mapping, value: float = 1.0) -> dict[str, np.ndarray]:
    found = {shape.name: np.full(shape.outputs, value) for shape in mapping.shapes}
    return found | {INPUT: np.full(mapping.shapes[0].inputs, value)}


@pytest.mark.parametrize(
    ("sizes", "cores"),
    [((784, 512, 10), 13), ((2312, 512, 10), 25), ((784, 1024, 1024, 10), 45), ((512, 5), 3)],
)
def test_the_papers_networks_take_so_many_cores(sizes: tuple[int, ...], cores: int) -> None:
    """ceil(in / 256) · ceil(out / 256), and ceil(out / 256) more where sums are added."""
    mapping = map_network(dense(*sizes), CHIP)
    assert len(mapping.cores) == cores
    assert mapping.chips == 1


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 3000),
    outputs=st.integers(1, 1500),
    lags=st.integers(0, 9),
    per_synapse=st.booleans(),
    carried=st.booleans(),
)
def test_no_core_is_too_full_and_no_synapse_is_lost(
    inputs: int, outputs: int, lags: int, per_synapse: bool, carried: bool
) -> None:
    local = LocalShape(lags=lags, per_synapse=per_synapse) if lags else None
    shape = DenseShape(name="it", inputs=inputs, outputs=outputs, local=local, carried=carried)
    mapping = map_network([shape], CHIP, most_chips=20)
    covered: dict[str, np.ndarray] = {}
    for core in mapping.cores:
        assert len(core.neurons) <= 256
        assert core.weights <= 65_536
        assert busy_clocks(core, CHIP) <= CHIP.phase_clocks
        if core.weights:
            assert len(core.axons) <= 256
        if core.role in ("synapses", "carried", "sums", "copies"):
            seen = covered.setdefault(core.role, np.zeros((inputs, outputs), np.int64))
            seen[np.ix_(core.axons, core.neurons)] += 1
    expected = {"synapses": True, "carried": carried, "copies": lags > 0}
    expected["sums"] = carried or inputs > 256
    assert {role for role, there in expected.items() if there} == set(covered)
    assert all((seen == 1).all() for seen in covered.values())
    assert len(set(mapping.places)) == len(mapping.cores)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 40),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    out=st.integers(1, 300),
    stride=st.integers(1, 2),
)
def test_a_convolution_loses_no_synapse(
    channels: int, height: int, width: int, out: int, stride: int
) -> None:
    """Every pair of pixel and position that the kernel connects lies in just one core."""
    shape = ConvolutionShape(
        name="it", image=(channels, height, width), channels=out, stride=stride
    )
    mapping = map_network([shape], CHIP, most_chips=50)
    own = [core for core in mapping.cores if core.role == "synapses"]
    assert sum(core.weights for core in own) == shape.synapses
    assert max(len(core.axons) for core in own) <= 256
    assert max(len(core.neurons) for core in own) <= 256
    sources = np.zeros(shape.outputs, np.int64)
    sums = [core for core in mapping.cores if core.role == "sums"]
    for core in sums or own:
        sources[core.neurons] += 1
    assert (sources == 1).all(), "each output leaves from one core"
    down, across = shape.positions
    pixels = np.arange(shape.inputs).reshape(shape.image)
    for core in own:
        position = core.neurons % (down * across)
        rows, columns = position // across, position % across
        inside = np.zeros(shape.inputs, bool)
        inside[core.axons] = True
        part = np.unique(core.axons // (height * width))
        for y, x in {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)}:
            window = pixels[
                part,
                max(y * stride - 1, 0) : y * stride + 2,
                max(x * stride - 1, 0) : x * stride + 2,
            ]
            assert inside[window].all(), "a neuron's inputs reach its core"


def test_a_folded_convolution_takes_fewer_cores_and_more_phases() -> None:
    shape = ConvolutionShape(name="it", image=(8, 28, 28), channels=16)
    folded = ConvolutionShape(name="it", image=(8, 28, 28), channels=16, fold="folded")
    wide, narrow = map_network([shape], CHIP, most_chips=5), map_network([folded], CHIP)
    passes = narrow.cores[0].passes
    assert passes > 1
    assert len(narrow.cores) * passes == len(wide.cores)
    for core in narrow.cores:
        assert core.fan_in <= 256
        assert core.fan_out * passes >= len(core.neurons)
    assert max(c.operations for c in narrow.cores) == max(c.operations for c in wide.cores)
    outputs = np.concatenate([core.neurons for core in narrow.cores])
    assert sorted(outputs.tolist()) == list(range(shape.outputs))


def test_what_does_not_fit_is_named_with_rule_and_layer() -> None:
    with pytest.raises(RuleError, match="rule 'cores', layer 'layer 1'") as caught:
        map_network(dense(784, 2000, 8000, 10), CHIP)
    assert (caught.value.rule, caught.value.layer) == ("cores", "layer 1")
    assert map_network(dense(784, 2000, 8000, 10), CHIP, most_chips=4).chips == 3
    small = CHIP.changed(phase_clocks=1000)
    with pytest.raises(RuleError, match="rule 'phase', layer 'layer 0'"):
        map_network(dense(256, 256), small)
    with pytest.raises(RuleError, match="rule 'fan-in', layer 'it'"):
        map_network(
            [ConvolutionShape(name="it", image=(1, 9, 9), channels=1)], CHIP.changed(fan_in=8)
        )
    with pytest.raises(RuleError, match="rule 'synapses'"):
        map_network(dense(256, 256), CHIP.changed(core_synapses=1000))
    with pytest.raises(ValueError, match="different names"):
        map_network([*dense(4, 4), *dense(4, 4)], CHIP)


def test_needed_cores_are_those_that_the_weights_would_fill() -> None:
    """784-512-10: 406,528 weights, of which a core holds 65,536."""
    shapes = [
        DenseShape(name="first", inputs=784, outputs=512),
        DenseShape(name="last", inputs=512, outputs=10),
    ]
    mapping = map_network(shapes, CHIP)
    assert (mapping.needed, len(mapping.cores)) == (7, 13)


def test_both_readings_of_the_memory_are_reported() -> None:
    """A full core holds 64 KB of weights, more than 22 KB; a small one fits both."""
    full, small = map_network(dense(256, 256), CHIP), map_network(dense(100, 100), CHIP)
    assert full.weight_bytes().tolist() == [65_536]
    assert not full.fits_sram().any()
    assert small.fits_sram().all()


def test_a_local_module_costs_cores_by_lag() -> None:
    """784 inputs: four coincidence cores and one for scores at each lag, copies, products."""
    (shape,) = dense(784, 512, local=LocalShape(lags=4))
    mapping = map_network([shape], CHIP)
    counts = {role: mapping.count(role=role) for role in ("coincidences", "scores")}
    assert counts == {"coincidences": 16, "scores": 4}
    assert mapping.count(role="synapses") == 8
    assert mapping.count(role="copies") == mapping.count(role="sums") == 2
    assert mapping.count(role="products") == 2


NETWORKS: list[list[Shape]] = [
    [*dense(784, 512, 10)],
    [*dense(784, 512, 300, local=LocalShape(lags=4))],
    [*dense(600, 300, local=LocalShape(lags=2, per_synapse=True), carried=True)],
    [
        ConvolutionShape(name="first", image=(1, 31, 31), channels=16, stride=2),
        ConvolutionShape(name="second", image=(16, 16, 16), channels=64, stride=2),
        DenseShape(name="last", inputs=4096, outputs=10),
    ],
    [
        ConvolutionShape(name="first", image=(1, 16, 16), channels=8, fold="folded"),
        DenseShape(name="last", inputs=2048, outputs=5),
    ],
    [*dense(200, 100, 10, local=LocalShape(lags=3))],
]


@pytest.mark.parametrize("shapes", NETWORKS)
def test_packets_are_conserved_and_take_the_shortest_way(shapes: list[Shape]) -> None:
    """At each node, what leaves more than comes in is what its cores send more than they get."""
    mapping = map_network(shapes, CHIP, most_chips=4)
    shares = rates(mapping, 0.5)
    found = traffic(mapping, shares)
    surplus: Counter[tuple[int, int]] = Counter()
    for (start, end), count in found.links.items():
        surplus[start] += count
        surplus[end] -= count
        assert abs(start[0] - end[0]) + abs(start[1] - end[1]) == 1
    expected: Counter[tuple[int, int]] = Counter()
    hops = 0.0
    for flow in flows(mapping):
        start = PORT if flow.source is None else node(mapping, mapping.places[flow.source])
        end = node(mapping, mapping.places[flow.target])
        count = load(flow, shares)
        expected[start] += count
        expected[end] -= count
        hops += count * (abs(start[0] - end[0]) + abs(start[1] - end[1]))
    for place in {*surplus, *expected}:
        assert surplus[place] == pytest.approx(expected[place], abs=1e-6)
    assert found.hops == pytest.approx(hops)
    for a, b in product(mapping.places[:20], mapping.places[-20:]):
        path = route(node(mapping, a), node(mapping, b))
        assert (path[0], path[-1]) == (node(mapping, a), node(mapping, b))


@pytest.mark.parametrize("shapes", NETWORKS)
def test_every_core_gets_all_that_it_takes_in(shapes: list[Shape]) -> None:
    """Inputs from the port or the layer before; partial sums, scores, potentials, products."""
    mapping = map_network(shapes, CHIP, most_chips=4)
    cores = mapping.cores
    outer: dict[int, list[int]] = {}
    inner: dict[int, Counter[str]] = {}
    for flow in flows(mapping):
        if flow.source is None or cores[flow.source].layer != cores[flow.target].layer:
            outer.setdefault(flow.target, []).extend(flow.senders.tolist())
        else:
            role = cores[flow.source].role
            inner.setdefault(flow.target, Counter())[role] += len(flow.senders)
    shaped = {shape.name: shape for shape in mapping.shapes}
    for i, core in enumerate(cores):
        if core.weights:
            assert sorted(outer[i]) == sorted(core.axons.tolist()), "each input once"
            continue
        assert i not in outer
        got, shape = inner[i], shaped[core.layer]
        if core.role in ("sums", "copies"):
            local = getattr(shape, "local", None) is not None
            tiles_of = [c for c in cores if c.layer == core.layer and c.role == "synapses"]
            shared = sum(len(np.intersect1d(c.neurons, core.neurons)) for c in tiles_of)
            assert got["synapses"] == shared >= len(core.neurons)
            assert got["carried"] == (shared if getattr(shape, "carried", False) else 0)
            assert got["products"] == (len(core.neurons) if local else 0)
        if core.role == "products":
            scores = got["scores"] or got["coincidences"]
            per_synapse = shape.local.per_synapse  # type: ignore[union-attr]
            assert got["copies"] == len(core.neurons)
            assert scores == len(core.axons) * (len(core.neurons) if per_synapse else 1)


def test_silent_neurons_send_nothing() -> None:
    mapping = map_network(dense(256, 256, 256), CHIP)
    assert traffic(mapping, rates(mapping, 0.0)).packets == 0
    # A quarter of 256 inputs, and of 256 neurons; the last layer's spikes go nowhere.
    assert traffic(mapping, rates(mapping, 0.25)).packets == pytest.approx(128.0)
