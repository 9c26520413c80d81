"""Local rules beside the paper's and STDP: Oja's, BCM, and any rule that waits for a reward.

All stand behind the same interface, so that one is exchanged for another in one line. They are
evaluated step by step, with the trace kept.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid.checks import require
from hybrid.model.plasticity import (
    Hebbian,
    LayerState,
    LocalRule,
    Memory,
    Pairs,
    Step,
    clipped,
    update_trace,
)


@dataclass(frozen=True, kw_only=True)
class Oja(Hebbian):
    """Hebbian learning that forgets in proportion to the neuron's own activity.

        P_{t+1} = clip( λ P_t + pool[rate_j y_i (x_j - y_i P_ji)] )

    A trace that does not decay (λ = 1), of a neuron with y = x P, grows to length one and turns
    towards the first principal component of its inputs.

    Args: see `Hebbian`.

    Source: Oja, J. Math. Biol. 15 (1982).
    """

    def learn(self, trace: Tensor | None, memory: Memory, step: Step) -> tuple[Tensor, Memory]:
        """See `LocalRule.learn`."""
        pairs, memory = self.correlate(step, memory)
        meta, pooling = step.meta, step.pooling
        moved = update_trace(trace, pairs, meta, None, pooling)
        if trace is not None:
            square = pairs[0][1].square()
            square = pooling.total(square.sum(0)) if pooling.shared else square.unsqueeze(-2)
            rate = meta.local_rate.unsqueeze(-1) if meta.local_rate.ndim else meta.local_rate
            moved = moved - pooling.weight * rate * square * trace
        return clipped(moved, self), memory


class Averages(NamedTuple):
    """What BCM remembers: a running mean of y² for each neuron, [1, out] or [N, out]."""

    square: Tensor


@dataclass(frozen=True, kw_only=True)
class BCM(LocalRule):
    """Bienenstock, Cooper and Munro's rule: weak activity depresses, strong potentiates.

        P_{t+1} = clip( λ P_t + pool[rate_j x_j y_i (y_i - m_i - sliding_threshold_i)] )
        m_i     = running mean of y_i²,     y = max(v / v_th, 0)

    m, the paper's θ, starts at zero. Where the trace is carried from call to call, m is too, shared
    by all samples; else it begins anew with each call.

    Args:
        trace_decay, trace_clip, nominal_batch: see `LocalRule`.
        averaging: share of each step in m, in (0, 1].

    Source: Bienenstock, Cooper and Munro, J. Neurosci. 2 (1982); m as E[y²] after Intrator and
    Cooper, Neural Netw. 5 (1992).
    """

    trace_decay: float
    trace_clip: float | None = None
    nominal_batch: int = 100
    averaging: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "averaging", 0.0 < self.averaging <= 1.0, "in (0, 1]")

    def correlate(self, step: Step, memory: Memory) -> tuple[Pairs, Memory]:
        y = torch.relu(step.state.v / step.v_th)
        threshold = step.meta.sliding_threshold
        threshold = threshold if memory is None else memory.square + threshold
        return ((step.x, y * (y - threshold)),), memory

    def learn(self, trace: Tensor | None, memory: Memory, step: Step) -> tuple[Tensor, Memory]:
        """See `LocalRule.learn`."""
        moved, _ = super().learn(trace, memory, step)
        pooling = step.pooling
        square = torch.relu(step.state.v / step.v_th).square()
        if pooling.shared:
            square = pooling.weight * pooling.total(square.sum(0, keepdim=True))
        before = torch.zeros_like(square) if memory is None else memory.square
        share = 1.0 - (1.0 - self.averaging) ** pooling.share
        return moved, Averages(before + share * (square - before))

    def begun(self, weight: Tensor) -> Memory:
        """See `LocalRule.begun`."""
        return Averages(weight.new_zeros(1, weight.shape[0]))

    def lasting(self, memory: Memory) -> Memory:
        """See `LocalRule.lasting`."""
        return memory


class Tagged(NamedTuple):
    """What a rule remembers that waits for a reward."""

    tag: Tensor  # what its pairs would have written, [1, in, out] or [N, in, out]
    memory: Memory  # of the rule itself


@dataclass(frozen=True, kw_only=True)
class Rewarded(LocalRule):
    """A rule of three factors: pairs leave a fading tag, and a later reward makes it a trace.

    The inner rule moves the tag as it would a trace, with its own decay and clip; the trace itself
    only fades until `reward` (of this class, of a layer, or of a network) adds reward · tag.
    `Rewarded(rule=STDP(trace_decay=0.9))` is reward-modulated STDP.

    Args:
        rule: what writes the tags; its `trace_decay` and `trace_clip` are theirs.
        trace_decay, trace_clip, nominal_batch: of the trace, see `LocalRule`; the last one counts
            for the tags as well.

    Source: Izhikevich, Cereb. Cortex 17 (2007); Frémaux and Gerstner, Front. Neural Circuits 9
    (2016).
    """

    rule: LocalRule
    trace_decay: float = 1.0
    trace_clip: float | None = None
    nominal_batch: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.rule, LocalRule) and not isinstance(self.rule, Rewarded)
        require(self, "rule", known, "a local rule, and not itself Rewarded")

    def correlate(self, step: Step, memory: Memory) -> tuple[Pairs, Memory]:
        return self.rule.correlate(step, memory)

    def learn(self, trace: Tensor | None, memory: Memory, step: Step) -> tuple[Tensor, Memory]:
        """See `LocalRule.learn`."""
        pooling = step.pooling
        tag, inner = (None, None) if memory is None else memory
        if tag is not None:
            tag = tag.squeeze(0) if pooling.shared else tag.expand(len(step.x), -1, -1)
        own = step._replace(pooling=pooling.of_rule(self.rule))
        tag, inner = self.rule.learn(tag, inner, own)
        kept = torch.zeros_like(tag) if trace is None else pooling.trace_decay * trace
        tag = tag.unsqueeze(0) if pooling.shared else tag
        return clipped(kept, self), Tagged(tag, inner)

    def reward(self, state: LayerState, reward: Tensor | float) -> LayerState:
        """Return a layer's state after a reward; the tags stay.

        Args:
            state: of a layer that was shown something.
            reward: a number; or [N], one for each sample, where each has a trace of its own.

        Raises:
            ValueError: if there are no tags, or samples that share a trace get rewards of their
                own.
        """
        if state.eligibility is None or not bool(state.eligibility.tag.any()):
            raise ValueError("there is nothing to reward: show the layer something first")
        tag = state.eligibility.tag
        reward = torch.as_tensor(reward, dtype=tag.dtype, device=tag.device)
        if not bool(reward.isfinite().all()):
            raise ValueError(f"a reward of {reward}: give finite numbers")
        if reward.ndim and reward.shape != tag.shape[:1]:
            raise ValueError(
                f"rewards of shape {list(reward.shape)} for {len(tag)} traces: give one number, or "
                "one for each trace (pool = 'sample' or 'stream')"
            )
        change = (reward[:, None, None] if reward.ndim else reward) * tag
        if state.trace is not None and state.trace.ndim == 2:
            change = change.squeeze(0)
        moved = change if state.trace is None else state.trace + change
        return state._replace(trace=clipped(moved, self))

    def begun(self, weight: Tensor) -> Memory:
        """See `LocalRule.begun`."""
        return Tagged(weight.new_zeros(1, *weight.mT.shape), self.rule.begun(weight))

    def lasting(self, memory: Memory) -> Memory:
        """See `LocalRule.lasting`."""
        return Tagged(memory.tag, self.rule.lasting(memory.memory))
