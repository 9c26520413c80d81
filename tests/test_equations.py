"""One test per numbered equation of the paper; the docstring is the equation. All in float64.

Equation numbers follow the paper's Methods. Three have their tests elsewhere: the bilevel
hypergradient of Eq. 10 in `learning/test_bilevel.py` (here its inner gradient alone), and Eqs. 16
and 17, the few-shot read-out, in `model/test_few_shot.py`; Eq. 11 names a sum of losses. Symbols: u
membrane (`v` here), s spikes (`z`), w^g global weight, P trace, θ = {α, η, β} meta-local
parameters; the code's sliding threshold is -β.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hybrid.model.coding import LastMembrane, Rank, Rate
from hybrid.model.drive import drive_decay
from hybrid.model.neurons import LIF, NeuronState, Rectangle
from hybrid.model.plasticity import Hebbian, LayerState, MetaLocal, Synapse, plastic_step
from hybrid.model.window.choice import run_window


@pytest.fixture(autouse=True)
def _float64() -> None:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_layer(inputs: int = 5, out: int = 4, seed: int = 0) -> Synapse:
    g = torch.Generator().manual_seed(seed)
    meta = MetaLocal(
        torch.tensor(0.7),
        torch.rand(inputs, generator=g) * 0.3,
        torch.rand(out, generator=g) * 0.2,
    )
    weight = torch.rand(out, inputs, generator=g)
    return Synapse(weight, torch.zeros(out), meta)


def test_eq1_meta_local_parameters() -> None:
    """θ = {local learning rate, β_i, other hyper-parameters of the local rule}."""
    assert MetaLocal._fields == ("local_gain", "local_rate", "sliding_threshold")


def test_eq2_membrane() -> None:
    """τ_u du/dt = -u + I: the step with decay 1 - dt/τ_u converges to e^{-t/τ_u} as dt -> 0."""
    tau, duration, current = 1.0, 2.0, 0.8
    exact = current * (1.0 - math.exp(-duration / tau))
    errors = []
    for steps in (100, 1000):
        k = duration / steps / tau
        neuron, state = LIF(decay=1.0 - k, v_th=10.0), None
        for _ in range(steps):
            state = neuron.step(torch.full((1, 1), k * current), state)
        errors.append(abs(state.v.item() - exact))
    assert errors[1] < errors[0] / 9
    assert errors[1] < 1e-3


def test_eq3_and_eq5_trace_is_a_decaying_sum() -> None:
    """P(t) = Σ_{x<=t} λ^{t-x} increment(x), the discrete form of Eq. 5, solution of Eq. 3."""
    layer, rule = random_layer(), Hebbian(trace_decay=0.8)
    neuron = LIF(decay=0.5, v_th=0.6)
    xs = torch.rand(6, 3, 5, generator=torch.Generator().manual_seed(1))
    window = run_window(xs, layer, neuron, rule, evaluation="recurrent")
    assert window.z.sum() > 0
    expected = torch.zeros(5, 4)
    for t, (x, state) in enumerate(zip(xs, window.states, strict=True)):
        y = torch.tanh(state.v / 0.6 - layer.meta.sliding_threshold)
        increment = torch.einsum("ni,no->nio", layer.meta.local_rate * x, y).mean(0)
        expected += 0.8 ** (len(xs) - 1 - t) * increment
    torch.testing.assert_close(window.final.trace, expected)


def test_eq4_hebbian_increment() -> None:
    """P ≜ k_corr s_j (ρ(u_i) + β_i): product of a presynaptic and a bounded postsynaptic term."""
    layer, rule = random_layer(), Hebbian(trace_decay=1.0)
    neuron = LIF(decay=0.5, v_th=0.6)
    x = torch.tensor([[1.0, 0.0, 2.0, 0.0, 1.0]])
    state = plastic_step(x, LayerState(), layer, neuron, rule)
    for j in range(5):
        for i in range(4):
            rho = math.tanh(state.neuron.v[0, i] / 0.6 - layer.meta.sliding_threshold[i])
            increment = layer.meta.local_rate[j] * x[0, j] * rho
            assert state.trace[j, i].item() == pytest.approx(increment.item(), rel=1e-12)
    assert state.trace[1].abs().max() == 0.0, "no presynaptic activity, no change"


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_eq6_to_eq8_one_step(reset: str) -> None:
    """u = (1-k_u) reset(u, s) + Σ_j [w_ij + α P_ij] s_j;  s = H(u - v_th);  P = λP + η_j s_j ρ(u).

    Written out with loops, for a layer that spikes, against the vectorised step.
    """
    layer, rule = random_layer(), Hebbian(trace_decay=0.9)
    neuron = LIF(decay=0.5, v_th=0.6, reset=reset)
    xs = torch.rand(5, 1, 5, generator=torch.Generator().manual_seed(2))
    v, z, p = np.zeros(4), np.zeros(4), np.zeros((5, 4))
    state, total = LayerState(), 0.0
    for x in xs:
        new_v = np.zeros(4)
        for i in range(4):
            kept = v[i] - 0.6 * z[i] if reset == "subtract" else v[i] * (1 - z[i])
            new_v[i] = 0.5 * kept
            for j in range(5):
                new_v[i] += (layer.weight[i, j].item() + 0.7 * p[j, i]) * x[0, j].item()
        v, z = new_v, (new_v > 0.6).astype(float)
        for j in range(5):
            for i in range(4):
                y = math.tanh(v[i] / 0.6 - layer.meta.sliding_threshold[i].item())
                p[j, i] = 0.9 * p[j, i] + layer.meta.local_rate[j].item() * x[0, j].item() * y
        state = plastic_step(x, state, layer, neuron, rule)
        np.testing.assert_allclose(state.neuron.v[0], v, rtol=1e-12)
        np.testing.assert_array_equal(state.neuron.z[0], z)
        np.testing.assert_allclose(state.trace, p, rtol=1e-12)
        total += z.sum()
    assert total > 0


def test_eq8_drive_fades() -> None:
    """e^{-(t_m - t_n0)/τ_w}: gains 1, e^{-1/τ}, e^{-2/τ}, …"""
    np.testing.assert_allclose(drive_decay(4, 40.0), np.exp(-np.arange(4) / 40.0), rtol=1e-6)
    assert drive_decay(3, None) == (1.0, 1.0, 1.0)


def test_surrogate_slope() -> None:
    """dH/du := 1 if |u - v_th| < lens else 0, lens = 0.5."""
    v = torch.tensor([0.49, 0.51, 1.0, 1.49, 1.51], requires_grad=True)
    LIF(decay=0.0, v_th=1.0).step(v, None).z.sum().backward()
    assert v.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def states(v: list[list[float]], v_th: float) -> list[NeuronState]:
    potentials = torch.tensor(v).unsqueeze(-1)
    return [NeuronState(u, (u > v_th).to(u.dtype)) for u in potentials]


def test_eq9_read_outs() -> None:
    """C = C(y, Σ_m Z_m q(u(t_m))): Z = 1/T, q = H: rate; Z = δ(t_stop), q = u/v_th: rank."""
    # Two samples, one output neuron, T = 4. The first fires at steps 0 and 2, the second never.
    window = states([[1.5, 0.2], [0.3, 0.4], [1.2, 0.5], [0.1, 0.9]], 1.0)
    assert Rate()(window, 1.0).flatten().tolist() == [0.5, 0.0]
    assert LastMembrane()(window, 0.5).flatten().tolist() == [0.2, 1.8]
    assert LastMembrane(ceiling=1.1)(window, 0.5).flatten().tolist() == [0.2, 1.1]
    # A stop is not allowed before step 1, so the first sample stops at 2, the second at the end.
    assert Rank().stop_steps(window, 1.0).tolist() == [2, 3]
    assert Rank()(window, 1.0).flatten().tolist() == [1.2, 0.9]


def total_loss(layer: Synapse, xs: Tensor, neuron: LIF, rule: Hebbian, evaluation: str) -> Tensor:
    window = run_window(xs, layer, neuron, rule, evaluation=evaluation)
    return (window.v**2).mean()


@pytest.mark.parametrize("evaluation", ["recurrent", "factored"])
def test_gradient_of_theta_inside_eq10_is_exact(evaluation: str) -> None:
    """∇_θ C through the whole window, trace included, equals central finite differences.

    With the true derivative of the spike (zero) and spikes that do not flip within ±ε, the loss is
    smooth in θ and w, so finite differences are its gradient.
    """
    neuron = LIF(decay=0.5, v_th=0.6, surrogate=Rectangle(half_width=0.0))
    rule = Hebbian(trace_decay=0.9)
    xs = torch.rand(5, 3, 5, generator=torch.Generator().manual_seed(3))
    layer = random_layer()
    tensors = [layer.weight, *layer.meta]
    for tensor in tensors:
        tensor.requires_grad_()
    total_loss(layer, xs, neuron, rule, evaluation).backward()
    assert run_window(xs, layer, neuron, rule).z.sum() > 0
    eps = 1e-6
    for tensor in tensors:
        flat, grad = tensor.detach().view(-1), tensor.grad.view(-1)
        for k in range(0, flat.numel(), 3):
            original = flat[k].item()
            with torch.no_grad():
                flat[k] = original + eps
                up = total_loss(layer, xs, neuron, rule, evaluation)
                flat[k] = original - eps
                down = total_loss(layer, xs, neuron, rule, evaluation)
                flat[k] = original
            assert grad[k].item() == pytest.approx(((up - down) / (2 * eps)).item(), abs=1e-8)


def test_eq12_and_eq13_local_update_descends_the_associative_energy() -> None:
    """E_in = -Σ_t s_{l-1}ᵀ w s_l: where ρ(u) agrees with s in sign, the local update lowers it."""
    g = torch.Generator().manual_seed(4)
    pre = (torch.rand(1, 6, generator=g) < 0.5).double()
    meta = MetaLocal(torch.tensor(1.0), torch.full((6,), 0.1), torch.ones(4))
    layer = Synapse(torch.rand(4, 6, generator=g), None, meta)
    neuron, rule = LIF(decay=0.5, v_th=0.6), Hebbian(trace_decay=1.0)
    state = plastic_step(pre, LayerState(), layer, neuron, rule)
    post = state.neuron.z
    assert post.sum() > 0

    def energy(trace: Tensor) -> float:
        return -(pre @ (layer.weight.mT + trace) @ post.mT).sum().item()

    # With threshold 1 the rule's ρ = tanh(u / v_th - 1) is positive just where the neuron spikes.
    assert energy(state.trace) < energy(torch.zeros(6, 4))
    spikes = (state.neuron.v > 0.6).double()
    assert torch.equal(torch.sign(state.trace), pre.mT @ (2 * spikes - 1))


def test_eq14_and_eq15_trace_is_an_associative_memory() -> None:
    """w_LP = Σ_k η y_k x_kᵀ; I_LP(x̃) = Σ_k y_k (c_kᵀ x̃): a query reads its likeness to the past."""
    g = torch.Generator().manual_seed(5)
    keys = torch.rand(3, 6, generator=g)
    rule = Hebbian(trace_decay=1.0, post="softmax")
    meta = MetaLocal(torch.tensor(1.0), torch.full((6,), 0.1), torch.zeros(3))
    # A strong bias per look plays the label current: the softmax is then nearly one-hot.
    neuron, state = LIF(decay=0.0, v_th=1e9), LayerState()
    for k, key in enumerate(keys):
        label = torch.zeros(3)
        label[k] = 60.0
        layer = Synapse(torch.zeros(3, 6), label, meta)
        state = plastic_step(key.unsqueeze(0), LayerState(trace=state.trace), layer, neuron, rule)
    torch.testing.assert_close(state.trace, 0.1 * keys.mT)
    query = torch.rand(6, generator=g)
    torch.testing.assert_close(query @ state.trace, 0.1 * keys @ query)
