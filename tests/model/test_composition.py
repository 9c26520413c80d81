"""Layers in models of one's own: chains, states in and out, what a model says of itself."""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from hybrid.model.layers import HybridLinear
from hybrid.model.neurons import LIF, AdaptiveLIF
from hybrid.model.plasticity import Hebbian, LayerState, LocalRule
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.rules import BCM, Rewarded
from tests.model.small import NEURON, RULE, RULES, layer, network, seeded, sequences


def test_layers_stand_in_a_sequential() -> None:
    """Tensor in, tensor out; other modules beside; the same spikes as by hand; trains."""
    first, second = layer(5, 8, returns="spikes"), layer(8, 3, returns="spikes")
    model = nn.Sequential(first, second, nn.Linear(3, 2)).double()
    x = sequences()
    expected = copy.deepcopy(model)
    by_hand = layer(5, 8).double()
    by_hand.load_state_dict(first.state_dict())
    assert torch.equal(copy.deepcopy(first)(x), by_hand(x).z)
    out = model(x)
    assert out.shape == (6, 7, 2)
    assert first(x).mean() > 0.05
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert not torch.equal(first.trace, expected[0].trace)
    with pytest.raises(ValueError, match="returns 'tensor' is unknown: choose one of window, spik"):
        layer(returns="tensor")


def test_without_a_generator_torch_draws() -> None:
    torch.manual_seed(3)
    one = HybridLinear(5, 4, neuron=NEURON, rule=RULE)
    torch.manual_seed(3)
    other = HybridLinear(5, 4, neuron=NEURON, rule=RULE)
    assert torch.equal(one.weight, other.weight)
    assert not torch.equal(one.weight, HybridLinear(5, 4, neuron=NEURON, rule=RULE).weight)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pool", ["batch", "sample"])
def test_a_long_sequence_in_chunks_is_the_whole(rule: LocalRule | None, pool: Any) -> None:
    """States go in and out of layer and network: two halves are one window."""
    options: dict[str, Any] = {"rule": rule, "pool": pool, "neuron": AdaptiveLIF(**vars(NEURON))}
    x = sequences()
    if pool == "sample":
        options["lifetime"] = "call"
    whole = network(**options).double().eval()
    halves = network(steps=3, **options).double().eval()
    state = halves.stored()
    spikes = []
    for part in x.split(3):
        activity = halves(part, state)
        spikes.append(activity.windows[-1].z)
        state = activity.final
    expected = whole(x, whole.stored())
    assert torch.equal(torch.cat(spikes), expected.windows[-1].z)
    assert torch.cat(spikes).mean() > 0.02
    for mine, other in zip(state, expected.final, strict=True):
        if rule is not None:
            assert torch.allclose(mine.trace, other.trace, atol=1e-12)


def test_detached_states_end_the_backward_pass() -> None:
    """Truncated backpropagation through time: a chunk learns, the next goes on from its state."""
    net = network(steps=3).double()
    state = net.stored()
    for part in sequences().split(3):
        activity = net(part, state)
        activity.output.sum().backward()
        state = tuple(own.detach() for own in activity.final)
        assert not any(own.trace.requires_grad for own in state)
    one = layer(5, 4).double()
    start = one.stored()
    for part in sequences().split(3):
        window = one(part, start)
        window.z.sum().backward()
        start = window.final.detach()


def test_a_state_that_lost_its_trace_is_refused() -> None:
    """Without `start` an evaluation does not build the trace; going on would take it for zero."""
    net = network(steps=3).double().eval()
    final = net(sequences(3), evaluation="factored").final
    with pytest.raises(ValueError, match=r"a state without its trace.*network\.stored\(\)"):
        net(sequences(3), final)
    with pytest.raises(ValueError, match="1 states to start from for 2 layers"):
        net(sequences(3), final[:1])


def test_reset_forgets_traces_alone() -> None:
    net = network().double()
    before = [p.clone() for p in net.parameters()]
    net(sequences())
    assert any(layer.trace.any() for layer in net.layers)
    net.reset()
    assert not any(layer.trace.any() for layer in net.layers)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    network(rule=None).reset()


def test_a_network_rewards_the_layers_that_wait() -> None:
    net = network(rule=[Rewarded(rule=RULE), None]).double()
    net(sequences())
    assert not net.layers[0].trace.any()
    net.reward(2.0)
    assert net.layers[0].trace.abs().max() > 0.01
    with pytest.raises(ValueError, match="no layer waits for a reward"):
        network().reward(1.0)


def test_print_says_what_a_model_is_made_of() -> None:
    shown = str(network(neuron=LIF(decay=nn.Parameter(torch.tensor(0.4)), v_th=0.3)))
    for part in (
        "FullyConnected(",
        "T=6, readout=Rate()",
        "5 -> 8",
        "decay='trained []', v_th=0.3",
        "Hebbian(trace_decay=0.9",
        "lifetime='carry'",
        "Theta(local_gain [], local_rate [5], sliding_threshold [8])",
    ):
        assert part in shown
    assert "rule=None" in str(network(rule=None))


def test_states_of_other_samples_are_refused() -> None:
    """By every kind of layer; and a state that was handed out stays when others are loaded."""
    x = sequences(inputs=6)
    for kind in (HybridLinear, HybridRecurrent):
        options: dict[str, Any] = {"neuron": NEURON, "rule": RULE, "generator": seeded()}
        made = kind(6, 4, **options).double()
        final = made(x, made.stored()).final
        with pytest.raises(ValueError, match="a state of 7 samples, and there are 3"):
            made(x[:, :3], final)
        begun = {name: value.clone() for name, value in made.state_dict().items()}
        begun["trace"].zero_()
        handed_out = made.stored().trace
        assert handed_out is not None
        made.load_state_dict(begun)
        assert handed_out.any()
        assert not made.trace.any()
    own = HybridRecurrent(6, 4, neuron=NEURON, rule=RULE, lifetime="call").double()
    state = own(x, LayerState(), pool="sample").final
    with pytest.raises(ValueError, match="pool = 'batch' moves one trace for all samples"):
        own(x, state)
    carried = layer(6, rule=BCM(trace_decay=0.9)).double()
    state = (
        layer(6, rule=BCM(trace_decay=0.9), pool="sample", lifetime="call")
        .double()(x, LayerState())
        .final
    )
    with pytest.raises(ValueError, match=r"a memory of shape \[7, 4\] cannot be kept"):
        carried(x, LayerState(eligibility=state.eligibility))


class Twice(NamedTuple):
    one: Tensor
    other: Tensor


@dataclass(frozen=True, kw_only=True)
class Remembering(Hebbian):
    """A rule that begins with one tensor in two places."""

    def begun(self, weight: Tensor) -> Any:
        zero = weight.new_zeros(1, 1)
        return Twice(zero, zero)

    def lasting(self, memory: Any) -> Any:
        return memory


def test_a_memory_may_begin_with_one_tensor_twice() -> None:
    made = layer(6, rule=Remembering(trace_decay=0.9)).double()
    made(sequences(inputs=6))
    assert len(made.stored().eligibility) == 2
