"""The local module: a trace P beside every weight, and the rules that move it.

One step of a plastic layer, with x_t the presynaptic activity (paper Eq. 8):

    I_t     = x_t W + b + local_gain · (x_t P_t)
    v_t     = decay · reset(v_{t-1}, z_{t-1}) + I_t,   z_t = H(v_t - v_th)
    y_t     = post(v_t / v_th - sliding_threshold)
    P_{t+1} = clip( trace_decay · P_t + sign · mean_n[(local_rate ∘ x_t)ᵀ y_t], ±trace_clip )

Traces are [in, out] (one for all samples) or [N, in, out] (one per sample); weights are torch's
[out, in]. The mean is a matrix product: no [N, in, out] tensor is ever built for a shared trace.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.checks import one_of, positive, require
from hybrid.model.neurons import Constant, Neuron, NeuronState, plus
from hybrid.model.pooling import Pool, Pooling

Post = Literal["tanh", "identity", "softmax", "constant"]
# Signals (pre [N, in], post [N, out]) whose products drive a trace, to be summed over.
Pairs = tuple[tuple[Tensor, Tensor], ...]

# Matrix products with fewer output columns than this run several times faster transposed.
NARROW = 64


class MetaLocal(NamedTuple):
    """θ, the meta-local parameters: how a layer's local module learns and how loud it is."""

    local_gain: Tensor  # α: scalar, or [in, out] for a gain per synapse
    local_rate: Tensor  # η_j: [in] or scalar, presynaptic local learning rate
    sliding_threshold: Tensor  # β_i with the sign of the authors' code: [out]


class Synapse(NamedTuple):
    """All constants of a layer's synapses during one window."""

    weight: Tensor  # W [out, in]
    bias: Tensor | None  # b [out]
    meta: MetaLocal | None = None  # None: a layer without a local module
    mask: Tensor | None = None  # M [in, out]: W acts with weight M, P with weight 1 - M


class Eligibility(NamedTuple):
    """Decaying memories of recent spikes that spike-timing rules correlate."""

    pre: Tensor  # [N, in]
    post: Tensor  # [N, out]


# What a rule remembers from step to step: a named tuple of tensors, of other memories, and of
# None. Each tensor begins with the samples, or with 1 where all of them share it.
Memory = Any


class Step(NamedTuple):
    """One step of a plastic layer, as its rule sees it.

    What a rule sums over the samples of a shared trace it passes through `pooling.total`, which
    adds the sums of other processes where they share it too.
    """

    x: Tensor  # presynaptic activity x_t [N, in]
    state: NeuronState  # what it evoked: potentials v_t and spikes z_t [N, out]
    meta: MetaLocal  # θ
    v_th: Constant
    pooling: Pooling  # how the N samples move the trace


class LayerState(NamedTuple):
    """What a plastic layer carries from step to step."""

    neuron: NeuronState | None = None  # None: at rest
    trace: Tensor | None = None  # P, [in, out] or [N, in, out]; None: all zero, as at the start
    eligibility: Memory = None  # of the rule; None: it has seen nothing yet

    def detach(self) -> "LayerState":
        """Return the state without its history, to go on from with another backward pass."""
        return LayerState(*(mapped(Tensor.detach, part) for part in self))


def mapped(change: Callable[[Tensor], Tensor], part: Any) -> Any:
    """Return a state, or a part of it, with each of its tensors changed."""
    if isinstance(part, Tensor):
        return change(part)
    return part if part is None else type(part)(*(mapped(change, own) for own in part))


def tensors_in(part: Any) -> list[Tensor]:
    """Return the tensors of a state, or of a part of it, in order."""
    if part is None or isinstance(part, Tensor):
        return [] if part is None else [part]
    return [value for own in part for value in tensors_in(own)]


class LocalRule(ABC):
    """What drives the trace: pairs of pre- and postsynaptic signals whose products are added.

    A rule of one's own says which pairs (`correlate`); one that must see the trace moves it by
    itself (`learn`); one whose memory outlives a call says what of it does (`begun`, `lasting`).

    Args:
        trace_decay: λ = e^{-dt/τ_w} in [0, 1], decay of the trace per step.
        trace_clip: bound on |P|, or None.
        nominal_batch: M, the batch size whose pooled update a "stream" imitates.

    Raises ValueError, naming the constant, if one makes no sense.
    """

    trace_decay: float
    trace_clip: float | None
    nominal_batch: int

    def __post_init__(self) -> None:
        for name in ("trace_decay", "trace_clip", "nominal_batch"):
            number = not isinstance(getattr(self, name), Tensor)
            require(self, name, number, "a number: of a rule nothing is trained but θ")
        require(self, "trace_decay", 0.0 <= self.trace_decay <= 1.0, "in [0, 1]")
        clip = self.trace_clip
        require(self, "trace_clip", clip is None or positive(clip), "> 0, or None for no clip")
        require(self, "nominal_batch", self.nominal_batch >= 1, ">= 1")

    @abstractmethod
    def correlate(self, step: Step, memory: Memory) -> tuple[Pairs, Memory]:
        """Return the signals of this step and the memory after it."""

    def learn(self, trace: Tensor | None, memory: Memory, step: Step) -> tuple[Tensor, Memory]:
        """Return P_{t+1} and the memory after this step; `update_trace` says in which shapes."""
        pairs, memory = self.correlate(step, memory)
        return update_trace(trace, pairs, step.meta, self, step.pooling), memory

    def begun(self, weight: Tensor) -> Memory:
        """Return what a layer with weights [out, in] keeps from call to call, as it begins.

        Its tensors start with 1: all samples share it. None for a rule that keeps nothing.
        """
        return None

    def lasting(self, memory: Memory) -> Memory:
        """Return what is kept of a memory that a call ends with, as `begun` has it."""
        return None


@dataclass(frozen=True, kw_only=True)
class Hebbian(LocalRule):
    """The paper's local rule (Eq. 4, 8): presynaptic activity times a bounded membrane signal.

    Args:
        post: nonlinearity ρ of v / v_th - sliding_threshold; "softmax" acts on
            v - sliding_threshold over the layer's neurons (few-shot learning); "constant" leaves v
            out: -sliding_threshold alone, so that a trace is a running mean of the input.
        sign: +1, or -1 for the anti-Hebbian rule of the authors' convolutional networks.
        trace_decay, trace_clip, nominal_batch: see `LocalRule`.
    """

    trace_decay: float
    post: Post = "tanh"
    sign: Literal[1, -1] = 1
    trace_clip: float | None = None
    nominal_batch: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "post", Post)
        require(self, "sign", self.sign in (1, -1), "1 (Hebbian) or -1 (anti-Hebbian)")

    def post_signal(self, v: Tensor, sliding_threshold: Tensor, v_th: Constant) -> Tensor:
        """Return y = sign · post(v / v_th - sliding_threshold) [N, out]."""
        if self.post == "softmax":
            y = torch.softmax(v - sliding_threshold, dim=-1)
        elif self.post == "constant":
            y = (-sliding_threshold).expand_as(v)
        else:
            y = plus(-sliding_threshold, 1.0 / v_th, v)
            y = torch.tanh(y) if self.post == "tanh" else y
        return y if self.sign == 1 else -y

    def correlate(self, step: Step, memory: Memory) -> tuple[Pairs, Memory]:
        y = self.post_signal(step.state.v, step.meta.sliding_threshold, step.v_th)
        return ((step.x, y),), memory


@dataclass(frozen=True, kw_only=True)
class STDP(LocalRule):
    """Pair-based spike-timing-dependent plasticity behind the same interface.

    A postsynaptic spike adds potentiation · (trace of earlier presynaptic activity); presynaptic
    activity subtracts depression · (trace of earlier postsynaptic spikes). `sliding_threshold`
    is added to the depression of each neuron, so that it keeps its role: the higher it is, the
    harder a neuron's synapses are to strengthen.

    Args:
        trace_decay, trace_clip, nominal_batch: see `LocalRule`.
        pre_decay, post_decay: decay per step of the two eligibility traces, in [0, 1].
        potentiation, depression: amplitudes A+ and A-.

    Source: Morrison et al., Biol. Cybern. 98 (2008), all-to-all pairing.
    """

    trace_decay: float
    trace_clip: float | None = None
    nominal_batch: int = 100
    pre_decay: float = 0.8
    post_decay: float = 0.8
    potentiation: float = 1.0
    depression: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pre_decay", "post_decay"):
            require(self, name, 0.0 <= getattr(self, name) <= 1.0, "in [0, 1]")
        for name in ("potentiation", "depression"):
            require(self, name, math.isfinite(getattr(self, name)), "finite")

    def correlate(self, step: Step, memory: Memory) -> tuple[Pairs, Memory]:
        x, z = step.x, step.state.z
        earlier = memory or Eligibility(torch.zeros_like(x), torch.zeros_like(z))
        pre = self.pre_decay * earlier.pre + x
        post = self.post_decay * earlier.post
        depression = self.depression + step.meta.sliding_threshold
        pairs = ((pre, self.potentiation * z), (x, -depression * post))
        return pairs, Eligibility(pre, post + z)


def contract(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x Wᵀ + b [N, out] for x [N, in] and W [out, in], in the faster orientation."""
    if weight.shape[0] >= NARROW:
        return F.linear(x, weight, bias)
    if bias is None:
        return (weight @ x.mT).mT
    return torch.addmm(bias.unsqueeze(-1), weight, x.mT).mT


def global_weight(synapse: Synapse) -> Tensor:
    """Return W ∘ M [out, in], the weights that gradient descent owns."""
    return synapse.weight if synapse.mask is None else synapse.weight * synapse.mask.mT


def local_weight(trace: Tensor, synapse: Synapse) -> Tensor:
    """Return local_gain ∘ P ∘ (1 - M), of the trace's shape, the weights that the rule owns."""
    assert synapse.meta is not None
    weight = synapse.meta.local_gain * trace
    return weight if synapse.mask is None else weight * (1.0 - synapse.mask)


def synaptic_current(x: Tensor, trace: Tensor | None, synapse: Synapse) -> Tensor:
    """Return I = x (W + local_gain ∘ P) + b [N, out] (paper Eq. 8, first line).

    Args:
        x: presynaptic activity [N, in].
        trace: P [in, out] or [N, in, out], or None for zero.
        synapse: weights, meta-local parameters and mask of the layer.
    """
    weight, bias = global_weight(synapse), synapse.bias
    if trace is None or synapse.meta is None:
        return contract(x, weight, bias)
    if trace.ndim == 2:
        return contract(x, hybrid_weight(weight, trace, synapse), bias)
    gain, column = synapse.meta.local_gain, x.unsqueeze(-1)
    if gain.ndim == 0 and synapse.mask is None:  # spares a scaled copy of all traces
        own = gain * (trace.mT @ column).squeeze(-1)
    else:
        own = (local_weight(trace, synapse).mT @ column).squeeze(-1)
    return contract(x, weight, bias) + own


def hybrid_weight(weight: Tensor, trace: Tensor, synapse: Synapse) -> Tensor:
    """Return W ∘ M + local_gain ∘ P ∘ (1 - M) [out, in], given W ∘ M and one trace [in, out]."""
    assert synapse.meta is not None
    gain = synapse.meta.local_gain
    if gain.ndim == 0 and synapse.mask is None:
        return torch.addcmul(weight, gain, trace.mT)
    return weight + local_weight(trace, synapse).mT


def update_trace(
    trace: Tensor | None, pairs: Pairs, meta: MetaLocal, rule: LocalRule | None, pooling: Pooling
) -> Tensor:
    """Return P_{t+1} = clip(λ P_t + pool[(local_rate ∘ pre)ᵀ post], ±clip) (paper Eq. 8, line 2).

    Args:
        trace: P_t [in, out] if the pooling shares a trace, else [N, in, out]; None for zero.
        pairs: (pre [N, in], post [N, out]) signals of the rule at this step.
        meta: meta-local parameters; `local_rate` scales the presynaptic side.
        rule: gives the clip; None for none.
        pooling: gives weight and decay.
    """
    # Everything below is in the layout [out, in] of the weights; `.mT` costs nothing.
    moved = None if trace is None else trace.mT
    decay, weight = pooling.trace_decay, pooling.weight
    if pooling.shared:
        first, *others = (post.mT @ pre for pre, post in pairs)
        update = pooling.total(sum(others, first))
        if moved is None:
            moved = (weight * meta.local_rate) * update
        else:
            moved = torch.addcmul(decay * moved, update, meta.local_rate, value=weight)
    else:
        # One fused pass per pair: passes over a trace per sample are what costs time.
        for pre, post in pairs:
            column, row = post.unsqueeze(-1), (pre * meta.local_rate).unsqueeze(-2)
            if moved is None:
                moved = weight * (column @ row)
            else:
                moved = torch.baddbmm(moved, column, row, beta=decay, alpha=weight)
            decay = 1.0
    assert moved is not None
    return (moved if rule is None else clipped(moved, rule)).mT


def clipped(trace: Tensor, rule: LocalRule) -> Tensor:
    """Return a trace within the rule's bounds."""
    bound = rule.trace_clip
    return trace if bound is None else trace.clamp(-bound, bound)


def plastic_step(
    x: Tensor,
    state: LayerState,
    synapse: Synapse,
    neuron: Neuron,
    rule: LocalRule | None,
    pool: Pool = "batch",
) -> LayerState:
    """One step of a plastic layer: current, membrane, spike, trace.

    Args:
        x: presynaptic activity x_t [N, in].
        state: state after the previous step; `LayerState()` is a layer at rest without trace.
        synapse: weights and meta-local parameters θ.
        neuron: neuron model.
        rule: local rule; None leaves the trace as it is, and so does an empty batch.
        pool: how the samples' updates are pooled, see `Pooling.of`.

    Returns:
        State after this step; its `neuron.z` are the spikes [N, out].

    Source: paper Eq. 8.
    """
    current = synaptic_current(x, state.trace, synapse)
    spiking = neuron.step(current, state.neuron)
    if rule is None or not len(x):
        return state._replace(neuron=spiking)
    assert synapse.meta is not None
    step = Step(x, spiking, synapse.meta, neuron.v_th, Pooling.of(pool, rule, x.shape[0]))
    trace, memory = rule.learn(state.trace, state.eligibility, step)
    return LayerState(spiking, trace, memory)
