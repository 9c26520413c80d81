"""Networks in whole numbers: tiles change nothing, histories are traces, floats are near."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybrid.model.coding import LastMembrane
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF, Neuron
from hybrid.model.plasticity import Hebbian, LocalRule
from hybrid.tianjic.cores import Limits, SpikingLayer, dendrite, run
from hybrid.tianjic.few_shot import ChipConvolution
from hybrid.tianjic.fixed import (
    Overflows,
    SaturationError,
    exact_product,
    quantized,
    shifted,
)
from hybrid.tianjic.history import History, LocalModule
from hybrid.tianjic.layer import Options
from hybrid.tianjic.primitives import balanced, cut_for
from hybrid.tianjic.quantize import quantize
from hybrid.tianjic.rules import tiles
from hybrid.tianjic.soma import Soma, Table


def built_trace(rate: Tensor, inputs: list[Tensor], posts: list[Tensor]) -> Tensor:
    """Return the trace that the next step reads, moved on step by step [N, in, out].

    Written as the rule is: what a step adds decays from then on, here by half.
    """
    trace = torch.zeros(*inputs[0].shape, posts[0].shape[1], dtype=torch.int64)
    column = rate.unsqueeze(1) if rate.ndim == 1 else rate
    for x, y in zip(inputs, posts, strict=True):
        trace = trace // 2 + (x.unsqueeze(2) * column) * y.unsqueeze(1)
    return trace


IDENTITY = Table(tuple(range(-128, 128)))


def whole(shape: tuple[int, ...], generator: torch.Generator, high: int = 127) -> Tensor:
    return torch.randint(-high, high + 1, shape, generator=generator)


def network(
    *,
    rule: LocalRule | None = None,
    neuron: Neuron | None = None,
    tau: float | None = 40.0,
    steps: int = 6,
    sizes: tuple[int, ...] = (300, 40, 10),
    largest_meta: float = 0.05,
    trace: float = 0.0,
) -> FullyConnected:
    generator = torch.Generator().manual_seed(7)
    made = FullyConnected(
        sizes,
        neuron=neuron or LIF(decay=0.4, v_th=0.35),
        rule=rule,
        readout=LastMembrane(ceiling=1.1),
        steps=steps,
        tau=tau,
        generator=generator,
        initial_meta=InitialMeta.up_to(largest_meta),
    )
    for layer in made.layers:
        if rule is not None:
            layer.trace = trace * torch.randn(layer.trace.shape, generator=generator)
    return made.eval().requires_grad_(False)


def images(count: int, size: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    shown = torch.rand(count, size, generator=generator)
    return shown * (torch.rand(count, size, generator=generator) < 0.3)


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 700),
    outputs=st.integers(1, 40),
    fan_in=st.integers(1, 300),
    seed=st.integers(0, 1000),
)
def test_tiles_add_up_to_the_plain_product(
    inputs: int, outputs: int, fan_in: int, seed: int
) -> None:
    """Bit for bit, while partial sums are wide."""
    generator = torch.Generator().manual_seed(seed)
    x, weight = whole((3, inputs), generator), whole((inputs, outputs), generator)
    expected = x @ weight
    for limits in (Limits(fan_in=fan_in), Limits(fan_in=None)):
        overflows = Overflows(strict=True)
        assert torch.equal(dendrite(x, weight, limits, overflows, "layer"), expected)
    # Just wide enough for the tiles' sums, too narrow for what these could come to at worst: the
    # tiles are added up one by one.
    sums = [
        x[:, part[0] : part[-1] + 1] @ weight[part[0] : part[-1] + 1]
        for part in tiles(inputs, fan_in)
    ]
    bits = max(int(part.abs().max()) for part in sums).bit_length() + 1
    tight = Limits(fan_in=fan_in, partial_sum_bits=max(bits, 2), strict=True)
    assert torch.equal(dendrite(x, weight, tight, Overflows(strict=True), "layer"), expected)


def test_narrow_partial_sums_are_cut_tile_by_tile_and_counted() -> None:
    """Two tiles of 100 each: 8 bits hold 127 of each."""
    x, weight = torch.ones(1, 4, dtype=torch.int64), torch.full((4, 1), 100)
    overflows = Overflows()
    limits = Limits(fan_in=2, partial_sum_bits=8)
    assert dendrite(x, weight, limits, overflows, "layer").item() == 254
    assert overflows.counts == {"layer: partial sums": 2}
    with pytest.raises(SaturationError, match="layer: partial sums"):
        dendrite(x, weight, limits, Overflows(strict=True), "layer")
    lowest = torch.full((1, 4), -128, dtype=torch.int8)  # it has no magnitude in 8 bits
    assert dendrite(lowest, weight, limits, Overflows(), "layer").item() == 2 * -128
    rounded = Limits(fan_in=2, partial_sum_bits=8, partial_sum_shift=3)  # 200 -> 25 each
    assert dendrite(x, weight, rounded, Overflows(strict=True), "layer").item() == 400


def test_partial_sums_lose_as_many_bits_as_the_largest_needs() -> None:
    """Spikes into weights of 100: tiles reach 200, 8 bits hold 127, so one bit goes."""
    weight = torch.full((4, 1), 100)
    limits = Limits(fan_in=2, partial_sum_bits=8, partial_sum_shift=None)
    strict = Overflows(strict=True)
    ones = torch.ones(1, 4, dtype=torch.int64)
    assert dendrite(ones, weight, limits, strict, "layer").item() == 400
    one = torch.tensor([[1, 0, 1, 1]])
    odd = torch.full((4, 1), 101)  # 101 and 202: rounded to 51 and 101 pairs
    assert dendrite(one, odd, limits, strict, "layer").item() == 2 * (51 + 101)
    # Numbers of 8 bits could reach 127 * 200, 15 bits: 8 have to go, whatever comes in.
    two = torch.tensor([[2, 0, 0, 0]])
    assert dendrite(two, weight, limits, strict, "layer").item() == 256 * round(200 / 256)


def local_module(weights: Tensor, decays: list[int], outputs: int, **options: Any) -> LocalModule:
    """Return a module of whole numbers that cuts nothing, unless it is told to."""
    plain = {
        "table": IDENTITY,
        "thresholds": torch.zeros(outputs, dtype=torch.int64),
        "argument_cut": 0,
        "input_cut": 0,
        "score_cut": 0,
    }
    return LocalModule(weights=weights, decays=torch.tensor(decays), **plain | options)


@settings(max_examples=40, deadline=None)
@given(per_synapse=st.booleans(), seed=st.integers(0, 1000))
def test_a_history_is_the_trace(per_synapse: bool, seed: int) -> None:
    """Bit for bit where nothing is rounded: x P from scores, and from a P that decays by half.

    Rates are multiples of 16, so that four halvings are exact; scores of 7 spikes fit 8 bits.
    """
    generator = torch.Generator().manual_seed(seed)
    samples, inputs, outputs, lags = 3, 7, 6, 5
    rate = 16 * whole((inputs, outputs) if per_synapse else (inputs,), generator, 1)
    thresholds = whole((outputs,), generator, 3)
    if per_synapse:
        matrices = torch.stack([rate // 2**lag for lag in range(lags)])
        module = local_module(matrices, [64] * lags, outputs, thresholds=thresholds)
    else:
        decays = [64 // 2**lag for lag in range(lags)]
        module = local_module(rate, decays, outputs, thresholds=thresholds)
    history = History(module, Overflows(strict=True), "here")
    shown, posts = [], []
    for _ in range(lags + 1):
        x = torch.randint(0, 2, (samples, inputs), generator=generator)
        v, current = whole((samples, outputs), generator, 100), history.current(x)
        if posts:
            expected = (x.unsqueeze(1) @ built_trace(rate, shown, posts)).squeeze(1)
            assert torch.equal(torch.as_tensor(current).expand(samples, outputs), expected)
        else:
            assert current == 0
        history.learn(x, v)
        shown.append(x)
        posts.append(v - module.thresholds)


def by_primitives(
    module: LocalModule, x: list[int], earlier: list[tuple[list[int], list[int]]]
) -> list[int]:
    """Return the current of one sample, each number by plain loops over documented operations.

    Args:
        module: its constants.
        x: inputs now.
        earlier: inputs and potentials of earlier steps, the newest first.
    """

    def cut(value: int, n: int) -> int:  # P06
        return max(-128, min(127, value // 4**n))

    outputs, current = len(module.thresholds), [0] * len(module.thresholds)
    for lag, (before, v) in enumerate(earlier[: len(module.decays)]):
        constant = 4**module.input_cut // 2
        alike = [  # P03, with a constant; P06
            cut(a * b + constant, module.input_cut) for a, b in zip(x, before, strict=True)
        ]
        for j in range(outputs):
            total = 4**module.score_cut // 2
            for i, value in enumerate(alike):  # P41, or P04 with a matrix for each lag
                total += value * int(
                    module.weights[i] if module.weights.ndim == 1 else module.weights[lag, i, j]
                )
            score = cut(total, module.score_cut)  # P06
            if module.weights.ndim == 1:  # P03, with a constant; P06
                score = cut(score * int(module.decays[lag]) + 32, 3)
            argument = v[j] - int(module.thresholds[j]) + 4**module.argument_cut // 2  # P02
            address = cut(argument, module.argument_cut)  # P07
            assert isinstance(module.table, Table)
            current[j] += score * module.table.entries[address + 128]  # P04
    return current


@settings(max_examples=40, deadline=None)
@given(
    per_synapse=st.booleans(),
    cuts=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 5)),
    seed=st.integers(0, 1000),
)
def test_a_history_is_made_of_documented_operations(
    per_synapse: bool, cuts: tuple[int, int, int], seed: int
) -> None:
    """On random vectors that saturate here and there."""
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs, lags = 30, 4, 3
    module = local_module(
        whole((lags, inputs, outputs) if per_synapse else (inputs,), generator).to(torch.int8),
        [64] * lags if per_synapse else [64, 51, 40],
        outputs,
        thresholds=whole((outputs,), generator, 5000),
        table=Table(tuple(whole((256,), generator).tolist())),
        input_cut=cuts[0],
        score_cut=cuts[1],
        argument_cut=cuts[2],
    )
    history, earlier = History(module, Overflows(), "here"), []
    for _ in range(lags + 2):
        x, v = whole((1, inputs), generator), whole((1, outputs), generator, 50_000)
        found = torch.as_tensor(history.current(x)).expand(1, outputs)
        assert found[0].tolist() == by_primitives(module, x[0].tolist(), earlier)
        history.learn(x, v)
        earlier.insert(0, (x[0].tolist(), v[0].tolist()))


def test_a_history_without_its_newest_or_oldest_steps() -> None:
    """One input, one neuron, lags worth 100, 10 and 1 counted from the newest."""
    one = torch.ones(1, 1, dtype=torch.int64)

    def last(lags: list[int], delay: int) -> int:
        matrices = torch.tensor(lags).view(-1, 1, 1)
        module = local_module(matrices, [64] * len(lags), 1, delay=delay)
        history = History(module, Overflows(strict=True), "here")
        for v in (2, 3, 5):
            history.learn(one, v * one)
        return int(history.current(one))

    assert last([100, 10, 1], 0) == 100 * 5 + 10 * 3 + 1 * 2
    assert last([100, 10], 0) == 100 * 5 + 10 * 3
    assert last([10, 1], 1) == 10 * 3 + 1 * 2
    assert last([1], 2) == 2


def test_lags_weigh_what_the_trace_has_left_of_them() -> None:
    """decay^lag and rates; a delay leaves out the newest, not the decay of the others."""
    trained = network(rule=Hebbian(trace_decay=0.5), steps=6)
    rate = trained.layers[0].theta.local_rate

    def local(**options: int) -> LocalModule:
        made = quantize(trained, Options(**options)).layers[0].local  # type: ignore[arg-type]
        assert made is not None
        return made

    weights = local().weights.double()
    slope = (weights * rate).sum() / (rate * rate).sum()
    assert (weights - slope * rate).abs().max() <= 0.51, "rates, in units of their own"
    assert weights.abs().max() > 25, "8 bits, of which a power of four may leave two unused"
    assert local().decays.tolist() == [64, 32, 16, 8, 4]
    assert local(lags=2).decays.tolist() == [64, 32]
    assert local(delay=2).decays.tolist() == [16, 8, 4]


@pytest.mark.parametrize("fan_in", [None, 17, 256])
def test_many_cores_do_what_one_would(fan_in: int | None) -> None:
    """Outputs, spikes and counts, with local modules."""
    trained = network(rule=Hebbian(trace_decay=0.95), tau=None)
    chip, shown = quantize(trained), images(20)
    one = run(chip.layers, chip.encode(shown), limits=Limits(fan_in=None))
    many = run(chip.layers, chip.encode(shown), limits=Limits(fan_in=fan_in))
    assert torch.equal(one.potentials, many.potentials)
    assert torch.equal(one.counts, many.counts)
    assert chip.layers[1].payload == (127,) * 6, "numbers, as its local module needs"
    assert quantize(network(tau=None)).layers[1].payload is None, "bare spikes"
    for name in one.layers:
        assert torch.equal(one.layers[name].active_in, many.layers[name].active_in)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    trained = network(rule=Hebbian(trace_decay=0.95), trace=0.01)
    chip, shown = quantize(trained), images(9)
    together = run(chip.layers, chip.encode(shown)).potentials
    alone = [run(chip.layers, chip.encode(one.unsqueeze(0))).potentials for one in shown]
    assert torch.equal(together, torch.cat(alone))


def test_activity_is_counted() -> None:
    """One neuron that fires each step on one of two inputs."""
    layer = SpikingLayer(
        name="only",
        weight=torch.tensor([[10], [10]], dtype=torch.int8),
        bias=torch.zeros(1, dtype=torch.int32),
        soma=Soma(threshold=5, leak=0),
        unit=1.0,
    )
    outcome = run([layer], [torch.tensor([[1, 0], [0, 0]])] * 3)
    assert outcome.layers["only"].active_in.tolist() == [3, 0]
    assert outcome.layers["only"].active_out.tolist() == [3]
    assert outcome.layers["only"].largest == 10
    assert (outcome.samples, outcome.steps) == (2, 3)


def test_bad_inputs_are_named() -> None:
    chip = quantize(network())
    shown = chip.encode(images(2))
    with pytest.raises(ValueError, match="whole numbers"):
        run(chip.layers, [x.float() for x in shown])
    with pytest.raises(ValueError, match="takes 300 inputs, it is given 299"):
        run(chip.layers, [x[:, 1:] for x in shown])
    with pytest.raises(ValueError, match="local = 'on'"):
        run(chip.layers, shown, local="on")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="knows 6 steps"):
        run(chip.layers, [*shown, shown[0]])
    with pytest.raises(ValueError, match="weight_bits = 9"):
        Options(weight_bits=9)


def test_inputs_beyond_8_bits_are_cut_and_counted() -> None:
    chip = quantize(network())
    bright = images(2)
    expected = run(chip.layers, chip.encode(bright.clamp(max=1.0)))
    assert "inputs" not in expected.overflows
    bright = torch.where(bright > 0.0, bright + 3.0, bright)
    found = run(chip.layers, chip.encode(bright))
    assert found.overflows["inputs"] > 0
    cut = run(chip.layers, [x.clamp(max=127) for x in chip.encode(bright)])
    assert torch.equal(found.potentials, cut.potentials)
    with pytest.raises(SaturationError, match="inputs"):
        run(chip.layers, chip.encode(bright), limits=Limits(strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_no_whole_number_stands_for_is_refused(value: float) -> None:
    """One NaN took the scale of a whole layer with it, without a word."""
    shown = images(2)
    shown[0, 3] = value
    with pytest.raises(ValueError, match="1 of 600 numbers are NaN or infinite"):
        quantize(network()).encode(shown)
    for name in ("weight", "trace", "theta.local_rate"):
        trained = network(rule=Hebbian(trace_decay=0.9))
        trained.layers[1].state_dict()[name].view(-1)[1] = value
        with pytest.raises(ValueError, match=f"layer 2: {name} is NaN or infinite"):
            quantize(trained)


def test_weights_that_leave_no_threshold_are_refused() -> None:
    trained = network()
    with torch.no_grad():
        trained.layers[0].weight.mul_(1e6)
    with pytest.raises(ValueError, match=r"layer 1: its threshold, .*: weights reach .*e"):
        quantize(trained)


def test_products_with_the_smallest_number_of_8_bits_are_exact() -> None:
    """It has no magnitude in 8 bits: the bound on the sums missed it."""
    x = torch.full((2, 40_000), -128, dtype=torch.int8)
    weight = torch.full((40_000, 3), -128, dtype=torch.int8)
    weight[0] = 127
    expected = 39_999 * 128 * 128 - 128 * 127
    assert exact_product(x, weight).tolist() == [[expected] * 3] * 2


def test_numbers_are_rounded_as_they_lose_bits() -> None:
    assert shifted(torch.tensor([7, -7, 6, -6]), 2).tolist() == [2, -2, 2, -1]
    assert quantized(torch.tensor([0.1, -3.0]), 0.01, 8).tolist() == [10, -127]


def test_powers_of_four_waste_at_most_half_of_the_bits_range() -> None:
    """What a cut leaves too coarse, or weights too coarse, is less than a factor of two."""
    for ratio in (0.3, 1.0, 1.9, 2.1, 4.0, 7.0, 9.0, 33.0, 1e6):
        n, coarser = balanced(ratio)
        assert 1.0 <= coarser <= 2.0
        assert ratio <= 4.0**n * coarser * (1 + 1e-9)
        assert 4.0**n * coarser <= max(1.0, 2.0 * ratio)
    with pytest.raises(ValueError, match="a cut reaches"):
        cut_for(1e12)


def test_convolutions_of_whole_numbers_are_exact() -> None:
    """Against 64-bit sums, in a size that single precision could not add up."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, 128, (2, 200, 6, 6), generator=generator)
    weight = whole((4, 200, 3, 3), generator)
    bias = whole((4,), generator)
    patches = torch.nn.functional.unfold(x.double(), 3, padding=1, stride=2).long()
    sums = (weight.flatten(1) @ patches).view(2, 4, 3, 3) + bias.view(-1, 1, 1)
    layer = ChipConvolution(weight=weight, bias=bias, cut=6)
    expected = (sums // 4**6).clamp(0, 127)
    assert torch.equal(layer.activations(x, Overflows(), "here"), expected)
    assert expected.unique().numel() > 10
