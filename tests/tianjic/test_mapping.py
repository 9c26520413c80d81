"""Layers on cores: nothing lost, nothing too large, packets that arrive."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.mesh import Mesh, route, tree
from hybrid.tianjic.placement import placed
from hybrid.tianjic.routing import INPUT, Multicast, flows, multicasts, streams, traffic
from hybrid.tianjic.rules import Memory, RuleError, busy_clocks
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape, Shape
from tests.tianjic.test_mesh import slow_drain

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
    ("sizes", "weighing", "adding"),
    [
        ((784, 512, 10), 8 + 2, 8 + 1),
        ((2312, 512, 10), 20 + 2, 21 + 1),
        ((784, 1024, 1024, 10), 16 + 16 + 4, 16 + 16 + 1),
        ((512, 5), 2, 1),
    ],
)
def test_the_papers_networks_take_so_many_cores(
    sizes: tuple[int, ...], weighing: int, adding: int
) -> None:
    """ceil(in / 256) · ceil(out / 256) weigh; of R partial sums a core adds those of 256 / R."""
    mapping = map_network(dense(*sizes), CHIP)
    assert (mapping.count(role="synapses"), mapping.count(role="sums")) == (weighing, adding)
    assert len(mapping.cores) == weighing + adding
    assert mapping.chips == 1


def kept_rules(mapping: Mapping, memory: Memory) -> None:
    """Assert that no core takes, sends, computes or keeps more than there is: no exemption."""
    for core, weights, kept in zip(
        mapping.cores, mapping.weight_bytes(), mapping.kept_bytes(), strict=True
    ):
        assert core.numbers <= 256
        assert core.sends <= 256
        assert busy_clocks(core, CHIP) <= CHIP.phase_clocks
        if memory == "narrow":
            assert kept <= 22_000
        else:
            assert weights <= 65_536
            assert kept - weights <= 22_000


def numbers_that_arrive(mapping: Mapping) -> dict[int, float]:
    """Return how many numbers each core is sent for one phase of what it does, at most.

    A folded core is sent what it needs over its phases; borders of rows are in two of them.
    """
    found: dict[int, float] = defaultdict(float)
    if any(core.folds > 1 for core in mapping.cores):
        for cast in multicasts(mapping):
            for target in cast.targets:
                found[target] += len(cast.senders) * cast.share
        return found
    for flow in flows(mapping):
        found[flow.target] += len(flow.senders)
    return found


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 3000),
    outputs=st.integers(1, 1500),
    lags=st.integers(0, 9),
    times=st.integers(1, 5),
    graded=st.booleans(),
    per_synapse=st.booleans(),
    carried=st.booleans(),
    memory=st.sampled_from(["wide", "narrow"]),
)
def test_no_core_is_too_full_and_no_synapse_is_lost(
    inputs: int,
    outputs: int,
    lags: int,
    times: int,
    graded: bool,
    per_synapse: bool,
    carried: bool,
    memory: Memory,
) -> None:
    local = LocalShape(lags=lags, per_synapse=per_synapse, times=times) if lags else None
    shape = DenseShape(
        name="it", inputs=inputs, outputs=outputs, graded=graded, local=local, carried=carried
    )
    mapping = map_network([shape], CHIP, most_chips=30, memory=memory)
    kept_rules(mapping, memory)
    arriving = numbers_that_arrive(mapping)
    for number, core in enumerate(mapping.cores):
        assert arriving[number] <= core.numbers <= 256, core.role
    covered: dict[str, np.ndarray] = {}
    for core in mapping.cores:
        if core.role in ("synapses", "carried", "sums", "copies"):
            seen = covered.setdefault(core.role, np.zeros((inputs, outputs), np.int64))
            seen[np.ix_(core.axons, core.neurons)] += 1
    assert {"carried", "copies"} & set(covered) == {
        role for role, there in (("carried", carried), ("copies", lags > 0)) if there
    }
    assert ("sums" in covered) == (
        carried or lags > 0 or mapping.count(role="synapses") > -(-outputs // 256)
    ) or memory == "narrow"
    assert all((seen == 1).all() for seen in covered.values())
    assert len(set(mapping.places)) == len(mapping.cores)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 40),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    out=st.integers(1, 300),
    stride=st.integers(1, 2),
    kernel=st.sampled_from([1, 3, 5]),
    memory=st.sampled_from(["wide", "narrow"]),
)
def test_a_convolution_loses_no_synapse(
    channels: int, height: int, width: int, out: int, stride: int, kernel: int, memory: Memory
) -> None:
    """Every pair of pixel and position that the kernel connects lies in just one core."""
    shape = ConvolutionShape(
        name="it", image=(channels, height, width), channels=out, stride=stride, kernel=kernel
    )
    folded = map_network([replace(shape, fold="folded")], CHIP, most_chips=100, memory=memory)
    outputs = [core.neurons for core in folded.cores if core.role == "sums"]
    outputs = outputs or [core.neurons for core in folded.cores]
    assert sorted(np.concatenate(outputs).tolist()) == list(range(shape.outputs))
    kept_rules(folded, memory)
    assert max(numbers_that_arrive(folded).values()) <= 256.01, "of a phase"
    mapping = map_network([shape], CHIP, most_chips=100, memory=memory)
    kept_rules(mapping, memory)
    arriving, reach = numbers_that_arrive(mapping), kernel // 2
    assert all(arriving[i] <= core.numbers for i, core in enumerate(mapping.cores))
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
                max(y * stride - reach, 0) : y * stride + reach + 1,
                max(x * stride - reach, 0) : x * stride + reach + 1,
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
        assert core.numbers <= 256
        assert core.sends * passes >= len(core.neurons)
    assert max(c.operations for c in narrow.cores) == max(c.operations for c in wide.cores)
    outputs = np.concatenate([core.neurons for core in narrow.cores])
    assert sorted(outputs.tolist()) == list(range(shape.outputs))


def test_what_does_not_fit_is_named_with_rule_and_layer() -> None:
    with pytest.raises(RuleError, match="rule 'cores', layer 'layer 1'") as caught:
        map_network(dense(784, 2000, 8000, 10), CHIP)
    assert (caught.value.rule, caught.value.layer) == ("cores", "layer 1")
    assert map_network(dense(784, 2000, 8000, 10), CHIP, most_chips=4).chips == 4
    assert len(map_network(dense(256, 256), CHIP.changed(phase_clocks=1000)).cores) > 4, (
        "tiled anew"
    )
    with pytest.raises(RuleError, match="rule 'phase', layer 'layer 0'"):
        map_network(dense(256, 256), CHIP.changed(phase_clocks=1))
    with pytest.raises(RuleError, match="rule 'fan-in', layer 'it'"):
        map_network(
            [ConvolutionShape(name="it", image=(1, 9, 9), channels=1)], CHIP.changed(fan_in=8)
        )
    with pytest.raises(RuleError, match="rule 'memory'"):
        map_network(dense(256, 256), CHIP.changed(core_sram=5), memory="narrow")
    with pytest.raises(RuleError, match="256 lags and a potential"):
        map_network(dense(9, 9, local=LocalShape(lags=256)), CHIP)
    with pytest.raises(ValueError, match="different names"):
        map_network([*dense(4, 4), *dense(4, 4)], CHIP)
    with pytest.raises(ValueError, match="layer 'b' takes 5 inputs, layer 'a' before it gives 4"):
        map_network(
            [
                DenseShape(name="a", inputs=3, outputs=4),
                DenseShape(name="b", inputs=5, outputs=2),
            ],
            CHIP,
        )
    with pytest.raises(ValueError, match="memory = 'large'"):
        map_network(dense(4, 4), CHIP, memory="large")  # type: ignore[arg-type]


def test_needed_cores_are_those_that_the_weights_would_fill() -> None:
    """784-512-10: 406,528 weights, of which a core holds 65,536."""
    shapes = [
        DenseShape(name="first", inputs=784, outputs=512),
        DenseShape(name="last", inputs=512, outputs=10),
    ]
    mapping = map_network(shapes, CHIP)
    assert (mapping.needed, len(mapping.cores)) == (7, 19)


def test_both_readings_of_the_memory_are_reported() -> None:
    """A full core holds 64 KB of weights, more than 22 KB; a small one fits both."""
    full, small = map_network(dense(256, 256), CHIP), map_network(dense(100, 100), CHIP)
    assert full.weight_bytes().tolist() == [65_536]
    # Spikes twice, as some come in while others are used; for each neuron a sum, its potential,
    # its bias, and what its threshold has risen by.
    assert full.kept_bytes().tolist() == [65_536 + 2 * 32 + 256 * (4 + 3 * 4)]
    assert not full.fits_sram().any()
    assert small.fits_sram().all()


def test_what_does_not_fit_22_kb_is_tiled_anew() -> None:
    """784-512-10 by hand: 401,408 bytes of weights at about 20 KB a core make 20 cores or more."""
    mapping = map_network(dense(784, 512, 10), CHIP, memory="narrow")
    assert mapping.fits_sram().all()
    assert 20 <= mapping.count("layer 0", "synapses") <= 22
    fewer = map_network(dense(784, 512, 10), CHIP.changed(weight_bits=4), memory="narrow")
    assert fewer.count("layer 0", "synapses") <= 11, "bits of weights change what fits"


def test_a_local_module_works_for_all_lags_unless_synapses_differ() -> None:
    """784 inputs: four coincidence cores, one for scores; with factors, matrices for each lag."""
    (shape,) = dense(784, 512, local=LocalShape(lags=4))
    mapping = map_network([shape], CHIP)
    assert mapping.count(role="coincidences") == 4
    assert mapping.count(role="scores") == 1
    assert mapping.count(role="synapses") == 8
    # Four partial sums and a local current of each neuron: 51 of them to a core.
    assert mapping.count(role="copies") == mapping.count(role="sums") == 11
    assert mapping.count(role="products") == 3, "252 potentials beside four scores"
    (each,) = dense(784, 512, local=LocalShape(lags=4, per_synapse=True))
    assert map_network([each], CHIP).count(role="coincidences") == 4 * 8


def test_each_step_of_a_local_module_names_its_operations() -> None:
    """P02 to P08 and P41: what a published primitive does, in the order of phases."""
    named = {"P02", "P03", "P04", "P05", "P06", "P07", "P08", "P41"}
    for per_synapse in (False, True):
        (shape,) = dense(784, 512, local=LocalShape(lags=4, per_synapse=per_synapse), carried=True)
        mapping = map_network([shape], CHIP)
        for core in mapping.cores:
            assert core.primitives
            for step in core.primitives:
                assert set(step.split(", ")) <= named
        roles = {core.role: core.primitives for core in mapping.cores}
        assert roles["copies"] == ("P02, P08", "P02, P07")
        assert roles["carried"] == ("P04, P07",)
        assert roles["coincidences"][0] == "P03, P06"


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
def test_what_is_sent_together_is_what_each_core_needs(shapes: list[Shape]) -> None:
    """Multicasts are the flows: each number once to each core that takes it."""
    mapping = map_network(shapes, CHIP, most_chips=4)
    sent: Counter[tuple[object, ...]] = Counter()
    for cast in multicasts(mapping):
        for target, sender in product(cast.targets, cast.senders.tolist()):
            sent[cast.source, target, sender, cast.active] += 1
    needed: Counter[tuple[object, ...]] = Counter()
    for flow in flows(mapping):
        for sender in flow.senders.tolist():
            needed[flow.source, flow.target, sender, flow.active] += 1
    assert sent == needed
    assert set(sent.values()) == {1}


@pytest.mark.parametrize("shapes", NETWORKS)
def test_packets_pass_each_link_of_their_tree_once(shapes: list[Shape]) -> None:
    """Loads and hops add up, and a copy is made only where ways part."""
    mapping = map_network(shapes, CHIP, most_chips=4)
    shares = rates(mapping, 0.5)
    found = traffic(mapping, shares)
    loads: Counter[object] = Counter()
    packets = hops = alone = 0.0
    for cast in multicasts(mapping):
        count = cast.expected(shares, CHIP.packet_bytes)
        ways = [list(pairwise(route(cast.start, end))) for end in cast.ends]
        links = {link for way in ways for link in way}
        assert links == tree(cast.start, cast.ends)
        packets, hops = packets + count, hops + count * len(links)
        alone += count * sum(map(len, ways))
        loads.update(dict.fromkeys(links, count))
        entered = Counter(end for _, end in links)
        assert set(entered.values()) <= {1}, "a tree: no node is entered twice"
    assert found.packets == pytest.approx(packets)
    assert found.hops == pytest.approx(hops)
    assert found.hops <= alone
    assert found.busiest == pytest.approx(max(loads.values()))
    for link, load in found.links.items():
        assert load == pytest.approx(loads[link])


@pytest.mark.parametrize("shapes", NETWORKS)
def test_cores_lie_near_those_they_talk_to(shapes: list[Shape]) -> None:
    """At least 30 % fewer hops than row after row, and each place is taken once."""
    mapping = map_network(shapes, CHIP, most_chips=4)
    better = placed(mapping)
    assert len(set(better.places)) == len(mapping.cores)
    assert better.chips <= mapping.chips
    assert better.cores == mapping.cores
    shares = rates(mapping, 0.5)
    assert traffic(better, shares).hops <= 0.7 * traffic(mapping, shares).hops
    assert placed(mapping).places == better.places


@settings(max_examples=20, deadline=None)
@given(
    first=st.integers(30, 900),
    second=st.integers(30, 600),
    lags=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_a_phase_drains_as_on_a_slow_mesh(first: int, second: int, lags: int, seed: int) -> None:
    """Within 5 % of the mesh that moves packet by packet, for whole mapped networks."""
    local = LocalShape(lags=lags) if lags else None
    mapping = map_network(dense(first, second, 10, local=local), CHIP)
    mapping = placed(mapping) if seed % 2 else mapping
    source = np.random.default_rng(seed)
    casts, made = streams(mapping, source.integers(0, 300, len(mapping.cores)))
    packets = [drawn(cast, source) for cast in casts]
    mesh = Mesh.of(CHIP, mapping.chips)
    found = mesh.drain(made, np.array([packets]))
    last, loads = slow_drain(mesh, made, packets)
    assert found.clocks[0] == pytest.approx(last, rel=0.05)
    assert {link: int(load[0]) for link, load in found.links.items()} == dict(loads)


def drawn(cast: Multicast, source: np.random.Generator) -> int:
    """Return the packets of a phase in which a random share is active."""
    most = cast.packets(CHIP.packet_bytes)
    return most if cast.active is None else int(source.binomial(most, 0.3))


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
        if core.role == "scores":
            rows = sum(
                c.layer == core.layer and c.role == "coincidences" and core.lag in (None, c.lag)
                for c in cores
            )
            per_tile = len(core.neurons)
            assert got["coincidences"] % per_tile == 0
            assert got["coincidences"] <= rows * per_tile


def test_silent_neurons_send_nothing() -> None:
    mapping = map_network(dense(256, 256, 256), CHIP)
    assert traffic(mapping, rates(mapping, 0.0)).packets == 0
    # A quarter of 256 inputs, and of 256 neurons; the last layer's spikes go nowhere.
    assert traffic(mapping, rates(mapping, 0.25)).packets == pytest.approx(128.0)
