"""Local rules beside the paper's, against their equations, and what they remember."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from hybrid.model.coding import LastMembrane
from hybrid.model.drive import direct
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian, LayerState, LocalRule, MetaLocal, Step
from hybrid.model.pooling import Pool
from hybrid.model.rules import BCM, Oja, Rewarded
from hybrid.model.streams import run_stream
from hybrid.model.window.choice import run_window
from hybrid.tianjic.quantize import quantize

T, N, IN, OUT = 5, 4, 6, 3
NEURON = LIF(decay=0.6, v_th=0.3)
RULES: dict[str, LocalRule] = {
    "Hebbian": Hebbian(trace_decay=0.9),
    "anti-Hebbian": Hebbian(trace_decay=0.9, sign=-1),
    "STDP": STDP(trace_decay=0.9),
    "Oja": Oja(trace_decay=0.9),
    "BCM": BCM(trace_decay=0.9, averaging=0.2),
    "reward-modulated STDP": Rewarded(rule=STDP(trace_decay=0.8), trace_decay=0.95),
}


def layer(rule: LocalRule, **options: Any) -> HybridLinear:
    options = {"initial_meta": InitialMeta.up_to(0.5), **options}
    generator = torch.Generator().manual_seed(1)
    made = HybridLinear(IN, OUT, neuron=NEURON, rule=rule, generator=generator, **options)
    return made.double()


def inputs(samples: int = N, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(T, samples, IN, generator=generator, dtype=torch.float64) * 2


class Reference:
    """One sample or a batch, as the equations say: loops over synapses, one shared trace."""

    def __init__(self, layer: HybridLinear, rule: LocalRule) -> None:
        synapse = layer.synapse()
        assert synapse.meta is not None
        assert synapse.bias is not None
        self.rule, self.meta = rule, synapse.meta
        self.weight, self.bias = synapse.weight.T, synapse.bias
        self.trace = torch.zeros(IN, OUT, dtype=torch.float64)
        self.tag = torch.zeros(IN, OUT, dtype=torch.float64)
        self.theta = torch.zeros(OUT, dtype=torch.float64)

    @torch.no_grad()
    def run(self, x: Tensor) -> Tensor:
        """Return all spikes, leaving trace, tag and θ as they are at the end."""
        steps, samples = x.shape[:2]
        v = z = torch.zeros(samples, OUT, dtype=torch.float64)
        pre = torch.zeros(samples, IN, dtype=torch.float64)
        post = torch.zeros(samples, OUT, dtype=torch.float64)
        spikes = []
        for t in range(steps):
            current = x[t] @ (self.weight + self.meta.local_gain * self.trace) + self.bias
            v = 0.6 * (v - 0.3 * z) + current
            z = (v > 0.3).double()
            spikes.append(z)
            before, update = self.trace.clone(), torch.zeros_like(self.trace)
            rule, beta = self.rule, self.meta.sliding_threshold
            inner = rule.rule if isinstance(rule, Rewarded) else rule
            pre = 0.8 * pre + x[t]
            for n in range(samples):
                for j in range(IN):
                    for i in range(OUT):
                        rate = self.meta.local_rate[j] / samples
                        if isinstance(inner, STDP):
                            grown = pre[n, j] * z[n, i]
                            change = grown - x[t, n, j] * (1 + beta[i]) * 0.8 * post[n, i]
                        elif isinstance(inner, BCM):
                            y = torch.relu(v[n, i] / 0.3)
                            change = x[t, n, j] * y * (y - self.theta[i] - beta[i])
                        else:
                            y = torch.tanh(v[n, i] / 0.3 - beta[i])
                            assert isinstance(inner, Hebbian)
                            change = inner.sign * x[t, n, j] * y
                            if isinstance(inner, Oja):
                                change = change - y**2 * before[j, i]
                        update[j, i] += rate * change
            post = 0.8 * post + z
            if isinstance(rule, Rewarded):
                self.tag = 0.8 * self.tag + update
                self.trace = 0.95 * before
            else:
                self.trace = 0.9 * before + update
            if isinstance(inner, BCM):
                square = torch.relu(v / 0.3).square().mean(0)
                self.theta = self.theta + 0.2 * (square - self.theta)
        return torch.stack(spikes)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_is_its_equation(name: str) -> None:
    """Twice, so that what is kept from call to call counts, with a reward between."""
    rule = RULES[name]
    made, expected = layer(rule).train(), Reference(layer(rule), rule)
    for call in range(2):
        x = inputs(seed=call)
        window = made(x)
        spikes = expected.run(x)
        assert 0.1 < spikes.mean() < 0.9
        assert torch.equal(window.z, spikes)
        assert torch.allclose(made.trace, expected.trace, atol=1e-12)
        if isinstance(rule, Rewarded):
            made.reward(0.7)
            expected.trace = expected.trace + 0.7 * expected.tag
            assert made.trace.abs().max() > 0.01
            assert torch.allclose(made.trace, expected.trace, atol=1e-12)
        elif isinstance(rule, BCM):
            assert torch.allclose(made.stored().eligibility.square[0], expected.theta)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("pool", ["sample", "stream"])
def test_samples_with_traces_of_their_own_do_not_meet(name: str, pool: Pool) -> None:
    """A sample in a batch has the trace and the memory that it has alone."""
    rule, x = replace(RULES[name], nominal_batch=3), inputs()  # type: ignore[call-arg]
    made = layer(rule, lifetime="call", pool=pool)
    together = made(x, LayerState())
    for n in range(N):
        alone = made(x[:, n : n + 1], LayerState())
        assert torch.equal(together.z[:, n], alone.z[:, 0])
        assert torch.allclose(together.final.trace[n], alone.final.trace[0])
    rewarded = isinstance(rule, Rewarded)
    assert (together.final.trace.abs().max() > 1e-3) != rewarded
    if isinstance(rule, Rewarded):
        values = torch.arange(N).double()
        moved = rule.reward(together.final, values).trace
        assert moved is not None
        assert moved[0].eq(0).all()
        assert moved[1:].abs().max() > 1e-3
        with pytest.raises(ValueError, match=r"rewards of shape \[2\] for 4 traces"):
            rule.reward(together.final, torch.ones(2))


def test_oja_finds_the_first_principal_component() -> None:
    """A linear neuron that sees its trace alone turns to the direction of largest variance."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(IN, IN, generator=generator, dtype=torch.float64))[0]
    spread = torch.tensor([3.0, 1.0, 0.5, 0.3, 0.2, 0.1], dtype=torch.float64)
    rule = Oja(trace_decay=1.0, post="identity")
    synapse = layer(rule).synapse()
    zero = torch.zeros(1, dtype=torch.float64)
    meta = MetaLocal(torch.tensor(1.0).double(), torch.tensor(0.01).double(), zero)
    synapse = synapse._replace(weight=torch.zeros(1, IN).double(), bias=None, meta=meta)
    neuron = LIF(decay=0.0, v_th=1.0, reset="none")
    state = LayerState(trace=axes.sum(1, keepdim=True) / IN)
    for _ in range(200):
        x = (torch.randn(50, IN, generator=generator, dtype=torch.float64) * spread) @ axes.T
        final = run_window([x], synapse, neuron, rule, state).final
        state = LayerState(trace=final.trace)
    assert state.trace is not None
    found = state.trace[:, 0]
    assert (found @ axes[:, 0]).abs() > 0.99
    assert found.norm().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", RULES)
def test_a_stream_of_any_rule_is_one_sample_after_the_other(name: str) -> None:
    """Networks of every rule run as streams: by hand, each sample starts from what the last left.

    A layer without a rule may stand beside the others.
    """
    rule = replace(RULES[name], nominal_batch=10)  # type: ignore[call-arg]
    network = FullyConnected(
        (IN, 8, OUT),
        neuron=NEURON,
        rule=[rule, None],
        readout=LastMembrane(),
        steps=T,
        initial_meta=InitialMeta.up_to(0.5),
        generator=torch.Generator().manual_seed(0),
    ).double()
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(2, 4, IN, generator=generator, dtype=torch.float64) * 2
    network(values[0])  # a trace to start from
    network.eval()
    streamed = run_stream(network, values).outputs
    first, second = network.layers
    for s in range(2):
        state = first.stored()  # type: ignore[operator]
        for k in range(4):
            with torch.no_grad():
                window = first(direct(values[s, k][None], T), state, pool="stream")
                answer = second([z.z for z in window.states])
            output = network.readout(answer.states, network.v_th)[0]
            assert torch.allclose(streamed[s, k], output, atol=1e-10), (s, k)
            memory = rule.lasting(window.final.eligibility)
            state = LayerState(trace=window.final.trace, eligibility=memory)


def test_a_stream_leaves_a_network_in_training_as_it_was() -> None:
    """Running means of a normalisation, too: a stream is a test."""
    network = FullyConnected(
        (IN, 8, OUT),
        neuron=NEURON,
        rule=(None, RULES["Hebbian"]),
        readout=LastMembrane(),
        steps=T,
        normalise=True,
    ).double()
    values = torch.rand(1, 3, IN, dtype=torch.float64)
    before = [value.clone() for value in network.buffers()]
    in_training = run_stream(network.train(), values).outputs
    assert network.training
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))
    assert torch.equal(in_training, run_stream(network.eval(), values).outputs)


def test_what_a_rule_keeps_is_saved_reset_and_copied() -> None:
    """θ of BCM and tags are buffers: they travel with the state of the network."""
    for name in ("BCM", "reward-modulated STDP"):
        made, other = layer(RULES[name]), layer(RULES[name])
        made(inputs())
        assert any(key.startswith("memory.") for key in made.state_dict())
        other.load_state_dict(made.state_dict())
        assert torch.equal(made(inputs(seed=5)).z, other(inputs(seed=5)).z)
        made.reset()
        fresh = layer(RULES[name])
        assert all(torch.equal(a, b) for a, b in zip(made.buffers(), fresh.buffers(), strict=True))
    assert not [key for key in layer(RULES["STDP"]).state_dict() if "memory" in key]


def test_evaluation_leaves_no_mark_on_what_a_rule_keeps() -> None:
    made = layer(RULES["BCM"])
    made(inputs())
    before = [value.clone() for value in made.buffers()]
    made.eval()(inputs(seed=2))
    assert all(torch.equal(a, b) for a, b in zip(before, made.buffers(), strict=True))


def test_rewards_that_cannot_be_given_are_named() -> None:
    hebbian, waiting = layer(RULES["Hebbian"]), layer(RULES["reward-modulated STDP"])
    with pytest.raises(ValueError, match=r"a reward needs a rule Rewarded\(rule=\.\.\.\)"):
        hebbian.reward(1.0)
    rule = waiting.rule
    assert isinstance(rule, Rewarded)
    with pytest.raises(ValueError, match="show the layer something first"):
        rule.reward(LayerState(), 1.0)
    with pytest.raises(ValueError, match=r"Rewarded\.rule = 3: it must be a local rule"):
        Rewarded(rule=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a local rule, and not itself Rewarded"):
        Rewarded(rule=rule)
    with pytest.raises(ValueError, match="show the layer something first"):
        waiting.reward(1.0)
    waiting(inputs())
    with pytest.raises(ValueError, match="a reward of nan: give finite numbers"):
        waiting.reward(float("nan"))
    with pytest.raises(ValueError, match="a reward in evaluation, which leaves no tags"):
        waiting.eval().reward(1.0)
    with pytest.raises(ValueError, match=r"BCM\.averaging = nan"):
        BCM(trace_decay=0.9, averaging=float("nan"))


def test_the_chip_refuses_what_it_does_not_have() -> None:
    """Oja's rule is a Hebbian one to Python, and must not pass for it on the chip."""
    for rule in (RULES["Oja"], RULES["BCM"]):
        network = FullyConnected(
            (IN, OUT), neuron=NEURON, rule=rule, readout=LastMembrane(), steps=T
        )
        with pytest.raises(ValueError, match="needs the Hebbian rule"):
            quantize(network)


class Counted(NamedTuple):
    """A memory with a number and two parts."""

    steps: Any
    seen: Any


@dataclass(frozen=True, kw_only=True)
class Counting(Hebbian):
    """A rule that counts its steps, and begins as it is told."""

    begins: Any = None

    def correlate(self, step: Step, memory: Any) -> Any:
        pairs, _ = super().correlate(step, memory)
        return pairs, Counted(memory.steps + 1, memory.seen)

    def begun(self, weight: Tensor) -> Any:
        return self.begins

    def lasting(self, memory: Any) -> Any:
        return memory if memory.seen is not None else Counted(None, memory.steps)


def test_a_memory_keeps_its_kind_of_numbers_and_its_form() -> None:
    whole = Counted(torch.zeros(1, dtype=torch.int64), None)
    kept = Counted(torch.zeros(1, dtype=torch.int64), torch.zeros(1, OUT))
    counting = layer(Counting(trace_decay=0.9, begins=kept))
    for _ in range(3):
        counting(inputs())
    steps = counting.stored().eligibility.steps
    assert steps.dtype == torch.int64
    assert steps.tolist() == [3 * T]
    swapped = layer(Counting(trace_decay=0.9, begins=whole))
    with pytest.raises(ValueError, match=r"form Counted\(None, a tensor\) cannot be kept in the"):
        swapped(inputs())
    for shape in ((), (N, OUT)):
        with pytest.raises(ValueError, match="first dimension of 1"):
            layer(Counting(trace_decay=0.9, begins=Counted(torch.zeros(shape), None)))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_state_goes_on_with_as_many_samples(rule: LocalRule) -> None:
    own = layer(rule).eval()
    left = own(inputs(1), own.stored()).final
    with pytest.raises(ValueError, match="a state of 1 samples, and there are 4"):
        own(inputs(4), left)
