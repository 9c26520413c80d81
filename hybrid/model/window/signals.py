"""What a local rule writes while one input x is shown with a gain, x_t = c_t x.

Whatever the rule, its presynaptic signals are then multiples of x, so that each step adds
(local_rate ∘ x) ⊗ s_t to the trace, with a signal s_t of the neurons alone.
"""

import torch
from torch import Tensor

from hybrid.model.neurons import Constant, NeuronState
from hybrid.model.plasticity import STDP, Eligibility, Hebbian, LocalRule, Memory, MetaLocal

StaticRule = Hebbian | STDP
Gains = tuple[float, ...]


class HebbianSignal:
    """s_t = c_t · post(v_t), of one window."""

    def __init__(self, rule: Hebbian, meta: MetaLocal, v_th: Constant, gain: Gains) -> None:
        self._rule, self._threshold = rule, meta.sliding_threshold
        self._v_th, self._gain = v_th, gain

    def __call__(self, t: int, state: NeuronState) -> tuple[Tensor, float]:
        """Return y [N, out] and a factor c with s_t = c · y; steps must come in order."""
        return self._rule.post_signal(state.v, self._threshold, self._v_th), self._gain[t]

    def eligibility(self, x: Tensor) -> Memory:
        """Return what the rule remembers of the window."""
        return None


class STDPSignal:
    """s_t = a_t A+ z_t - c_t (A- + sliding_threshold) q_t; methods as of `HebbianSignal`.

    The presynaptic memory is a_t x with a_t = pre_decay · a_{t-1} + c_t; q_t is the memory of
    earlier postsynaptic spikes. Both start at zero.
    """

    def __init__(self, rule: STDP, meta: MetaLocal, gain: Gains) -> None:
        self._rule, self._gain = rule, gain
        self._depression = rule.depression + meta.sliding_threshold
        self._pre, self._post = 0.0, torch.zeros(())

    def __call__(self, t: int, state: NeuronState) -> tuple[Tensor, float]:
        rule = self._rule
        self._pre = rule.pre_decay * self._pre + self._gain[t]
        earlier = rule.post_decay * self._post
        self._post = earlier + state.z
        strengthened = (self._pre * rule.potentiation) * state.z
        return strengthened - (self._gain[t] * self._depression) * earlier, 1.0

    def eligibility(self, x: Tensor) -> Memory:
        return Eligibility(self._pre * x, self._post)


StaticSignal = HebbianSignal | STDPSignal


def signal_of(rule: StaticRule, meta: MetaLocal, v_th: Constant, gain: Gains) -> StaticSignal:
    """Return the signal of a rule for a window that starts without a memory."""
    if isinstance(rule, STDP):
        return STDPSignal(rule, meta, gain)
    return HebbianSignal(rule, meta, v_th, gain)


def signal_bounds(rule: LocalRule, meta: MetaLocal, gain: Gains) -> list[float] | None:
    """Return numbers that no entry of |s_t| exceeds at steps t, or None if there are none.

    Hebbian: |post| <= 1 for tanh and softmax, |sliding_threshold| for a constant. STDP: with
    z <= 1, q_t <= Σ_{k=1..t} post_decay^k.
    """
    if isinstance(rule, Hebbian):
        constant = meta.sliding_threshold.abs().max().item() if rule.post == "constant" else 1.0
        return None if rule.post == "identity" else [constant * abs(c) for c in gain]
    if not isinstance(rule, STDP):
        return None
    depression = (rule.depression + meta.sliding_threshold).abs().max().item()
    bounds, pre, post = [], 0.0, 0.0
    for c in map(abs, gain):
        pre = rule.pre_decay * pre + c
        bounds.append(pre * abs(rule.potentiation) + c * depression * post)
        post = rule.post_decay * (post + 1.0)
    return bounds
