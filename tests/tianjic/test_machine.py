"""Cores and packets alone give what the network as a whole gives, bit for bit."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hybrid.model.coding import LastMembrane, Rate, ReadOut
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import ContextGated, FullyConnected
from hybrid.model.neurons import LIF, AdaptiveLIF
from hybrid.model.plasticity import Hebbian
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.window.sparse import random_masks
from hybrid.tianjic.chip import load_chip
from hybrid.tianjic.context import quantize_context
from hybrid.tianjic.cores import Limits, SpikingLayer, run
from hybrid.tianjic.defects import Defects
from hybrid.tianjic.few_shot import ChipConvolution
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.layer import Options
from hybrid.tianjic.machine import Machine, run_mapped
from hybrid.tianjic.mapping import map_network
from hybrid.tianjic.placement import placed
from hybrid.tianjic.quantize import ChipNetwork, quantize, quantize_layers
from hybrid.tianjic.routing import traffic
from hybrid.tianjic.rules import Memory
from hybrid.tianjic.schedule import leaving
from hybrid.tianjic.shapes import ConvolutionShape, Fold
from hybrid.tianjic.soma import Table

CHIP = load_chip()


def spiking(
    seed: int, sizes: tuple[int, ...], *, plastic: bool, adaptive: bool, fading: bool, delay: int
) -> tuple[ChipNetwork, list[Tensor]]:
    """Return a network with random weights and traces, and inputs of a few samples."""
    generator = torch.Generator().manual_seed(seed)
    neuron = LIF(decay=0.4, v_th=0.2)
    if adaptive:
        neuron = AdaptiveLIF(decay=0.7, v_th=0.1, reset="zero", adaptation_gain=0.05)
    made = FullyConnected(
        sizes,
        neuron=neuron,
        rule=Hebbian(trace_decay=0.9) if plastic else None,
        readout=LastMembrane(),
        steps=4,
        tau=20.0 if fading else None,
        generator=generator,
        initial_meta=InitialMeta.up_to(0.2),
    )
    if plastic:
        for layer in made.layers:
            layer.trace = 0.05 * torch.randn(layer.trace.shape, generator=generator)
    images = torch.rand(3, sizes[0], generator=generator)
    options = Options(carried="separate" if plastic and seed % 2 else "folded", delay=delay)
    chip = quantize(made.eval().requires_grad_(False), options, images)
    return chip, [x.clamp(-128, 127) for x in chip.encode(images)]


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 600), st.integers(1, 300), st.integers(1, 40)),
    plastic=st.booleans(),
    adaptive=st.booleans(),
    fading=st.booleans(),
    delay=st.integers(0, 2),
    memory=st.sampled_from(["wide", "narrow"]),
)
def test_spiking_networks(
    seed: int,
    sizes: tuple[int, ...],
    plastic: bool,
    adaptive: bool,
    fading: bool,
    delay: int,
    memory: Memory,
) -> None:
    """Dense, with local modules, traces that fade, bare and graded spikes, both memories."""
    chip, inputs = spiking(
        seed, sizes, plastic=plastic, adaptive=adaptive, fading=fading, delay=delay
    )
    mapping = map_network(chip.shapes(), CHIP, most_chips=4, memory=memory)
    whole, found = run(chip.layers, inputs), run_mapped(mapping, chip.layers, inputs)
    assert torch.equal(whole.potentials, found.potentials)
    assert torch.equal(whole.counts, found.counts)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    image=st.tuples(st.integers(1, 3), st.integers(6, 14), st.integers(6, 14)),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 30)),
    pooled=st.tuples(st.booleans(), st.booleans()),
    fading=st.booleans(),
    memory=st.sampled_from(["wide", "narrow"]),
)
def test_spiking_convolutions(
    seed: int,
    image: tuple[int, int, int],
    channels: tuple[int, int],
    pooled: tuple[bool, bool],
    fading: bool,
    memory: Memory,
) -> None:
    """Pooled or not, then dense: by cores as a whole."""
    generator = torch.Generator().manual_seed(seed)
    made = convolutional(image, channels, pooled, generator, tau=20.0 if fading else None)
    chip = quantize(made)
    images = torch.rand(3, *image, generator=generator).flatten(1)
    inputs = [x.clamp(-128, 127) for x in chip.encode(images)]
    mapping = map_network(chip.shapes(), CHIP, most_chips=16, memory=memory)
    whole, found = run(chip.layers, inputs), run_mapped(mapping, chip.layers, inputs)
    assert torch.equal(whole.potentials, found.potentials)
    assert torch.equal(whole.counts, found.counts)
    assert torch.equal(whole.trail, found.trail)
    assume(bool(whole.layers[chip.layers[0].name].active_out.any()))  # silent, it shows little


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 300), st.integers(1, 400), st.integers(1, 40)),
    fading=st.booleans(),
    memory=st.sampled_from(["wide", "narrow"]),
)
def test_recurrent_layers(
    seed: int, sizes: tuple[int, int, int], fading: bool, memory: Memory
) -> None:
    """Two of them under sequences: spikes come back a step later, by cores as in a loop."""
    generator = torch.Generator().manual_seed(seed)
    layers = recurrent(sizes, generator)
    chip = quantize_layers(layers, steps=5, readout=Rate(), tau=20.0 if fading else None)
    shown = torch.rand(5, 3, sizes[0], generator=generator)
    inputs = [x.clamp(-128, 127) for x in chip.encode(shown)]
    mapping = map_network(chip.shapes(), CHIP, most_chips=4, memory=memory)
    whole, found = run(chip.layers, inputs), run_mapped(mapping, chip.layers, inputs)
    assert torch.equal(whole.trail, found.trail)
    assert torch.equal(whole.counts, found.counts)


def recurrent(sizes: tuple[int, ...], generator: torch.Generator) -> list[HybridRecurrent]:
    made = []
    for number, (a, b) in enumerate(pairwise(sizes)):
        rule = Hebbian(trace_decay=0.9) if number == 0 else None
        layer = HybridRecurrent(
            a, b, neuron=LIF(decay=0.5, v_th=0.2), rule=rule, generator=generator
        )
        if rule is not None:
            layer.trace = torch.randn(layer.trace.shape, generator=generator)
        made.append(layer.requires_grad_(False))
    return made


def convolutional(
    image: tuple[int, int, int],
    channels: tuple[int, ...],
    pooled: tuple[bool, ...],
    generator: torch.Generator,
    *,
    tau: float | None = None,
    readout: ReadOut | None = None,
) -> Convolutional:
    made = Convolutional(
        image,
        [Convolution(channels=c, pooled=p) for c, p in zip(channels, pooled, strict=True)],
        [Dense(size=20, plastic=True), Dense(size=5, faded=False)],
        neuron=LIF(decay=0.4, v_th=0.2),
        rule=Hebbian(trace_decay=0.9),
        readout=readout or LastMembrane(),
        steps=4,
        tau=tau,
        generator=generator,
        meta_generator=generator,
    )
    with torch.no_grad():
        for convolve in made.convolutions:
            assert isinstance(convolve, nn.Conv2d)
            convolve.weight.mul_(3.0)
    plastic = made.layers[0]
    assert isinstance(plastic, HybridLinear)
    plastic.trace = torch.randn(plastic.trace.shape, generator=generator)
    return made.eval().requires_grad_(False)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), inputs=st.integers(20, 400))
def test_networks_whose_synapses_have_factors(seed: int, inputs: int) -> None:
    """Lags are matrices; the read-out weighs potentials, which the hidden layers give."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (inputs, 50, 30, 6)
    network = ContextGated(
        sizes,
        neuron=LIF(decay=0.8, v_th=0.2),
        rule=Hebbian(trace_decay=0.8),
        steps=3,
        tau=50.0,
        initial_meta=InitialMeta((0.3, 0.6), (-0.05, 0.2), (0.0, 0.1)),
        generator=generator,
        meta_generator=generator,
    ).requires_grad_(False)
    images = torch.rand(4, inputs, generator=generator)
    chip = quantize_context(network, random_masks(sizes, 0.3, generator), images).hidden
    mapping = map_network(chip.shapes(), CHIP, most_chips=2)
    encoded = [x.clamp(-128, 127) for x in chip.encode(images)]
    whole, found = run(chip.layers, encoded), run_mapped(mapping, chip.layers, encoded)
    assert torch.equal(whole.potentials, found.potentials)
    assert whole.counts.sum() > 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(3, 30),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    fold=st.sampled_from(["unfolded", "folded"]),
    memory=st.sampled_from(["wide", "narrow"]),
)
def test_convolutions(
    seed: int,
    channels: tuple[int, int, int],
    side: int,
    kernel: int,
    stride: int,
    fold: Fold,
    memory: Memory,
) -> None:
    """Two after each other, rectified or by a table, blocks and sums of channels, folded or not."""
    generator = torch.Generator().manual_seed(seed)
    layers, shapes, image = [], [], (channels[0], side, side)
    table = Table(tuple(torch.randint(-127, 128, (256,), generator=generator).tolist()))
    for number, (before, after) in enumerate(pairwise(channels)):
        size = (after, before, kernel, kernel)
        weight = torch.randint(-127, 128, size, generator=generator)
        bias = torch.randint(-9999, 9999, (after,), generator=generator)
        layers.append(
            ChipConvolution(
                weight=weight.to(torch.int8),
                bias=bias,
                cut=5,
                table=table if seed % 2 else None,
                stride=stride,
            )
        )
        shape = ConvolutionShape(
            name=f"convolution {number}",
            image=image,
            channels=after,
            stride=stride,
            kernel=kernel,
            fold=fold,
            table=seed % 2 == 1,
        )
        shapes.append(shape)
        image = (after, *shape.positions)
    mapping = map_network(shapes, CHIP, most_chips=20, memory=memory)
    x = torch.randint(-128, 128, (2, channels[0], side, side), generator=generator)
    expected = x
    for layer in layers:
        expected = layer.activations(expected, Overflows(), "here")
    found = run_mapped(mapping, layers, [x.flatten(1)])
    assert torch.equal(found.counts, expected.flatten(1))


@pytest.mark.parametrize("seed", range(5))
def test_networks_on_two_chips(seed: int) -> None:
    """Wherever cores lie: row after row, or near to each other."""
    chip, inputs = spiking(
        seed, (784, 1100, 1000, 10), plastic=True, adaptive=False, fading=True, delay=0
    )
    mapping = map_network(chip.shapes(), CHIP, most_chips=4)
    assert mapping.chips >= 2
    whole = run(chip.layers, inputs)
    for own in (mapping, placed(mapping)):
        found = run_mapped(own, chip.layers, inputs)
        assert torch.equal(whole.potentials, found.potentials)
        assert torch.equal(whole.counts, found.counts)


def test_events_are_counted_where_they_happen(tmp_path: Path) -> None:
    """By hand: three samples, a layer of one core; and of a larger one, the sum over its cores."""
    layer = SpikingLayer(
        name="only",
        weight=torch.full((4, 2), 50, dtype=torch.int8),
        bias=torch.zeros(2, dtype=torch.int32),
        soma=replace(spiking_soma(), threshold=60),
        unit=1.0,
    )
    shape = ChipNetwork(layers=(layer,), gain=(1.0,), readout=LastMembrane()).shapes()
    inputs = [torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0]])]
    found = run_mapped(map_network(shape, CHIP), [layer], inputs)
    assert found.core_events().tolist() == [[4 * 2]]
    assert sum(int(count.sum()) for count in found.link_packets().values()) >= 4

    chip, inputs = spiking(3, (700, 60, 9), plastic=True, adaptive=False, fading=True, delay=0)
    mapping = map_network(chip.shapes(), CHIP)
    found, whole = run_mapped(mapping, chip.layers, inputs), run(chip.layers, inputs)
    first = [i for i, core in enumerate(mapping.cores) if core.layer == "layer 1"]
    own = [i for i in first if mapping.cores[i].role == "synapses"]
    active = sum(int((x != 0).sum()) for x in inputs)
    met = sum(int(((x != 0).long() @ (chip.layers[0].weight != 0).long()).sum()) for x in inputs)
    assert found.core_events()[:, own].sum() == met
    assert 0.98 * active * 60 < met <= active * 60, "hardly a weight is 0"
    hops = sum(int(count.sum()) for count in found.link_packets().values())
    rates = {name: layer.active_in.numpy() / (4 * 3) for name, layer in whole.layers.items()}
    rates["output"] = whole.counts.sum(0).numpy() / (4 * 3)
    assert hops == pytest.approx(4 * 3 * traffic(mapping, leaving(mapping, rates)).hops)
    path = tmp_path / "trace.jsonl"
    found.export(path)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert sum(line.get("events", 0) for line in lines) == found.core_events().sum()
    carried = sum(count.sum() for count in found.link_packets().values())
    assert sum(line.get("packets", 0) for line in lines) == carried
    assert {line["step"] for line in lines} == {0, 1, 2, 3}


def spiking_soma() -> object:
    chip, _ = spiking(0, (4, 2), plastic=False, adaptive=False, fading=False, delay=0)
    return chip.layers[0].soma


def test_what_does_not_arrive_is_missing() -> None:
    """A broken core silences its neurons; lost packets leave the rest."""
    chip, inputs = spiking(3, (300, 60, 9), plastic=False, adaptive=False, fading=True, delay=0)
    mapping = map_network(chip.shapes(), CHIP)
    whole = run_mapped(mapping, chip.layers, inputs)
    (last,) = mapping.roles("layer 2")["synapses"]
    places = frozenset(mapping.places[i] for i in mapping.roles("layer 1")["sums"])
    silent = Machine(mapping, chip.layers, Defects(dead=places)).run(inputs)
    assert silent.core_events()[:, last].sum() == 0
    dumb = frozenset({mapping.places[last]})
    mute = Machine(mapping, chip.layers, Defects(dead=dumb)).run(inputs)
    assert not mute.potentials.any(), "a dead core of the last layer does not answer"
    lossy = Machine(mapping, chip.layers, Defects(lost=0.5, seed=1)).run(inputs)
    share = lossy.core_events().sum() / whole.core_events().sum()
    assert 0.3 < share < 0.6
    again = Machine(mapping, chip.layers, Defects(lost=0.5, seed=1)).run(inputs)
    assert torch.equal(lossy.potentials, again.potentials)


def test_layers_of_another_network_are_refused() -> None:
    chip, inputs = spiking(3, (30, 20, 9), plastic=False, adaptive=False, fading=True, delay=0)
    other, _ = spiking(3, (30, 21, 9), plastic=False, adaptive=False, fading=True, delay=0)
    mapping = map_network(chip.shapes(), CHIP)
    with pytest.raises(ValueError, match="1 layers for 2 shapes"):
        run_mapped(mapping, chip.layers[:1], inputs)
    with pytest.raises(ValueError, match="'layer 1' has not the size of its shape"):
        run_mapped(mapping, other.layers, inputs)
    first = chip.layers[0]
    noisy = replace(first, soma=replace(first.soma, noise=7))
    for wrong in (noisy, replace(first, offsets=torch.zeros(4, 3, 20))):
        with pytest.raises(ValueError, match="no offsets, no noise"):
            run_mapped(mapping, [wrong, chip.layers[1]], inputs)
    with pytest.raises(ValueError, match="not what its shape says"):
        run_mapped(
            map_network([ConvolutionShape(name="it", image=(1, 3, 3), channels=2)], CHIP),
            [first],
            inputs,
        )
    generator = torch.Generator().manual_seed(0)
    spiking_ones = quantize(convolutional((1, 6, 6), (3, 4), (True, False), generator))
    wide, *others = spiking_ones.shapes()
    assert isinstance(wide, ConvolutionShape)
    narrow = map_network([replace(wide, kernel=1), *others], CHIP)
    with pytest.raises(ValueError, match="its convolution"):
        run_mapped(narrow, spiking_ones.layers, spiking_ones.encode(torch.rand(1, 36)))


def test_parts_of_a_layer_are_never_left_out() -> None:
    """A local module, or a trace that is carried, which the mapping does not know of."""
    chip, inputs = spiking(3, (30, 20, 9), plastic=True, adaptive=False, fading=True, delay=0)
    assert chip.layers[0].carried is not None
    first, second = chip.shapes()
    frozen = map_network([replace(first, local=None), replace(second, local=None)], CHIP)
    with pytest.raises(ValueError, match="its local module, or the trace that it carries"):
        run_mapped(frozen, chip.layers, inputs)
    bare = map_network([replace(first, carried=False), second], CHIP)
    with pytest.raises(ValueError, match="its local module, or the trace that it carries"):
        run_mapped(bare, chip.layers, inputs)
    weight, bias = torch.zeros(2, 1, 3, 3, dtype=torch.int8), torch.zeros(2, dtype=torch.int64)
    layer = ChipConvolution(weight=weight, bias=bias, cut=0)
    shape = ConvolutionShape(name="it", image=(1, 6, 6), channels=2, stride=2)
    pixels = [torch.zeros(1, 36, dtype=torch.int64)]
    run_mapped(map_network([shape], CHIP), [layer], pixels)
    for other in ({"stride": 1}, {"kernel": 1}, {"channels": 3}, {"table": True}):
        with pytest.raises(ValueError, match="its weights, its stride, or its table"):
            run_mapped(map_network([replace(shape, **other)], CHIP), [layer], pixels)


def test_inputs_that_cores_cannot_take_are_refused() -> None:
    chip, inputs = spiking(3, (30, 20, 9), plastic=False, adaptive=False, fading=True, delay=0)
    machine = Machine(map_network(chip.shapes(), CHIP), chip.layers)
    for wrong, message in (
        ([x.float() for x in inputs], "whole numbers"),
        ([x[:, 1:] for x in inputs], "takes 30 inputs, it is given 29"),
        ([inputs[0], inputs[1][:1]], "of one shape"),
        ([], "at least one step"),
    ):
        with pytest.raises(ValueError, match=message):
            machine.run(wrong)


def test_partial_sums_have_the_bits_of_the_chip() -> None:
    """Two tiles of 150 inputs, each summing up to far more than 16 bits hold."""
    narrow = CHIP.changed(partial_sum_bits=16)
    layer = SpikingLayer(
        name="it",
        weight=torch.full((300, 3), 100, dtype=torch.int8),
        bias=torch.zeros(3, dtype=torch.int32),
        soma=replace(spiking_soma(), threshold=10_000_000),
        unit=1.0,
    )
    shape = ChipNetwork(layers=(layer,), gain=(1.0,), readout=LastMembrane()).shapes()
    inputs = [torch.full((1, 300), 100)]
    whole = run([layer], inputs, limits=Limits.of(narrow))
    found = run_mapped(map_network(shape, narrow), [layer], inputs)
    assert torch.equal(whole.potentials, found.potentials)
    assert found.potentials[0, 0] == 2 * 32_767
