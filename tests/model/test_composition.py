"""Layers in models of one's own: chains, states in and out, constants, recurrence, lengths."""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from hybrid.model.coding import LastMembrane, Rank, Rate, ReadOut
from hybrid.model.convolutional import Convolution, Convolutional, Dense
from hybrid.model.few_shot import FewShotReadOut
from hybrid.model.layers import HybridLinear, InitialMeta, meta_parameters, weight_parameters
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import IF, LIF, AdaptiveLIF, Neuron
from hybrid.model.plasticity import STDP, Hebbian, LayerState, LocalRule
from hybrid.model.recurrent import HybridRecurrent
from hybrid.model.rules import BCM, Oja, Rewarded
from hybrid.tianjic.quantize import quantize

NEURON = LIF(decay=0.6, v_th=0.3)
RULE = Hebbian(trace_decay=0.9)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(inputs: int = 6, outputs: int = 4, **options: Any) -> HybridLinear:
    options = {"neuron": NEURON, "rule": RULE, "generator": seeded(), **options}
    return HybridLinear(inputs, outputs, initial_meta=InitialMeta.up_to(0.5), **options)


def network(**options: Any) -> FullyConnected:
    options = {
        "neuron": NEURON,
        "rule": RULE,
        "readout": Rate(),
        "steps": 6,
        "initial_meta": InitialMeta.up_to(0.5),
        "generator": seeded(),
        **options,
    }
    return FullyConnected((5, 8, 3), **options)


def sequences(steps: int = 6, samples: int = 7, inputs: int = 5, seed: int = 2) -> Tensor:
    drawn = torch.rand(steps, samples, inputs, generator=seeded(seed), dtype=torch.float64)
    return 2 * drawn


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


RULES: tuple[LocalRule | None, ...] = (
    None,
    RULE,
    Hebbian(trace_decay=0.9, trace_clip=0.2),
    STDP(trace_decay=0.9),
    Oja(trace_decay=0.9),
    BCM(trace_decay=0.9, averaging=0.2),
    Rewarded(rule=RULE),
)


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


@pytest.mark.parametrize("kind", [LIF, AdaptiveLIF])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("rule", [None, RULE, STDP(trace_decay=0.9)])
def test_constants_may_be_tensors(kind: type[LIF], reset: Any, rule: LocalRule | None) -> None:
    """One entry or one for each neuron: the spikes of numbers, and gradients for parameters."""
    numbers = layer(rule=rule, neuron=kind(decay=0.6, v_th=0.3, reset=reset)).double()
    x = sequences(inputs=6)
    expected = numbers(x)
    for shape in ((), (1,), (4,)):
        constants = {
            "decay": nn.Parameter(torch.full(shape, 0.6, dtype=torch.float64)),
            "v_th": nn.Parameter(torch.full(shape, 0.3, dtype=torch.float64)),
        }
        given = kind(**constants, reset=reset)  # type: ignore[arg-type]
        made = layer(rule=rule, neuron=given).double()
        window = made(x)
        assert torch.equal(window.z, expected.z)
        assert torch.allclose(window.v, expected.v, atol=1e-12)
        (window.v.sum() + window.z.sum()).backward()
        trained = made.constants
        for name, value in constants.items():
            own = trained.get_parameter(name)
            assert own is not value  # a copy of the layer's own
            assert own.grad is not None
            assert own.grad.shape == shape
        assert trained.get_parameter("decay").grad.abs().max() > 0.01  # type: ignore[union-attr]
        assert trained.get_parameter("decay") in {*weight_parameters(made)}
        assert trained.get_parameter("decay") not in {*meta_parameters(made)}


def test_gradients_of_constants_agree_with_differences() -> None:
    """Without spikes v is smooth in the decay and, through the post signal, in the threshold."""

    def run(decay: float, v_th: float) -> tuple[Tensor, Any]:
        neuron = LIF(
            decay=nn.Parameter(torch.tensor(decay, dtype=torch.float64)),
            v_th=nn.Parameter(torch.tensor(v_th, dtype=torch.float64)),
        )
        made = layer(neuron=neuron).double()
        window = made(0.2 * sequences(inputs=6))
        assert not window.z.any()
        return window.v.square().sum(), made.constants

    value, constants = run(0.6, 3.0)
    value.backward()
    for name, (high, low) in {
        "decay": (run(0.6 + 1e-6, 3.0)[0], run(0.6 - 1e-6, 3.0)[0]),
        "v_th": (run(0.6, 3.0 + 1e-6)[0], run(0.6, 3.0 - 1e-6)[0]),
    }.items():
        slope = ((high - low) / 2e-6).item()
        assert abs(slope) > 1e-6
        assert constants.get_parameter(name).grad.item() == pytest.approx(slope, rel=1e-4), name


def test_neurons_of_a_layer_may_differ() -> None:
    """One neuron with its own constants behaves as a layer of such neurons."""
    decays = torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=torch.float64)
    x = sequences(inputs=6)
    mixed = layer(rule=None, neuron=LIF(decay=decays, v_th=0.3)).double()(x)
    for i, decay in enumerate(decays.tolist()):
        alone = layer(rule=None, neuron=LIF(decay=decay, v_th=0.3)).double()(x)
        assert torch.equal(mixed.z[..., i], alone.z[..., i])
    assert "constants.decay" in layer(neuron=LIF(decay=decays, v_th=0.3)).state_dict()


def test_trained_constants_stay_within_bounds_and_survive_copies() -> None:
    neuron = LIF(decay=nn.Parameter(torch.tensor(0.9)), v_th=nn.Parameter(torch.tensor(0.3)))
    made = layer(neuron=neuron)
    with torch.no_grad():
        made.constants.get_parameter("decay").fill_(1.7)
        made.constants.get_parameter("v_th").fill_(-1.0)
    assert made.neuron.decay.item() == 1.0  # type: ignore[attr-defined]
    assert made.neuron.v_th.item() > 0.0
    made.neuron.decay.backward()  # type: ignore[attr-defined]
    assert made.constants.get_parameter("decay").grad.item() == 1.0  # it can come back
    copied = copy.deepcopy(made)
    with torch.no_grad():
        copied.constants.get_parameter("decay").fill_(0.2)
    assert copied.neuron.decay.item() == pytest.approx(0.2)  # type: ignore[attr-defined]
    assert made.neuron.decay.item() == 1.0  # type: ignore[attr-defined]


def test_constants_that_make_no_sense_are_named() -> None:
    for make, message in (
        (lambda: LIF(decay=torch.tensor([0.1, float("nan")]), v_th=0.3), r"LIF\.decay = tensor"),
        (lambda: LIF(decay=0.1, v_th=torch.tensor([0.1, 0.0])), r"LIF\.v_th = tensor"),
        (lambda: IF(v_th=torch.tensor(-1.0)), r"IF\.v_th"),
        (lambda: layer(neuron=LIF(decay=torch.full((3,), 0.4), v_th=0.3)), "each of its 4 neurons"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_what_takes_numbers_alone_says_so() -> None:
    neuron: Neuron = LIF(decay=nn.Parameter(torch.tensor(0.4)), v_th=0.3)
    with pytest.raises(ValueError, match="Convolutional takes numbers"):
        Convolutional(
            (1, 6, 6),
            [Convolution(channels=2)],
            [Dense(size=3)],
            neuron=neuron,
            rule=None,
            readout=Rate(),
            steps=2,
        )
    assert isinstance(neuron, LIF)
    with pytest.raises(ValueError, match="FewShotReadOut takes numbers"):
        FewShotReadOut(4, 3, neuron=neuron, rule=None)
    with pytest.raises(ValueError, match="all neurons of a layer share their constants"):
        quantize(network(neuron=[LIF(decay=torch.full((8,), 0.4), v_th=0.3), NEURON]))
    other = network()
    other.layers[0] = HybridRecurrent(5, 8, neuron=NEURON, rule=RULE)
    with pytest.raises(ValueError, match="HybridRecurrent has no form on the chip"):
        quantize(other)
    shared = quantize(network(neuron=neuron))  # one for the layer is a number to the chip
    assert (
        shared.layers[0].soma.leak
        == quantize(network(neuron=LIF(decay=0.4, v_th=0.3))).layers[0].soma.leak
    )


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
