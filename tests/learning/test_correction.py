"""Corrections at test time, each against its own description."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from hybrid.learning.correction import (
    CORRECTIONS,
    Correction,
    Rates,
    Reference,
    answer_corrected,
    reference,
)
from hybrid.learning.evaluation import answer
from hybrid.model.coding import EventCounts, LastMembrane, Rate
from hybrid.model.layers import HybridLinear
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian
from hybrid.tianjic.quantize import quantize

STEPS, IN, HIDDEN, N = 6, 20, 16, 60


def network(*, local: bool = False, normalise: bool = False, **words: object) -> FullyConnected:
    made = FullyConnected(
        (IN, HIDDEN, 4),
        neuron=LIF(decay=0.5, v_th=0.3),
        rule=Hebbian(trace_decay=0.9) if local else None,
        readout=LastMembrane(),
        steps=STEPS,
        tau=40.0,
        generator=torch.Generator().manual_seed(0),
        normalise=normalise,
        **words,  # type: ignore[arg-type]
    )
    if local:
        source = torch.Generator().manual_seed(5)
        for layer in made.layers:
            layer.trace.uniform_(-1.0, 1.0, generator=source)  # type: ignore[operator]
            torch.nn.init.constant_(layer.theta.local_gain, 0.1)  # type: ignore[union-attr, arg-type]
    return made.eval()


def inputs(seed: int, *, shift: float = 0.0) -> Tensor:
    return torch.rand(N, IN, generator=torch.Generator().manual_seed(seed)) + shift


def by_hand(net: FullyConnected, x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Return the classes of one input, its weighted sum changed, by a loop over steps."""
    first, second = net.layers
    assert isinstance(first, HybridLinear)
    assert isinstance(second, HybridLinear)
    weights = []
    for layer in (first, second):
        own = layer.weight
        if layer.rule is not None:
            own = own + layer.theta.local_gain * layer.trace.T
        weights.append(own)
    changed = factor * (weights[0] @ x) + shift
    hidden = out = None
    for gain in net.gain:
        hidden = net.neuron.step((gain * changed + first.bias)[None], hidden)
        out = net.neuron.step(gain * (hidden.z @ weights[1].T) + second.bias, out)
    assert out is not None
    return out.v.argmax(-1)[0]


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_currents_get_the_mean_and_the_deviation_of_training(local: bool, pooled: bool) -> None:
    net, rate, size = network(local=local), 0.05, 25
    known = reference(net, inputs(1))
    shown = inputs(2, shift=0.4)
    correction: Correction = "currents-batch" if pooled else "currents-stream"
    rates = Rates(currents=rate)
    found = answer_corrected(net, shown[None], correction, known, size, rates).classes[0]
    read = net.read(shown)[:, 0]
    mean, square = known.mean.clone(), known.square.clone()
    changes = 0
    plain = answer(net, shown[None], "frozen", size).classes[0]
    for i in range(N):
        if pooled:
            batch = read[i // size * size : (i // size + 1) * size]
            mean, square = batch.mean(0), batch.square().mean(0)
        factor = ((known.square - known.mean**2) / (square - mean**2)).sqrt()
        expected = by_hand(net, shown[i], factor, known.mean - factor * mean)
        assert found[i] == expected
        changes += int(expected != plain[i])
        if not pooled:  # an input is told from those before it
            mean = mean + rate * (read[i] - mean)
            square = square + rate * (read[i] ** 2 - square)
    assert changes > 3, "a shift by half the range matters"


@pytest.mark.parametrize("normalise", [False, True])
def test_thresholds_follow_the_firing_rate(normalise: bool) -> None:
    net, rate = network(normalise=normalise), 0.5
    if normalise:
        for seed in range(20):
            net.train()(inputs(seed))
        torch.nn.init.normal_(net.layers[0].norm.bias, generator=torch.Generator().manual_seed(2))  # type: ignore[union-attr, arg-type]
        net.eval()
    known = reference(net, inputs(1))
    shown = inputs(2, shift=0.4)
    found = answer_corrected(net, shown[None], "thresholds", known, 1, Rates(thresholds=rate))
    scale = torch.ones(HIDDEN)
    first, second = net.layers
    fired = []
    for i in range(N):
        # Neurons whose own threshold is moved, by the equations.
        v = z = torch.zeros(HIDDEN)
        out, spikes = None, torch.zeros(HIDDEN)
        for gain in net.gain:
            read = (first.weight @ shown[i])[None]
            read = read if first.norm is None else first.norm(read)
            v = 0.5 * (v - 0.3 * scale * z) + gain * read[0] + first.bias
            z = (v > 0.3 * scale).float()
            spikes += z
            out = net.neuron.step((gain * (second.weight @ z) + second.bias)[None], out)
        assert out is not None
        assert found.classes[0, i] == out.v.argmax()
        scale = scale * torch.exp(rate * (spikes / STEPS - known.rate))
        fired.append(float(spikes.mean()) / STEPS)
    assert found.rates[0, 0].item() == pytest.approx(np.mean(fired), abs=1e-6)
    bare = answer(net, shown[None], "frozen", N).rates[0, 0].item()
    usual = known.rate.mean().item()
    assert normalise or abs(np.mean(fired[N // 2 :]) - usual) < 0.5 * abs(bare - usual)


def test_pixels_lose_what_came_before_and_batches_their_offset() -> None:
    net = network()
    known = reference(net, inputs(1))
    shown = inputs(2, shift=0.3)
    mean, made = known.pixels, []
    for x in shown:
        made.append(x - mean + known.pixels)
        mean = mean + 0.2 * (x - mean)
    expected = answer(net, torch.stack(made)[None], "frozen", N).classes
    found = answer_corrected(net, shown[None], "pixels", known, 20, Rates(pixels=0.2)).classes
    assert torch.equal(found, expected)
    batches = [x - x.mean() + known.pixels.mean() for x in shown.split(20)]
    expected = answer(net, torch.cat(batches)[None], "frozen", N).classes
    assert torch.equal(answer_corrected(net, shown[None], "offset", known, 20).classes, expected)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_nothing_changes_where_nothing_has_moved(correction: Correction) -> None:
    net = network(local=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    shown = inputs(1)
    known = reference(net, shown)
    slow = Rates(1e-9, 1e-9, 1e-9)
    plain = answer(net, shown[None], "frozen", N)
    found = answer_corrected(net, shown[None], correction, known, N, slow)
    assert torch.equal(found.classes, plain.classes)
    torch.testing.assert_close(found.rates, plain.rates)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    net.train()
    reference(net, shown)
    answer_corrected(net, shown[None], correction, known, N, slow)
    assert net.training, "the mode comes back"
    assert net.layers[0].training


def test_sets_do_not_meet_and_order_matters_to_streams_alone() -> None:
    net = network()
    known = reference(net, inputs(1))
    one, two = inputs(2, shift=0.3), inputs(3, shift=-0.2)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for correction in CORRECTIONS:
        both = answer_corrected(net, torch.stack([one, two]), correction, known, N)
        alone = answer_corrected(net, two[None], correction, known, N)
        assert torch.equal(both.classes[1], alone.classes[0]), correction
        torch.testing.assert_close(both.rates[1], alone.rates[0])
        if correction in ("offset", "currents-batch"):  # one batch: who is in it counts, no more
            again = answer_corrected(net, two[order][None], correction, known, N)
            assert torch.equal(again.classes[0], alone.classes[0, order])
        else:
            fast = Rates(0.3, 0.3, 3.0)
            first, second = (
                answer_corrected(net, x[None], correction, known, N, fast).classes[0]
                for x in (two, two[order])
            )
            assert not torch.equal(second, first[order]), correction


def test_events_are_read_step_by_step() -> None:
    net = network(encode=EventCounts(ceiling=3))
    net.readout = Rate()
    source = torch.Generator().manual_seed(4)
    shown = torch.randint(0, 4, (N, STEPS * IN), generator=source).to(torch.uint8)
    known = reference(net, shown)
    assert net.read(shown).shape == (N, STEPS, HIDDEN)
    assert isinstance(known, Reference)
    plain = answer(net, shown[None], "frozen", N)
    for correction in ("currents-batch", "currents-stream", "thresholds"):
        found = answer_corrected(net, shown[None], correction, known, N, Rates(1e-9, 1e-9, 1e-9))
        assert torch.equal(found.classes, plain.classes)


def test_a_normalised_network_keeps_its_own_normalisation() -> None:
    net = network(normalise=True).train()
    for seed in range(30):
        net(inputs(seed))
    net.eval()
    first = net.layers[0]
    assert isinstance(first, HybridLinear)
    assert first.norm is not None
    shown = inputs(99)
    v = net(shown).windows[0].v[0]
    torch.testing.assert_close(v, first.norm(net.read(shown)[:, 0]) + first.bias)
    pooled = net.train()(shown).windows[0].v[0] - first.bias
    torch.testing.assert_close(pooled.mean(0), torch.zeros(HIDDEN), atol=1e-5, rtol=0.0)
    deviation = pooled.std(0, correction=0)
    torch.testing.assert_close(deviation, torch.full((HIDDEN,), 0.3), atol=1e-3, rtol=0.0)
    net.eval()
    known = reference(net, shown)
    moved = answer_corrected(net, 2.0 * shown[None], "currents-batch", known, N).classes
    assert torch.equal(moved, answer(net, shown[None], "frozen", N).classes), "twice the contrast"


def test_what_cannot_be_corrected_is_refused() -> None:
    assert get_args(Correction) == CORRECTIONS
    net = network(local=True)
    known = reference(net, inputs(1))
    with pytest.raises(ValueError, match="correction"):
        answer_corrected(net, inputs(1)[None], "prayer", known, N)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fixed synapses"):
        net(inputs(1), control=torch.neg)
    with pytest.raises(ValueError, match="without a local rule"):
        network(local=True, normalise=True)
    with pytest.raises(ValueError, match="fold its norm"):
        quantize(network(normalise=True))
    lonely = FullyConnected(
        (IN, 4),
        neuron=LIF(decay=0.5, v_th=0.3),
        rule=None,
        readout=LastMembrane(),
        steps=STEPS,
        generator=torch.Generator(),
    )
    with pytest.raises(ValueError, match="one behind it"):
        reference(lonely, inputs(1))
