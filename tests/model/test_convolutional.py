"""Convolutional networks: stopping, silence after the answer, traces, dropout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybrid.model.coding import InParts, Rank, Rate
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.layers import InitialMeta
from hybrid.model.neurons import LIF, NeuronState
from hybrid.model.plasticity import Hebbian

STEPS = 6


def build(seed: int = 0, **options: object) -> Convolutional:
    """A small network in float64 whose traces are loud enough to matter."""
    arguments: dict = {
        "neuron": LIF(decay=0.6, v_th=0.3),
        "rule": Hebbian(trace_decay=0.9, post="identity", sign=-1, trace_clip=2.0),
        "readout": Rank(ceiling=1.1),
        "steps": STEPS,
        "tau": 10.0,
        "generator": torch.Generator().manual_seed(seed),
        "initial_meta": InitialMeta((0.5, 0.5), (0.0, 0.5), (0.0, 0.1)),
    } | options
    convolutions = [
        Convolution(channels=4, pooled=True),
        Convolution(channels=5, pooled=True, dropout=0.5),
    ]
    plastic = arguments.pop("plastic", 0)
    dense = [Dense(size=12, plastic=plastic == 0), Dense(size=3, plastic=plastic == 1)]
    network = Convolutional((1, 8, 8), convolutions, dense, **arguments).double()
    with torch.no_grad():
        for convolve in network.convolutions:
            convolve.weight.mul_(3.0)
        for layer in network.layers:
            layer.weight.mul_(3.0)
        network.layers[1].bias.zero_()
        for layer in network.layers:
            if layer.rule is not None and layer.lifetime == "carry":
                layer.trace.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(1))
    return network.eval()


def images(count: int, seed: int = 0) -> Tensor:
    # Some are faint, so that samples stop at different steps.
    g = torch.Generator().manual_seed(seed)
    strength = torch.rand(count, 1, 1, 1, generator=g, dtype=torch.float64)
    return strength * torch.rand(count, 1, 8, 8, generator=g, dtype=torch.float64)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    adapt=st.booleans(),
    mates=st.integers(1, 7),
    rule=st.booleans(),
)
def test_a_sample_stops_and_answers_alone(seed: int, adapt: bool, mates: int, rule: bool) -> None:
    """Per-sample stopping: the same prediction, whatever else is in the batch."""
    options = {} if rule else {"rule": None}
    network = build(seed, lifetime="call", pool="sample", **options)
    sample, others = images(1, seed), images(mates, seed + 1)
    alone = network(sample, adapt=adapt)
    among = network(torch.cat([others, sample]), adapt=adapt)
    torch.testing.assert_close(among.output[-1:], alone.output)
    assert among.output[-1].argmax() == alone.output[0].argmax()
    stop = network.readout.stop_steps
    v_th = network.neuron.v_th
    assert (
        stop(among.windows[-1].states, v_th)[-1]
        == stop(alone.windows[-1].states, v_th)[0]
        == len(alone.windows[-1].states) - 1
    )


def test_samples_stop_at_different_steps_and_the_batch_runs_for_the_last() -> None:
    network = build()
    activity = network(images(30), adapt=False)
    stops = network.readout.stop_steps(activity.windows[-1].states, network.neuron.v_th)
    assert len(stops.unique()) > 2
    assert len(activity.windows[0].states) == stops.max() + 1
    assert activity.spikes().shape == (4, stops.max() + 1, 30)


def test_a_batch_stops_together_and_its_mates_decide() -> None:
    """The authors' rule: what a sample answers depends on its batch."""
    network = build(readout=Rank(fraction=0.6, ceiling=1.1))
    batch = images(30)
    activity = network(batch, adapt=False)
    stops = network.readout.stop_steps(activity.windows[-1].states, network.neuron.v_th)
    assert stops.unique().tolist() == [len(activity.windows[0].states) - 1]
    alone = torch.cat([network(sample.unsqueeze(0), adapt=False).output for sample in batch])
    assert not torch.allclose(alone, activity.output)


@dataclass(frozen=True)
class FirstAtOnce(Rate):
    """The first sample of a batch of two has its answer after one step, the other never."""

    def answered(self, states: Sequence[NeuronState], v_th: float) -> Tensor:
        return torch.arange(len(states[-1].v)) < len(states[-1].v) - 1


@pytest.mark.parametrize("plastic", [0, 1])
def test_an_answered_sample_moves_no_shared_trace(plastic: int) -> None:
    """With a silent trace (gain 0) updates add up: one step of one sample, all of the other.

    Biases are large, so that layers would go on spiking if only the first were cut off.
    """

    def moved(batch: Tensor, steps: int) -> Tensor:
        rule = Hebbian(trace_decay=0.9, post="identity", sign=-1)
        network = build(rule=rule, readout=FirstAtOnce(), steps=steps, plastic=plastic).train()
        network._convolutions = [replace(spec, dropout=0.0) for spec in network._convolutions]
        layer = network.layers[plastic]
        with torch.no_grad():
            layer.theta.local_gain.zero_()
            for each in network.layers:
                each.bias.fill_(0.4)
        before = layer.trace.clone()
        assert len(network(batch).windows[0].states) == steps
        return layer.trace - 0.9**steps * before

    first, second = images(1, 3) + 0.5, images(1, 4) + 0.5
    both = moved(torch.cat([first, second]), STEPS)
    once, always = moved(first, 1), moved(second, STEPS)
    torch.testing.assert_close(both, 0.5 * (0.9 ** (STEPS - 1) * once + always))
    assert once.abs().max() > 0.01


def test_a_rate_code_never_stops_early() -> None:
    network = build(readout=Rate())
    activity = network(images(5))
    assert len(activity.windows[0].states) == STEPS
    torch.testing.assert_close(activity.output, activity.windows[-1].z.mean(0))


def test_without_gain_the_network_is_global() -> None:
    hybrid, plain = build(), build(rule=None)
    plain.load_state_dict({k: v for k, v in hybrid.state_dict().items() if k in plain.state_dict()})
    with torch.no_grad():
        hybrid.layers[0].theta.local_gain.zero_()
    batch = images(6)
    assert torch.equal(hybrid(batch).output, plain(batch).output)
    assert hybrid(batch).windows[-1].z.sum() > 0


def test_traces_move_in_training_alone() -> None:
    network = build()
    before = network.layers[0].trace.clone()
    network(images(4))
    assert torch.equal(network.layers[0].trace, before)
    network.train()(images(4), adapt=False)
    assert torch.equal(network.layers[0].trace, before)
    network(images(4))
    assert not torch.equal(network.layers[0].trace, before)


def test_a_sequence_of_one_image_is_that_image() -> None:
    repeated = build(readout=Rate(), encode=lambda x, steps: [x] * steps)
    still, shown = build(readout=Rate()), images(7)
    torch.testing.assert_close(repeated(shown).output, still(shown).output)
    assert repeated(shown).spikes()[1].sum() > 0


def test_each_step_of_a_sequence_is_seen_at_its_time() -> None:
    network = build(readout=Rate(), encode=InParts())
    shown = torch.cat([images(5, seed).flatten(1) for seed in range(STEPS)], dim=1)
    changed = shown.clone()
    changed[:, 3 * 64 : 4 * 64] *= 4.0
    before, after = (network(x).windows[0].v.flatten(2) for x in (shown, changed))
    torch.testing.assert_close(before[:3], after[:3], rtol=0.0, atol=0.0)
    assert (before[3] != after[3]).any(dim=1).all()
    with pytest.raises(ValueError, match="5 images for 6 steps"):
        build(encode=lambda x, steps: [x] * 5)(images(2))


def test_dropout_acts_in_training_alone_and_follows_the_global_generator() -> None:
    network = build(rule=None)
    batch = images(4)
    assert torch.equal(network(batch).output, network(batch).output)
    network.train()
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(network(batch).output)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: Convolution(channels=0), "Convolution.channels = 0"),
        (lambda: Convolution(channels=1, dropout=1.0), r"dropout = 1.0: it must be in \[0, 1\)"),
        (lambda: Dense(size=0), "Dense.size = 0"),
        (lambda: Dense(size=1, dropout=-0.1), "Dense.dropout = -0.1"),
        (lambda: Rank(fraction=1.0), "Rank.fraction = 1.0"),
        (lambda: Rank(earliest=-1), "Rank.earliest = -1"),
        (lambda: build()(images(2)[:, :, 1:].double()), r"\[N, \(1, 8, 8\)\], got \[2, 1, 7, 8\]"),
    ],
)
def test_what_cannot_be_is_named(build_it: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_it()


@pytest.mark.parametrize(
    ("convolutions", "message"),
    [
        ([Convolution(channels=1, pooled=True)] * 4, "nothing is left of images"),
        ([Convolution(channels=1, dropout=0.5)], "the first convolution sees the image"),
        ([], "at least one convolutional and one dense layer"),
    ],
)
def test_impossible_networks_are_named(convolutions: list[Convolution], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Convolutional(
            (1, 8, 8),
            convolutions,
            [Dense(size=2)],
            neuron=LIF(decay=0.5, v_th=0.5),
            rule=None,
            readout=Rate(),
            steps=2,
            generator=torch.Generator(),
        )
