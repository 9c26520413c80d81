"""Synapses during a window: they give currents, and they learn.

`FixedSynapses` do not learn. `RecurrentTrace` keeps P and updates it at every step. `StaticTrace`
and `EventHistory` are factored: P is a sum of outer products,

    x_t P_t = λ^t (x_t P_0) + w Σ_{s<t} λ^{t-1-s} (x_t (local_rate ∘ x_s)ᵀ) y_s ,

so that only products between inputs (a Gram matrix) and a short history of y are needed, and P is
built once, at the end. They agree with `RecurrentTrace` while the clip of the trace is inactive.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from hybrid.model.drive import Control, Drive, scaled
from hybrid.model.neurons import Constant, NeuronState
from hybrid.model.plasticity import (
    Hebbian,
    LayerState,
    LocalRule,
    Memory,
    MetaLocal,
    Step,
    Synapse,
    contract,
    global_weight,
    hybrid_weight,
    synaptic_current,
)
from hybrid.model.pooling import Pool, Pooling
from hybrid.model.window.signals import StaticRule, StaticSignal, signal_of

Ending = tuple[Tensor | None, Memory]
# What becomes of the trace after a window: nobody needs it; its values are kept; or gradients too.
FinalTrace = Literal["none", "values", "graph"]


class SynapticMemory(Protocol):
    """The synapses during a window: they give currents and they learn."""

    def current(self, t: int) -> Tensor:
        """Return I_t [N, out]."""
        ...

    def learn(self, t: int, state: NeuronState) -> None:
        """Take in what the neurons did at step t."""
        ...

    def end(self) -> Ending:
        """Return the trace and the eligibility after the last step."""
        ...


class Plastic(NamedTuple):
    """A layer that learns by a local rule, and what it is shown in one window."""

    drive: Drive
    synapse: Synapse
    rule: LocalRule
    v_th: Constant
    pool: Pool
    start: LayerState
    final_trace: FinalTrace = "graph"

    @property
    def meta(self) -> MetaLocal:
        """θ."""
        assert self.synapse.meta is not None
        return self.synapse.meta

    @property
    def pooling(self) -> Pooling:
        """How the samples move the trace."""
        return Pooling.of(self.pool, self.rule, self.drive.shape[0])


class FixedSynapses:
    """Synapses that do not change within the window: global learning, or a frozen trace."""

    def __init__(
        self, drive: Drive, synapse: Synapse, state: LayerState, control: Control | None = None
    ) -> None:
        self._state = state
        trace = state.trace if synapse.meta is not None else None
        if trace is not None and trace.ndim != 2:
            raise ValueError("a frozen trace must be one for all samples, of shape [in, out]")
        weight = global_weight(synapse)
        weight = weight if trace is None else hybrid_weight(weight, trace, synapse)
        self._currents = drive.currents(weight, synapse.bias, control)

    def current(self, t: int) -> Tensor:
        return self._currents(t)

    def learn(self, t: int, state: NeuronState) -> None:
        pass

    def end(self) -> Ending:
        return self._state.trace, self._state.eligibility


class RecurrentTrace:
    """Synapses whose trace is kept and updated at every step; any rule, any drive.

    The gain g of a step scales numbers, not inputs: I = b + g (x (W + local_gain ∘ P)), and the
    Hebbian update, which is linear in the input, is moved by g times its weight.
    """

    def __init__(self, layer: Plastic) -> None:
        self._layer, self._pooling = layer, layer.pooling
        self._linear = type(layer.rule) is Hebbian
        self._synapse = layer.synapse._replace(bias=None)
        self._trace, self._memory = layer.start.trace, layer.start.eligibility
        if self._trace is not None and self._trace.ndim == 2 and not self._pooling.shared:
            self._trace = self._trace.expand(layer.drive.shape[0], -1, -1)

    def current(self, t: int) -> Tensor:
        drive, bias = self._layer.drive, self._layer.synapse.bias
        current = synaptic_current(drive.value_at(t), self._trace, self._synapse)
        return scaled(current, drive.gain[t], bias)

    def learn(self, t: int, state: NeuronState) -> None:
        meta, rule, drive = self._layer.meta, self._layer.rule, self._layer.drive
        pooling = self._pooling
        if self._linear:
            x, weight = drive.value_at(t), pooling.weight * drive.gain[t]
            pooling = pooling._replace(weight=weight)
        else:
            x = drive.at(t)
        step = Step(x, state, meta, self._layer.v_th, pooling)
        self._trace, self._memory = rule.learn(self._trace, self._memory, step)

    def end(self) -> Ending:
        return self._trace, self._memory


# (L, λ, y, c) -> λ L + c · gain w G y
Recall = Callable[[Tensor, float, Tensor, float], Tensor]


@dataclass
class StaticHistory:
    """Factored synapses under a static drive x_t = c_t x.

    With G = x diag(local_rate) xᵀ (its diagonal, where each sample has its own trace), what the
    sample reads from the trace, L_t = local_gain · x P_t, obeys a recursion without P:

        I_t = b + c_t (x W + L_t),   L_0 = local_gain · x P_0,
        L_{t+1} = λ L_t + local_gain · w G s_t ,

    with the signal s_t of `hybrid.model.window.signals` (Hebbian: c_t y_t). The history
    h_t = Σ_{s<t} λ^{t-1-s} s_s [N, out] is kept for building P at the end.
    """

    gain: tuple[float, ...]
    read: Tensor  # x W [N, out]
    local: Tensor | None  # L_t [N, out], at first that of P_0; None for zero
    recall: Recall
    bias: Tensor | None
    signal: StaticSignal
    trace_decay: float
    final_trace: FinalTrace
    history: Tensor | None = field(default=None, init=False)

    def current(self, t: int) -> Tensor:
        current = self.read if self.local is None else self.read + self.local
        return scaled(current, self.gain[t], self.bias)

    def learn(self, t: int, state: NeuronState) -> None:
        last = t == len(self.gain) - 1
        if last and self.final_trace == "none":
            return
        y, factor = self.signal(t, state)
        if self.final_trace == "graph":
            past = torch.zeros_like(y) if self.history is None else self.trace_decay * self.history
            self.history = torch.add(past, y, alpha=factor)
        elif self.final_trace == "values" and self.history is not None:
            self.history.mul_(self.trace_decay).add_(y.detach(), alpha=factor)
        elif self.final_trace == "values":
            self.history = factor * y.detach()
        if not last:
            local = torch.zeros_like(y) if self.local is None else self.local
            self.local = self.recall(local, self.trace_decay, y, factor)

    def end(self) -> Ending:
        return None, None


class StaticTrace(StaticHistory):
    """A `StaticHistory` that starts from a trace and builds the final one, once, at the end."""

    def __init__(self, layer: Plastic) -> None:
        assert isinstance(layer.rule, StaticRule)
        drive, synapse, meta = layer.drive, layer.synapse, layer.meta
        x = drive.value_at(0)  # of all steps
        self._x, self._pooling, self._start = x, layer.pooling, layer.start.trace
        self._rated = x * meta.local_rate
        local = None
        if self._start is not None:
            trace = local_trace(self._start, synapse)
            own = x @ trace if trace.ndim == 2 else (x.unsqueeze(-2) @ trace).squeeze(-2)
            local = meta.local_gain * own
        gain = meta.local_gain * self._pooling.weight
        super().__init__(
            drive.gain,
            contract(x, global_weight(synapse)),
            local,
            _recall(x, self._rated, gain, synapse.mask, self._pooling.shared),
            synapse.bias,
            signal_of(layer.rule, meta, layer.v_th, drive.gain),
            self._pooling.trace_decay,
            layer.final_trace,
        )

    def end(self) -> Ending:
        if self.history is None:
            return None, None
        with torch.set_grad_enabled(self.final_trace == "graph" and torch.is_grad_enabled()):
            return self._built(self.history), self.signal.eligibility(self._x)

    def _built(self, history: Tensor) -> Tensor:
        """Return the trace after the last step, of the shape of its pooling."""
        weight, rated, start = self._pooling.weight, self._rated, self._start
        decayed = self.trace_decay ** len(self.gain)
        if not self._pooling.shared:
            update = (weight * rated).unsqueeze(-1) * history.unsqueeze(-2)
            return update if start is None else torch.add(update, start, alpha=decayed)
        if start is None:
            return (weight * rated).mT @ history
        return torch.addmm(start, rated.mT, history, beta=decayed, alpha=weight)


def _recall(x: Tensor, rated: Tensor, gain: Tensor, mask: Tensor | None, shared: bool) -> Recall:
    """Return the step (L, λ, y, c) -> λ L + c · gain G y, for G in its cheapest form."""
    if not shared:
        own = rated * x
        allowed = own.sum(-1, keepdim=True) if mask is None else own @ (1.0 - mask)
        return diagonal_recall(gain * allowed)
    if mask is None:
        gram = (rated @ x.mT) * gain
        return lambda local, decay, y, c: torch.addmm(local, gram, y, beta=decay, alpha=c)
    # A mask couples inputs and outputs: the update of each step has to be built.
    blocked = 1.0 - mask
    return lambda local, decay, y, c: decay * local + (c * gain) * (x @ ((rated.mT @ y) * blocked))


def diagonal_recall(diagonal: Tensor) -> Recall:
    """Return the step of samples that read their own trace alone: a Gram matrix's diagonal."""
    return lambda local, decay, y, c: torch.addcmul(decay * local, diagonal, y, value=c)


class EventHistory:
    """Factored synapses under any drive.

    The inputs of the whole window are known when it begins, so the Gram matrices
    x_t diag(local_rate) x_sᵀ of all pairs of steps are one product, and so are x_t W and x_t P_0.
    """

    def __init__(self, layer: Plastic) -> None:
        assert isinstance(layer.rule, Hebbian)
        synapse, steps = layer.synapse, layer.drive.steps
        x = torch.stack([layer.drive.at(t) for t in range(steps)], dim=1)  # [N, T, in]
        self._layer, self._rule, self._mask = layer, layer.rule, synapse.mask
        self._pooling, self._start_trace = layer.pooling, layer.start.trace
        self._x, self._rated, shape = x, x * layer.meta.local_rate, x.shape[:2]
        read = contract(x.flatten(0, 1), global_weight(synapse), synapse.bias)
        self._read, self._start = read.unflatten(0, shape), None
        if self._start_trace is not None:
            self._start = x @ local_trace(self._start_trace, synapse)
        if synapse.mask is None and self._pooling.shared:
            flat = x.flatten(0, 1) @ self._rated.flatten(0, 1).mT
            self._gram = flat.unflatten(1, shape).unflatten(0, shape)
        elif synapse.mask is None:
            self._gram = x @ self._rated.mT  # [N, T, T]
        self._ys: list[Tensor] = []

    def current(self, t: int) -> Tensor:
        local = None
        if self._start is not None:
            local = self._start[:, t] * self._pooling.trace_decay**t
        if t:
            past = self._recall(t)
            local = past if local is None else local + past
        current = self._read[:, t]
        return current if local is None else current + self._layer.meta.local_gain * local

    def _aged(self, t: int) -> Tensor:
        """Return the post signals of steps 0 … t-1 as they weigh at step t [N, t, out]."""
        decay, weight = self._pooling.trace_decay, self._pooling.weight
        aged = [weight * decay ** (t - 1 - s) * y for s, y in enumerate(self._ys[:t])]
        return torch.stack(aged, dim=1)

    def _recall(self, t: int) -> Tensor:
        """Return what the input of step t reads from the updates of this window [N, out]."""
        aged = self._aged(t)
        if self._mask is None:
            if self._pooling.shared:
                return self._gram[:, t, :, :t].flatten(1) @ aged.flatten(0, 1)
            return (self._gram[:, t : t + 1, :t] @ aged).squeeze(1)
        # A mask couples inputs and outputs: the past has to be built, or read pair by pair.
        x, allowed = self._x[:, t], 1.0 - self._mask
        if self._pooling.shared:
            past = self._rated[:, :t].flatten(0, 1).mT @ aged.flatten(0, 1)
            return x @ (past * allowed)
        return (((x.unsqueeze(1) * self._rated[:, :t]) @ allowed) * aged).sum(1)

    def learn(self, t: int, state: NeuronState) -> None:
        threshold = self._layer.meta.sliding_threshold
        self._ys.append(self._rule.post_signal(state.v, threshold, self._layer.v_th))

    def end(self) -> Ending:
        if self._layer.final_trace == "none":
            return None, None
        steps = len(self._ys)
        aged = self._aged(steps)
        if self._pooling.shared:
            update = self._rated.flatten(0, 1).mT @ aged.flatten(0, 1)
        else:
            update = self._rated.mT @ aged
        if self._start_trace is None:
            return update, None
        return torch.add(update, self._start_trace, alpha=self._pooling.trace_decay**steps), None


def local_trace(trace: Tensor, synapse: Synapse) -> Tensor:
    """Return P ∘ (1 - M), the part of the trace that may act."""
    return trace if synapse.mask is None else trace * (1.0 - synapse.mask)
