"""The clip of the trace: where it may act, and windows in which it may act on some inputs only.

Rows of the trace do not know of each other: row j moves with x_j and the post signals alone. So a
few rows near the clip need not spoil the factored evaluation of all others.
"""

import torch
from torch import Tensor

from hybrid.model.neurons import NeuronState
from hybrid.model.plasticity import Eligibility, Synapse
from hybrid.model.window.memories import Ending, Plastic, SynapticMemory
from hybrid.model.window.signals import signal_bounds


def may_clip(layer: Plastic) -> Tensor:
    """Return the inputs [in] whose row of the trace the clip may touch; elsewhere it never acts.

    Let B_t be a bound on row j of |P_t|, and |y_t| <= Y_t (1 for tanh and softmax; for a static
    drive see `signal_bounds`). The unclipped recursion gives, for every column,

        |P_{t+1}| <= λ |P_t| + w |rate_j| Σ_n |x_{t,n,j}| |y_t| <= λ B_t + w |rate_j| Y_t Σ_n |x_t|

    so B_{t+1} = λ B_t + w |rate_j| Y_t Σ_n |x_{t,n,j}| (without the sum where each sample has its
    own trace), started at B_0 = max_i |P_0|, bounds the unclipped row. If B_t < clip for all
    t <= T, the unclipped row never leaves the interval, hence clipping changes nothing at any step
    (induction over t) and both recursions agree. For an unbounded post signal no such bound
    exists, and every row may be clipped.
    """
    weight, clip = layer.synapse.weight, layer.rule.trace_clip
    bounds = signal_bounds(layer.rule, layer.meta, layer.drive.gain)
    if clip is None or bounds is None:
        return weight.new_full((weight.shape[1],), clip is not None, dtype=torch.bool)
    with torch.no_grad():
        pooling = layer.pooling
        rate = pooling.weight * layer.meta.local_rate.abs()
        sizes = layer.drive.sizes(pooled=pooling.shared)
        pushes = [bound * (rate * size) for bound, size in zip(bounds, sizes, strict=True)]
        bound = torch.zeros_like(pushes[0])
        if (trace := layer.start.trace) is not None:  # max_i |P_ji| in two fast passes
            bound = bound + torch.maximum(trace.amax(-1), -trace.amin(-1))
        peak = bound
        for push in pushes:
            bound = torch.add(push, bound, alpha=pooling.trace_decay)
            peak = torch.maximum(peak, bound)
        # A hair below the clip, so that rounding in the bound itself cannot matter; and written
        # so that a bound that is not a number counts as reached.
        safe = peak < clip * (1.0 - 1e-5)
        return ~(safe if safe.ndim == 1 else safe.all(0))


class SplitTrace:
    """Synapses in two groups of inputs, each with a memory of its own; their currents add up.

    Args:
        inputs: numbers of the inputs, those of the first group first.
        first, second: memories of the groups.
    """

    def __init__(self, inputs: Tensor, first: SynapticMemory, second: SynapticMemory) -> None:
        self._order, self._first, self._second = torch.argsort(inputs), first, second

    def current(self, t: int) -> Tensor:
        return self._first.current(t) + self._second.current(t)

    def learn(self, t: int, state: NeuronState) -> None:
        self._first.learn(t, state)
        self._second.learn(t, state)

    def end(self) -> Ending:
        (one, memory), (other, rest) = self._first.end(), self._second.end()
        if one is None or other is None:
            return None, None
        trace = torch.cat([one, other], dim=-2).index_select(-2, self._order)
        if memory is None or rest is None:
            return trace, None
        pre = torch.cat([memory.pre, rest.pre], dim=-1)
        return trace, Eligibility(pre[:, self._order], memory.post)


def select_inputs(layer: Plastic, rows: Tensor, *, bias: bool) -> Plastic:
    """Return a layer cut down to some of its inputs [k], with or without the bias."""
    synapse, meta, trace = layer.synapse, layer.meta, layer.start.trace
    if meta.local_rate.ndim:
        meta = meta._replace(local_rate=meta.local_rate[rows])
    mask = None if synapse.mask is None else synapse.mask[rows]
    part = Synapse(synapse.weight[:, rows], synapse.bias if bias else None, meta, mask)
    start = layer.start._replace(trace=None if trace is None else trace[..., rows, :])
    return layer._replace(drive=layer.drive.select(rows), synapse=part, start=start)
