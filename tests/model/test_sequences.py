"""Recurrence, and samples that end at different steps."""

from typing import Any

import pytest
import torch
from torch import nn

from hybrid.model.coding import LastMembrane, Rank, Rate, ReadOut
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.plasticity import STDP, LayerState, LocalRule
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.rules import BCM, Oja
from tests.model.small import NEURON, RULE, RULES, layer, network, seeded, sequences


@pytest.mark.parametrize("rule", [None, RULE, STDP(trace_decay=0.9), Oja(trace_decay=0.9)])
def test_a_recurrent_layer_sees_its_own_spikes(rule: LocalRule | None) -> None:
    """Each step is that of a plain layer that is shown inputs and earlier spikes side by side."""
    x = sequences()
    options: dict[str, Any] = {"neuron": NEURON, "rule": rule}
    options["initial_meta"] = InitialMeta.up_to(0.5)
    made = HybridRecurrent(5, 4, generator=seeded(), **options).double()
    plain = HybridLinear(9, 4, generator=seeded(), **options).double()
    state, spikes = LayerState(), []
    for inputs in x:
        before = torch.zeros(7, 4, dtype=torch.float64)
        if state.neuron is not None:
            before = state.neuron.z
        state = plain.step(torch.cat([inputs, before], -1), state)
        assert state.neuron is not None
        spikes.append(state.neuron.z)
    window = made(x)
    assert torch.equal(window.z, torch.stack(spikes))
    assert window.z.mean() > 0.05
    if rule is not None:
        assert state.trace is not None
        assert torch.allclose(made.trace, state.trace, atol=1e-12)
        assert made.trace[5:].abs().max() > 1e-3  # its own synapses are plastic, too
    stacked = nn.Sequential(
        HybridRecurrent(5, 4, returns="spikes", generator=seeded(), **options), nn.Linear(4, 2)
    ).double()
    stacked(x).square().sum().backward()
    assert stacked[0].weight.grad[:, 5:].abs().max() > 0


def test_recurrence_refuses_what_it_cannot_do() -> None:
    made = HybridRecurrent(5, 4, neuron=NEURON, rule=RULE)
    with pytest.raises(ValueError, match="takes no mask"):
        made(sequences().float(), mask=torch.ones(9, 4))
    with pytest.raises(ValueError, match="recurrence runs step by step"):
        made(sequences().float(), evaluation="factored")
    with pytest.raises(ValueError, match="normalise = True is for layers without recurrence"):
        HybridRecurrent(5, 4, neuron=NEURON, rule=None, normalise=True)
    with pytest.raises(ValueError, match=r"T inputs \[N, 5\]"):
        made(torch.rand(3, 7, 9))


LENGTHS = torch.tensor([3, 6, 1, 6, 2, 3, 5])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("readout", [Rate(), LastMembrane(), Rank()])
def test_a_sample_of_any_length_is_answered_as_alone(
    rule: LocalRule | None, readout: ReadOut
) -> None:
    """Padding is never seen, in the answer, the spikes or the trace; nor is T of the network."""
    options: dict[str, Any] = {"rule": rule, "readout": readout, "pool": "sample"}
    options |= {"lifetime": "call", "tau": 5.0}
    net = network(steps=4, **options).double()
    x = sequences()
    for n, length in enumerate(LENGTHS.tolist()):
        x[length:, n] = float("nan")
    activity = net(x, net.stored(), lengths=LENGTHS)
    for n, length in enumerate(LENGTHS.tolist()):
        alone = network(steps=length, **options).double()
        expected = alone(x[:length, n : n + 1], alone.stored())
        assert torch.allclose(activity.output[n], expected.output[0], atol=1e-12)
        for mine, other in zip(activity.windows, expected.windows, strict=True):
            assert torch.equal(mine.z[:length, n], other.z[:, 0])
            assert not mine.z[length:, n].any()
            assert torch.allclose(mine.final.neuron.v[n], other.final.neuron.v[0], atol=1e-12)
            if rule is not None:
                assert torch.allclose(mine.final.trace[n], other.final.trace[0], atol=1e-12)
    assert activity.windows[0].z.mean() > 0.02


@pytest.mark.parametrize("rule", [RULE, BCM(trace_decay=0.9, averaging=0.2)])
def test_a_shared_trace_moves_by_those_who_are_still_there(rule: LocalRule) -> None:
    """By hand: the batch is shown until the first ends, then the rest goes on from that state."""
    made, other = layer(5, rule=rule).double(), layer(5, rule=rule).double()
    x, lengths = sequences(), torch.tensor([6, 2, 6, 2, 6, 6, 2])
    window = made(x, lengths=lengths)
    first = other(x[:2], other.stored())
    rows = (lengths == 6).nonzero().squeeze(1)
    neuron = type(first.final.neuron)(first.final.neuron.v[rows], first.final.neuron.z[rows])
    second = other(x[2:, rows], first.final._replace(neuron=neuron))
    assert torch.equal(window.z[:2], first.z)
    assert torch.equal(window.z[2:, rows], second.z)
    assert torch.allclose(made.trace, second.final.trace, atol=1e-12)
    assert made.trace.abs().max() > 0.01


def test_equal_lengths_are_the_plain_window() -> None:
    made, other = network().double(), network().double()
    x = sequences()
    assert torch.equal(made(x, lengths=torch.full((7,), 6)).output, other(x).output)
    loader = x.transpose(0, 1)
    padded = made(loader, lengths=LENGTHS, batch_first=True).output
    assert torch.equal(padded, other(x, lengths=LENGTHS).output)


def test_an_empty_batch_of_sequences_has_no_answer() -> None:
    net = network().double()
    empty = net(sequences(samples=0), lengths=torch.zeros(0).long())
    assert empty.output.shape == (0, 3)


def test_lengths_that_make_no_sense_are_named() -> None:
    net, x = network().double().eval(), sequences()
    for lengths, message in (
        (torch.zeros(7).long(), "lengths from 0 to 0"),
        (torch.full((7,), 9), "lengths from 9 to 9: they must lie between 1 and the 6 steps"),
        (torch.ones(3).long(), r"lengths of shape \[3\] and torch.int64 for 7 samples"),
        (torch.ones(7), "torch.float32 for 7 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            net(x, lengths=lengths)
    with pytest.raises(ValueError, match="lengths are of sequences"):
        net(x[0], lengths=LENGTHS)
    normalised = layer(5, rule=None, normalise=True).double()
    with pytest.raises(ValueError, match="a normalised layer needs all samples"):
        normalised(x, lengths=LENGTHS)
    assert torch.equal(net(x, lengths=LENGTHS.tolist()).output, net(x, lengths=LENGTHS).output)
