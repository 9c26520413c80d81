"""Layers on cores: nothing lost, nothing too large, packets that arrive."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.mapping import Mapping, RuleError, busy_clocks, map_network
from hybrid.tianjic.routing import flows, node, route, traffic
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape, Shape

CHIP = load_chip()


def dense(*sizes: int, **options: object) -> list[DenseShape]:
    return [
        DenseShape(name=f"layer {i}", inputs=a, outputs=b, **options)  # type: ignore[arg-type]
        for i, (a, b) in enumerate(pairwise(sizes))
    ]


def rates(mapping: Mapping, value: float = 1.0) -> dict[str, np.ndarray]:
    return {shape.name: np.full(shape.outputs, value) for shape in mapping.shapes}


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
        assert core.operations <= 65_536
        assert busy_clocks(core, CHIP) <= CHIP.phase_clocks
        if core.role in ("synapses", "carried", "copies", "coincidences"):
            assert len(core.axons) <= 256
        if core.role in ("synapses", "carried", "copies"):
            seen = covered.setdefault(core.role, np.zeros((inputs, outputs), np.int64))
            seen[np.ix_(core.axons, core.neurons)] += 1
    assert {"synapses"} | ({"carried"} if carried else set()) | (
        {"copies"} if lags else set()
    ) == set(covered)
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
    assert sum(core.operations for core in own) == shape.synapses
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
    assert mapping.count(role="copies") == mapping.count(role="synapses") == 8
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
]


@pytest.mark.parametrize("shapes", NETWORKS)
def test_packets_are_conserved_and_take_the_shortest_way(shapes: list[Shape]) -> None:
    mapping = map_network(shapes, CHIP, most_chips=4)
    found = traffic(mapping, rates(mapping))
    assert found.packets == found.arrived > 0
    assert sum(found.links.values()) == pytest.approx(found.hops)
    assert found.busiest <= found.packets
    for a, b in product(mapping.places[:20], mapping.places[-20:]):
        (x, y), (to_x, to_y) = node(mapping, a), node(mapping, b)
        path = route(mapping, a, b)
        assert len(path) - 1 == abs(to_x - x) + abs(to_y - y)
        assert path[0] == (x, y)
        assert path[-1] == (to_x, to_y)


@pytest.mark.parametrize("shapes", NETWORKS)
def test_every_core_is_reached_and_every_input_is_sent(shapes: list[Shape]) -> None:
    """Each input of a layer behind the first comes from the layer before."""
    mapping = map_network(shapes, CHIP, most_chips=4)
    sent: dict[int, set[int]] = {}
    for flow in flows(mapping):
        if mapping.cores[flow.source].layer != mapping.cores[flow.target].layer:
            sent.setdefault(flow.target, set()).update(flow.senders.tolist())
    first = mapping.shapes[0].name
    for i, core in enumerate(mapping.cores):
        if core.layer != first and core.role in ("synapses", "carried", "copies"):
            assert sent[i] == set(core.axons.tolist())
    reached = {flow.target for flow in flows(mapping)}
    inner = {"sums", "scores", "products"}
    assert {i for i, core in enumerate(mapping.cores) if core.role in inner} <= reached


def test_silent_neurons_send_nothing() -> None:
    mapping = map_network(dense(256, 256, 256), CHIP)
    assert traffic(mapping, rates(mapping, 0.0)).packets == 0
    assert traffic(mapping, rates(mapping, 0.25)).packets == pytest.approx(64.0)
