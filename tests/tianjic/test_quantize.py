"""Trained networks in whole numbers, beside the same in floats; what the chip lacks is refused."""

from dataclasses import replace

import pytest
import torch

from hybrid.model.coding import LastMembrane, Rate
from hybrid.model.layers import InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import IF, LIF, AdaptiveLIF
from hybrid.model.plasticity import Hebbian
from hybrid.tianjic.chip import in_use, load_chip
from hybrid.tianjic.cores import Limits, SpikingLayer, run
from hybrid.tianjic.fixed import coded
from hybrid.tianjic.layer import FROZEN, Options, largest_trace
from hybrid.tianjic.quantize import ChipNetwork, quantize
from hybrid.tianjic.soma import Soma
from tests.tianjic.test_cores import images, network


def test_a_codebook_holds_so_many_weights_and_serves_them_well() -> None:
    generator = torch.Generator().manual_seed(5)
    weight = (
        (20 * torch.randn(300, 40, generator=generator)).round().clamp(-127, 127).to(torch.int8)
    )
    found = coded(weight, 32)
    assert found.dtype == torch.int8
    assert len(found.unique()) <= 32
    spaced = (weight.double() / 8).round() * 8  # 32 evenly spaced ones, and a few too many
    error = (found.double() - weight).pow(2).mean()
    assert error < 0.8 * (spaced - weight).pow(2).mean()
    few = torch.tensor([3, -7, 3], dtype=torch.int8)
    assert torch.equal(coded(few, 2), few)
    with pytest.raises(ValueError, match="count = 0"):
        coded(few, 0)


@pytest.mark.parametrize("carried", ["folded", "separate"])
def test_a_network_in_whole_numbers_is_near_the_one_in_floats(carried: str) -> None:
    """Potentials of HP, each sample with its own trace, within a few per cent of the threshold."""
    rule = Hebbian(trace_decay=0.99)
    trained = network(rule=rule, trace=0.02)
    shown = images(50)
    expected = trained(shown, pool="sample").windows[-1].states[-1].v
    chip = quantize(trained, Options(carried=carried))  # type: ignore[arg-type]
    outcome = run(chip.layers, chip.encode(shown), limits=Limits(strict=True))
    found = outcome.potentials * chip.layers[-1].unit
    error = (found - expected).abs()
    assert error.median() < 0.02 * 0.35
    assert error.mean() < 0.05 * 0.35
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.85


def test_the_local_current_is_what_makes_the_difference() -> None:
    """With a loud local module, a chip without it is far off, one with it is near."""
    trained = network(rule=Hebbian(trace_decay=0.9), largest_meta=0.6)
    shown = images(50)
    expected = trained(shown, pool="sample").windows[0].states[-1].v
    chip = quantize(trained, images=images(300))
    first = replace(chip, layers=chip.layers[:1])
    errors = {}
    for local in ("history", "off"):
        outcome = run(first.layers, chip.encode(shown), local=local)  # type: ignore[arg-type]
        found = outcome.potentials * chip.layers[0].unit
        errors[local] = float((found - expected).abs().mean())
    assert errors["history"] < 0.03 * errors["off"]
    assert errors["off"] > 0.05


def test_a_host_that_rewrites_synapses_gives_the_same_network() -> None:
    """Beside a history and beside floating point, with a trace from training that fades fast."""
    trained = network(rule=Hebbian(trace_decay=0.5), largest_meta=0.4, trace=0.3)
    shown = images(40)
    expected = trained(shown, pool="sample").windows[0].states[-1].v
    written = quantize(trained, Options(carried="none", headroom=10.0))
    separate = quantize(trained, Options(carried="separate"))
    errors = []
    for chip, local in ((written, "write-back"), (separate, "history"), (written, "off")):
        layers = chip.layers[:1]
        outcome = run(layers, chip.encode(shown), local=local)  # type: ignore[arg-type]
        errors.append(float((outcome.potentials * layers[0].unit - expected).abs().mean()))
    assert errors[0] < 0.3 * errors[2], "8 bits hold a range ten times as wide, coarsely"
    assert errors[1] < 0.1 * errors[2]
    narrow = quantize(trained, Options(carried="none"))
    lost = run(narrow.layers, narrow.encode(shown), local="write-back").overflows
    assert lost["layer 1: synapses"] > 0
    with pytest.raises(ValueError, match="carried='none'"):
        run(separate.layers, separate.encode(shown), local="write-back")


def test_fewer_lags_and_delay_change_the_current() -> None:
    trained = network(rule=Hebbian(trace_decay=0.9), largest_meta=0.6)
    shown = images(20)
    found = {
        name: run(chip.layers, chip.encode(shown)).potentials
        for name, chip in (
            ("exact", quantize(trained)),
            ("all", quantize(trained, Options(lags=5))),
            ("truncated", quantize(trained, Options(lags=1))),
            ("delayed", quantize(trained, Options(delay=2))),
        )
    }
    assert torch.equal(found["exact"], found["all"])
    assert not torch.equal(found["exact"], found["truncated"])
    assert not torch.equal(found["exact"], found["delayed"])


def test_no_trace_grows_beyond_its_bound() -> None:
    """Of a sample's own, with a trace from training and without."""
    for lifetime_trace in (0.0, 0.5):
        trained = network(rule=Hebbian(trace_decay=0.9), largest_meta=0.3, trace=lifetime_trace)
        layer = trained.layers[0]
        state = layer.stored()
        window = layer(
            torch.ones(1, 300).expand(6, 1, 300).unbind(0), state, pool="sample", store=False
        )
        bound = largest_trace(layer, 6)
        assert window.final.trace.abs().max() <= bound
        assert bound < 0.5 * 5 + 6 * 0.3
    assert largest_trace(network().layers[0], 6) == 0.0


def test_read_outs_of_the_chip_are_those_of_the_network() -> None:
    """A ceiling makes ties, which go to the first class."""
    layer = SpikingLayer(
        name="only",
        weight=torch.tensor([[50, 100, 100]], dtype=torch.int8),
        bias=torch.zeros(3, dtype=torch.int32),
        soma=Soma(threshold=60, leak=0),
        unit=1.0,
    )
    outcome = run([layer], [torch.tensor([[1]])])

    def answer(readout: object) -> int:
        chip = ChipNetwork(layers=(layer,), gain=(1.0,), readout=readout)  # type: ignore[arg-type]
        return int(chip.answers(outcome))

    assert answer(LastMembrane()) == answer(LastMembrane(ceiling=1.1)) == answer(Rate()) == 1
    assert answer(LastMembrane(ceiling=0.5)) == 0


def test_neurons_keep_their_resets() -> None:
    for neuron, leak, reset in (
        (LIF(decay=0.4, v_th=0.35), 102, "subtract threshold"),
        (LIF(decay=0.2, v_th=0.5, reset="zero"), 51, "to value"),
        (IF(v_th=0.5, reset="none"), 256, "subtract value"),
    ):
        soma = quantize(network(neuron=neuron)).layers[0].soma
        assert (soma.leak, soma.reset) == (leak, reset)


def test_thresholds_that_rise_do_so_on_the_chip() -> None:
    """Primitive P08 adds to a threshold after each spike, as the neuron of the model does."""
    neuron = AdaptiveLIF(
        decay=0.8, v_th=0.05, reset="zero", adaptation_decay=0.9, adaptation_gain=0.02
    )
    trained, shown = network(neuron=neuron, steps=10), images(30)
    soma = quantize(trained).layers[0].soma
    assert soma.increment_leak == 230
    found = {}
    for name, made in (("risen", trained), ("plain", network(neuron=plain(neuron), steps=10))):
        chip = quantize(made)
        outcome = run(chip.layers[:1], chip.encode(shown))
        states = made(shown).windows[0].states
        expected = torch.stack([state.z for state in states]).sum((0, 1))
        found[name] = float(expected.sum())
        counts = outcome.layers["layer 1"].active_out
        assert (counts - expected).abs().sum() < 0.02 * expected.sum()
    assert found["risen"] < 0.9 * found["plain"], "it makes a difference"
    kind = type("Own", (LIF,), {})
    with pytest.raises(ValueError, match="Own is no neuron of the chip"):
        quantize(network(neuron=kind(decay=0.4, v_th=0.3)))


def plain(neuron: AdaptiveLIF) -> LIF:
    """Return the same neuron with a fixed threshold."""
    return LIF(decay=neuron.decay, v_th=neuron.v_th, reset=neuron.reset)


@pytest.mark.parametrize("shape", [(0, 300), (4, 7), (300,), (6, 0, 300)])
def test_calibration_images_must_be_some_of_the_networks(shape: tuple[int, ...]) -> None:
    trained = network(rule=Hebbian(trace_decay=0.9))
    with pytest.raises(ValueError, match="images of shape"):
        quantize(trained, images=torch.rand(shape))


def test_the_chip_keeps_the_trace_that_it_was_given() -> None:
    trained = network(rule=Hebbian(trace_decay=0.9), trace=0.02)
    chip = quantize(trained, Options(carried="none"))
    host = chip.layers[0].host
    assert host is not None
    before = host.start.clone()
    trained.layers[0].trace.add_(1.0)  # type: ignore[operator,union-attr]
    assert torch.equal(host.start, before)


def test_frozen_weights_use_all_their_bits() -> None:
    """As if the trace had been part of the weights, and there were no rule."""
    trained = network(rule=Hebbian(trace_decay=0.9), trace=0.02, largest_meta=0.3)
    plain = network()
    for layer, other in zip(trained.layers, plain.layers, strict=True):
        other.weight.copy_(layer.weight + layer.theta.local_gain * layer.trace.T)
    frozen, expected = quantize(trained, FROZEN), quantize(plain)
    for layer, other in zip(frozen.layers, expected.layers, strict=True):
        assert torch.equal(layer.weight, other.weight)
        assert (layer.unit, layer.payload) == (other.unit, other.payload)
        assert layer.weight.abs().max() == 127
        assert layer.local is layer.host is layer.carried is None
    with pytest.raises(ValueError, match="local"):
        Options(local=False, carried="separate")


@pytest.mark.parametrize("seed", range(3))
def test_a_local_module_under_bare_spikes_is_near_too(seed: int) -> None:
    """A drive that does not fade: spikes carry numbers to layers with a local module."""
    generator = torch.Generator().manual_seed(seed)
    trained = FullyConnected(
        (30, 20, 5),
        neuron=LIF(decay=0.4, v_th=0.2),
        rule=Hebbian(trace_decay=0.9),
        readout=LastMembrane(),
        steps=6,
        tau=None,
        generator=generator,
        initial_meta=InitialMeta.up_to(0.2),
    )
    shown = torch.rand(200, 30, generator=generator)
    expected = trained.eval().requires_grad_(False)(shown, pool="sample").output
    chip = quantize(trained, Options(), shown)
    errors = []
    for local in ("history", "off"):
        outcome = run(chip.layers, chip.encode(shown), local=local)  # type: ignore[arg-type]
        found = outcome.potentials * chip.layers[-1].unit / 0.2
        errors.append(float((found - expected).abs().mean()))
    assert errors[0] < 0.1 * errors[1]


def test_more_lags_than_a_core_takes_are_refused() -> None:
    trained = network(rule=Hebbian(trace_decay=0.9), steps=300)
    with pytest.raises(ValueError, match="a core takes 256 numbers, 299 lags are more"):
        quantize(trained)
    assert quantize(trained, Options(lags=128)).layers[0].local is not None
    with in_use(load_chip().changed(fan_in=4)), pytest.raises(ValueError, match="takes 4 numbers"):
        quantize(network(rule=Hebbian(trace_decay=0.9), steps=9))


def test_a_layer_without_weights_is_moved_by_its_bias() -> None:
    trained = network(neuron=LIF(decay=0.0, v_th=0.2))
    with torch.no_grad():
        trained.layers[1].weight.zero_()
        trained.layers[1].bias.copy_(torch.linspace(0.0, 0.5, 10))
    shown = images(4)
    chip = quantize(trained)
    found = run(chip.layers, chip.encode(shown)).potentials * chip.layers[1].unit
    assert (found - torch.linspace(0.0, 0.5, 10)).abs().max() < 0.01
    with pytest.raises(ValueError, match="images of shape"):
        quantize(trained, images=shown[:0])
