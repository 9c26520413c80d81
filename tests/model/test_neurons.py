"""Hand-computed membranes that spike, surrogates, and constants that make no sense."""

import pytest
import torch

from hybrid.model.neurons import (
    IF,
    LIF,
    AdaptiveLIF,
    ArcTan,
    FastSigmoid,
    Neuron,
    NeuronState,
    Rectangle,
)
from hybrid.model.plasticity import STDP, Hebbian, LayerState, MetaLocal, Synapse, plastic_step


def voltages(neuron: Neuron, current: float, steps: int) -> tuple[list[float], list[int]]:
    state: NeuronState | None = None
    v, z = [], []
    for _ in range(steps):
        state = neuron.step(torch.full((1, 1), current, dtype=torch.float64), state)
        v.append(round(state.v.item(), 6))
        z.append(int(state.z.item()))
    return v, z


def test_lif_subtract() -> None:
    """0.6; .3+.6 = .9; .45+.6 = 1.05 spikes; .5(1.05-1)+.6 = .625; .9125; 1.05625 spikes."""
    v, z = voltages(LIF(decay=0.5, v_th=1.0), 0.6, 6)
    assert v == [0.6, 0.9, 1.05, 0.625, 0.9125, 1.05625]
    assert z == [0, 0, 1, 0, 0, 1]


def test_lif_zero() -> None:
    """As above, but a spike empties the membrane: after 1.05 comes 0.6 again."""
    v, z = voltages(LIF(decay=0.5, v_th=1.0, reset="zero"), 0.6, 6)
    assert v == [0.6, 0.9, 1.05, 0.6, 0.9, 1.05]
    assert z == [0, 0, 1, 0, 0, 1]


def test_if_does_not_leak() -> None:
    """0.375, 0.75, 1.125 spikes, 0.125 + 0.375 = 0.5, 0.875, 1.25 spikes."""
    v, z = voltages(IF(v_th=1.0), 0.375, 6)
    assert v == [0.375, 0.75, 1.125, 0.5, 0.875, 1.25]
    assert z == [0, 0, 1, 0, 0, 1]


def test_adaptive_threshold_rises_with_spikes() -> None:
    """Decay 0.5, threshold 1 + 0.4 a, a <- 0.5 a + z, current 1.2.

    v0 = 1.2 > 1 spikes. v1 = .5(1.2 - 1) + 1.2 = 1.3, a = 1, threshold 1.4: silent.
    v2 = .5 · 1.3 + 1.2 = 1.85, a = .5, threshold 1.2: spikes.
    v3 = .5(1.85 - 1.2) + 1.2 = 1.525, a = 1.25, threshold 1.5: spikes.
    """
    neuron = AdaptiveLIF(decay=0.5, v_th=1.0, adaptation_decay=0.5, adaptation_gain=0.4)
    v, z = voltages(neuron, 1.2, 4)
    assert v == [1.2, 1.3, 1.85, 1.525]
    assert z == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("surrogate", "at_half", "at_one"),
    [
        (Rectangle(0.6), 1.0, 0.0),
        (FastSigmoid(2.0), 1 / 4, 1 / 9),
        (ArcTan(2.0), 1 / (1 + (torch.pi / 2) ** 2), 1 / (1 + torch.pi**2)),
    ],
)
def test_surrogate_values(surrogate: Rectangle, at_half: float, at_one: float) -> None:
    """Slopes at the threshold (1), half a unit and one unit beside it, on either side."""
    v = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64, requires_grad=True)
    LIF(decay=0.0, v_th=1.0, surrogate=surrogate).step(v, None).z.sum().backward()
    assert v.grad.tolist() == pytest.approx([at_one, at_half, 1.0, at_half, at_one])


def test_stdp_before_strengthens_and_after_weakens() -> None:
    """One input spike at step 0 or 2, one output spike at step 1 forced by the bias."""
    neuron = LIF(decay=0.0, v_th=1.0)
    meta = MetaLocal(torch.tensor(0.0), torch.tensor([0.1]), torch.tensor([0.0]))
    rule = STDP(trace_decay=1.0, pre_decay=0.5, post_decay=0.5)

    def learn(input_step: int) -> float:
        state = LayerState()
        for t in range(4):
            bias = torch.tensor([2.0 if t == 1 else 0.0])
            x = torch.tensor([[1.0 if t == input_step else 0.0]])
            synapse = Synapse(torch.zeros(1, 1), bias, meta)
            state = plastic_step(x, state, synapse, neuron, rule)
        return state.trace.item()

    assert learn(0) == pytest.approx(0.1 * 0.5)  # pre leads post by one step
    assert learn(2) == pytest.approx(-0.1 * 0.5)  # post leads pre by one step
    assert learn(1) == pytest.approx(0.1)  # together: counts as causal


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LIF(decay=1.5, v_th=1.0), "decay = 1.5"),
        (lambda: LIF(decay=0.5, v_th=0.0), "v_th = 0.0: it must be > 0"),
        (
            lambda: LIF(decay=0.5, v_th=1.0, reset="soft"),
            "'soft': it must be one of subtract, zero, none",
        ),
        (lambda: AdaptiveLIF(decay=0.5, v_th=1.0, adaptation_gain=-1.0), "adaptation_gain = -1.0"),
        (lambda: AdaptiveLIF(decay=0.5, v_th=1.0, adaptation_decay=2.0), "adaptation_decay = 2.0"),
        (lambda: Rectangle(-0.1), "half_width = -0.1"),
        (lambda: ArcTan(0.0), "slope = 0.0"),
        (lambda: FastSigmoid(-1.0), "slope = -1.0"),
        (lambda: Hebbian(trace_decay=1.2), "trace_decay = 1.2"),
        (lambda: Hebbian(trace_decay=0.9, trace_clip=0.0), "trace_clip = 0.0"),
        (lambda: Hebbian(trace_decay=0.9, post="relu"), "'relu': it must be one of tanh, identity"),
        (lambda: Hebbian(trace_decay=0.9, sign=0), "sign = 0"),
        (lambda: Hebbian(trace_decay=0.9, nominal_batch=0), "nominal_batch = 0"),
        (lambda: STDP(trace_decay=0.9, pre_decay=2.0), "pre_decay = 2.0"),
    ],
)
def test_impossible_constants_are_named(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
