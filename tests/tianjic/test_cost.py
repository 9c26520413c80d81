"""Time, energy and counts of operations: sums done by hand, and what must never happen."""

from dataclasses import replace

import numpy as np
import pytest

from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.cost import (
    Cost,
    as_text,
    core_events,
    cost,
    deciding,
    energy_range,
    loading,
    operations,
    timing,
    write_back,
)
from hybrid.tianjic.mapping import Mapping, map_network
from hybrid.tianjic.shapes import ConvolutionShape, DenseShape, LocalShape

CHIP = load_chip()
FIRST = DenseShape(name="first", inputs=784, outputs=512)
LAST = DenseShape(name="last", inputs=512, outputs=10)


def rates(mapping: Mapping, value: float) -> dict[str, np.ndarray]:
    found = {shape.name: np.full(shape.inputs, value) for shape in mapping.shapes}
    return found | {"output": np.full(mapping.shapes[-1].outputs, value)}


def spent(*shapes: DenseShape, rate: float = 1.0, steps: int = 10) -> Cost:
    mapping = map_network(shapes, CHIP, most_chips=3)
    return cost(mapping, rates(mapping, rate), steps)


def test_the_worked_example() -> None:
    """784-512-10, ten steps, 19 cores: 190 core phases of 247; dense slots at 1.54 pJ."""
    found = spent(FIRST, LAST)
    assert (found.cores, found.core_phases) == (19, 190)
    seconds, full = found.timing.latency, 65_536 * 1.5625e-12
    most = 0.155 * CHIP.full_power * seconds
    assert found.energy.busy == pytest.approx(most + 19 * 13 * full)
    assert found.energy.naive == pytest.approx(4_065_280 / 649e9)
    idle = CHIP.idle_share * (19 * 13 - 190)
    gated = CHIP.gating * (190 + idle) * full + (1.0 - CHIP.gating) * found.energy.naive
    static = 0.1 * CHIP.full_power * seconds
    assert found.energy.gated == pytest.approx(static + 0.9 * gated)
    assert found.timing.depth == 4  # two layers, each with a phase that adds partial sums
    assert found.timing.phases == 13
    assert found.timing.latency == pytest.approx(13 * 5050 / 300e6)
    assert found.timing.throughput == pytest.approx(300e6 / 5050 / 10)
    assert spent(FIRST, LAST, rate=0.2).energy.naive == pytest.approx(0.2 * found.energy.naive)


def test_operations_are_counted_as_neurobench_does() -> None:
    """Zeros cost nothing, spikes are additions, numbers of 8 bits multiplications."""
    graded = replace(FIRST, graded=True)
    mapping = map_network([graded, LAST], CHIP)
    found = operations(mapping, {"first": np.full(784, 0.5), "last": np.full(512, 0.25)}, 4)
    assert found.dense == 4 * (784 * 512 + 512 * 10)
    assert found.macs == 4 * 392 * 512
    assert found.acs == 4 * 128 * 10
    assert found.updates == 4 * 522
    sparse = map_network([replace(graded, density=0.1), LAST], CHIP)
    less = operations(sparse, {"first": np.full(784, 0.5), "last": np.full(512, 0.25)}, 4)
    assert less.macs == pytest.approx(0.1 * found.macs)
    assert less.dense == found.dense


def test_events_of_cores_add_up_to_operations() -> None:
    """Each synapse that meets a spike lies in one core."""
    mapping = map_network([FIRST, LAST], CHIP)
    generator = np.random.default_rng(3)
    seen = {"first": generator.random(784), "last": generator.random(512)}
    per_core = core_events(mapping, seen)
    assert per_core.sum() == pytest.approx(seen["first"].sum() * 512 + seen["last"].sum() * 10)
    assert (per_core > 0).sum() == mapping.count(role="synapses")


def test_a_query_meets_the_whole_support() -> None:
    """Five lags of 512 x 5 synapses in its only step."""
    local = LocalShape(lags=5, per_synapse=True, filled=True)
    shape = DenseShape(name="it", inputs=512, outputs=5, graded=True, local=local)
    found = operations(map_network([shape], CHIP), {"it": np.ones(512)}, 1)
    assert found.macs == 512 * 5 + 5 * (512 + 512 * 5 + 5)
    assert found.dense == found.macs


def test_latency_does_not_depend_on_activity_but_energy_does() -> None:
    sparse, dense = spent(FIRST, LAST, rate=0.1), spent(FIRST, LAST, rate=0.9)
    assert sparse.timing == dense.timing
    assert sparse.energy.busy == dense.energy.busy
    for energy in (sparse.energy, dense.energy):
        assert energy.naive < energy.gated < energy.busy
    assert sparse.energy.gated < dense.energy.gated
    assert sparse.energy.naive < dense.energy.naive


def test_more_is_never_cheaper() -> None:
    """More steps, a second matrix, a local module, more lags, more neurons."""
    base = spent(FIRST, LAST, rate=0.3)
    carried = spent(replace(FIRST, carried=True), LAST, rate=0.3)
    short = spent(replace(FIRST, local=LocalShape(lags=2)), LAST, rate=0.3)
    long = spent(replace(FIRST, local=LocalShape(lags=4)), LAST, rate=0.3)
    for less, more in (
        (base, carried),
        (base, short),
        (short, long),
        (base, spent(FIRST, LAST, rate=0.3, steps=11)),
        (base, spent(replace(FIRST, outputs=600), replace(LAST, inputs=600), rate=0.3)),
    ):
        assert more.core_phases >= less.core_phases
        assert more.energy.busy >= less.energy.busy
        assert more.energy.gated > less.energy.gated
        assert more.energy.naive > less.energy.naive


def test_a_local_module_lengthens_the_way_and_the_step() -> None:
    """784 inputs: coincidences 2, scores 2, products 1, sums 1; then the last layer's two phases.

    What a step leads to passes tables, products and sums before the next one: three phases a step,
    four where scores are neurons'; the newest steps left out, two, as coincidences take two.
    """

    def phases(inputs: int, delay: int, *, per_synapse: bool = False) -> tuple[int, int, int]:
        local = LocalShape(lags=4, delay=delay, per_synapse=per_synapse)
        shape = replace(FIRST, inputs=inputs, local=local)
        found = timing(map_network([shape, LAST], CHIP), 10, CHIP.phase)
        return found.depth, found.phases_per_step, found.phases

    assert phases(784, 0) == (8, 3, 8 + 9 * 3)
    assert phases(784, 1) == (8, 2, 8 + 9 * 2)
    assert phases(200, 0) == (8, 3, 8 + 9 * 3)
    assert phases(784, 0, per_synapse=True) == (8, 4, 8 + 9 * 4)
    assert phases(200, 0, per_synapse=True) == (7, 4, 7 + 9 * 4)


def test_a_folded_convolution_takes_its_passes_in_each_step() -> None:
    shape = ConvolutionShape(name="it", image=(8, 28, 28), channels=16, fold="folded")
    mapping = map_network([shape], CHIP)
    passes = mapping.cores[0].passes
    found = timing(mapping, 4, CHIP.phase)
    assert found.phases_per_step == passes
    assert found.phases == found.depth + 3 * passes
    spent_here = cost(mapping, rates(mapping, 0.5), 4)
    assert spent_here.core_phases == 4 * passes * len(mapping.cores)


def test_ranges_come_from_what_is_uncertain() -> None:
    mapping = map_network([FIRST, LAST], CHIP)
    seen = rates(mapping, 0.2)
    spent_here = cost(mapping, seen, 10)
    found = energy_range(spent_here, CHIP, draws=300, source=np.random.default_rng(1))
    low, middle, high = found["gated"]
    assert low < middle < high
    assert low < spent_here.energy.gated < high
    assert found["naive"][2] < 1.02 * found["naive"][0], "only how efficiencies were rounded"
    assert spent_here.energy_on(CHIP) == spent_here.energy
    with pytest.raises(ValueError, match="draws = 0"):
        energy_range(spent_here, CHIP, draws=0, source=np.random.default_rng(1))


def test_a_phase_holds_the_busiest_core_and_the_last_packet() -> None:
    """A full core computes for 4,096 + 256 clocks of 5,050; then what it sends has to arrive."""
    mapping = map_network([replace(FIRST, inputs=256, outputs=256)], CHIP)
    (plan,) = [cost(mapping, rates(mapping, 1.0), 1).schedule]
    assert plan.computing == 4096 + 256
    assert plan.worst == plan.computing, "its spikes leave the network"
    assert plan.clocks == CHIP.phase_clocks
    assert plan.stretch == 1.0
    long = cost(map_network([FIRST, LAST], CHIP), rates(mapping, 1.0) | dict_of(FIRST, LAST), 10)
    assert long.schedule.computing < long.schedule.worst <= long.schedule.clocks


def dict_of(*shapes: DenseShape) -> dict[str, np.ndarray]:
    return {shape.name: np.full(shape.inputs, 1.0) for shape in shapes} | {
        "output": np.ones(shapes[-1].outputs)
    }


def test_an_overrun_stretches_time_and_costs_energy() -> None:
    """Packets that take forty clocks a hop do not arrive within Tianjic's phase."""
    slow = CHIP.changed(hop_clocks=40)
    shapes, seen = [FIRST, LAST], dict_of(FIRST, LAST)
    plain = cost(map_network(shapes, CHIP), seen, 10)
    late = cost(map_network(shapes, slow), seen, 10)
    assert plain.schedule.stretch == 1.0
    assert late.schedule.stretch > 1.05
    assert late.schedule.worst == late.schedule.clocks
    assert late.timing.latency > 1.05 * plain.timing.latency
    assert late.timing.throughput < plain.timing.throughput / 1.05
    for model in ("busy", "gated"):
        assert getattr(late.energy, model) > getattr(plain.energy, model)
    assert late.energy.naive == plain.energy.naive
    assert "stretched" in as_text(late, seen, {})
    assert "it fits" in as_text(plain, seen, {})


def test_links_between_chips_cost_time_and_energy() -> None:
    """A network on two chips: their border is slower, and each packet across it costs."""
    small, wide = CHIP.changed(cores=16, mesh_width=4, mesh_height=4), (FIRST, LAST)
    mapping = map_network(wide, small, most_chips=3)
    assert mapping.chips > 1
    spent_here = cost(mapping, dict_of(*wide), 2)
    assert spent_here.traffic.borders > 0.0
    dear = small.changed(border_energy=1e-9)
    more = spent_here.energy_on(dear).gated - spent_here.energy.gated
    extra = 2 * spent_here.traffic.borders * (1e-9 - small.border_energy)
    assert more == pytest.approx(extra)
    slow = cost(map_network(wide, small.changed(border_clocks=16), most_chips=3), dict_of(*wide), 2)
    assert slow.schedule.worst > spent_here.schedule.worst


def test_in_a_pipeline_less_time_is_paid_for() -> None:
    """Of a short inference: the phases that it waits for its answer belong to the next one."""
    found = spent(FIRST, LAST, rate=0.2, steps=2)
    assert found.timing.apart < found.timing.phases
    for model in ("busy", "gated"):
        assert getattr(found.pipelined, model) < getattr(found.energy, model)
    assert found.pipelined.naive == found.energy.naive


def test_what_decides_an_energy_is_ranked() -> None:
    """Of a small network, what the chip draws anyway; with no range for that, something else."""
    found = spent(FIRST, LAST, rate=0.2)
    shares = deciding(found, CHIP, samples=128)
    assert next(iter(shares)) == "static_share"
    assert shares["static_share"] > 0.5
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    certain = deciding(found, CHIP.changed(static_share=0.1), samples=128)
    assert "static_share" not in certain
    assert next(iter(certain)) == "gating"
    names = {"gating": 0.7, "idle_share": 0.5, "packet_energy": 0.0, "update_energy": 0.0}
    names |= {"border_energy": 0.0, "ann_efficiency": 1.28e12, "snn_efficiency": 649e9}
    assert deciding(found, CHIP.changed(**names)) == {"static_share": 1.0}
    assert deciding(found, CHIP.changed(**names, static_share=0.1)) == {}


def test_a_history_is_less_than_a_host_that_rewrites_synapses() -> None:
    """784 x 512, ten steps, a fifth of the inputs active: what each adds to the plain network."""
    written = write_back(FIRST, 0.2, CHIP, 10)
    assert written["operations"] == pytest.approx(10 * 401_408 * 1.2)
    assert written["bytes"] == 10 * 401_408
    assert written["packets"] == written["bytes"] / 8 + 10 * (0.2 * 784 + 512)
    assert written["seconds"] == pytest.approx(written["packets"] / (4 * 300e6))
    mapping = map_network([replace(FIRST, local=LocalShape(lags=9))], CHIP)
    seen = {"first": np.full(784, 0.2)}
    plain = operations(map_network([FIRST], CHIP), seen, 10)
    whole = operations(mapping, seen, 10)
    history = whole.macs + whole.acs - plain.macs - plain.acs
    assert history == pytest.approx(45 * (2 * 0.2 * 784 + 512))
    often = replace(FIRST, local=LocalShape(lags=9, times=3))
    more = operations(map_network([often], CHIP), seen, 10)
    assert more.macs + more.acs - whole.macs - whole.acs == pytest.approx(45 * 2 * 512)
    assert history < written["operations"] / 100


def test_weights_are_loaded_byte_by_byte() -> None:
    found = loading(map_network([FIRST, LAST], CHIP))
    assert found["bytes"] == 784 * 512 + 512 * 10
    assert found["seconds"] == pytest.approx(found["bytes"] / 8 / (4 * 300e6))


def test_a_layer_that_is_asked_once_works_once() -> None:
    """Its rates are those of one step in ten."""
    each, once = replace(LAST, graded=True), replace(LAST, graded=True, once=True)
    seen = {"first": np.full(784, 0.5), "last": np.ones(512), "output": np.ones(10)}
    often = cost(map_network([FIRST, each], CHIP), seen, 10)
    rare = {**seen, "last": np.full(512, 0.1), "output": np.full(10, 0.1)}
    found = cost(map_network([FIRST, once], CHIP), rare, 10)
    assert often.core_phases - found.core_phases == 9 * 3  # two tiles, and one that adds them up
    assert found.operations.macs == pytest.approx(512 * 10)
    assert often.operations.macs == 10 * 512 * 10
    assert often.operations.dense - found.operations.dense == 9 * 512 * 10
    assert often.operations.updates - found.operations.updates == 9 * 10
    assert found.timing == often.timing
    # Its partial sums travel once in ten steps, too.
    assert found.traffic.packets < often.traffic.packets


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps = 0"):
        timing(map_network([FIRST], CHIP), 0, CHIP.phase)
