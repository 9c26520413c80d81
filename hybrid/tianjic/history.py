"""The local module on a chip that cannot rewrite its synapses.

With one sample a trace of its own, and no clip, P never has to be built:

    x_t P_t = Σ_{l ≥ 0} decay^l · (Σ_i rate[i] · x_t[i] · x_{t-1-l}[i]) · y_{t-1-l}

Counted by lag l, decay and rate are static; inputs and potentials of earlier steps are activations,
which shift by one place in each step. A score, what is in brackets and its decay, is one number for
all neurons; where each synapse has a factor of its own (a gain, a mask), a lag has a matrix of
weights, and scores are neurons'. Scores and post factors have 8 bits, scaled so that their products
are in units of the potential: each step is an operation of `primitives`. Exact but for rounding
while no clip acts on the trace; with fewer lags than steps the oldest ones are missing, with a
delay the newest. Source: *factored* form of `hybrid.model`; the way of mapping it is ours.

Its baseline is a host that keeps P in floating point, learns from the inputs and from the 8-bit
potentials that the chip sends, and rewrites synapses after each step: round((W + local_gain ∘ P) /
scale) in 8 bits. Each sample has weights of its own: on a chip samples would have to come one after
the other.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid.checks import require
from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.primitives import cut, half, multiply, weigh
from hybrid.tianjic.shapes import LocalShape
from hybrid.tianjic.soma import SoftMaximum, Table

DECAY_CUT = 3  # decays of scores are multiples of 1/64


@dataclass(frozen=True, kw_only=True)
class LocalModule:
    """Constants of a local module in whole numbers.

    Raises ValueError for lags of another shape, or a negative delay.
    """

    weights: Tensor  # static, 8 bits: rates [in], or [lags, in, out] with decays and factors
    decays: Tensor  # of scores, in 1/64 [lags]; all 64 where weights have them
    table: Table | SoftMaximum  # post factor of the potential's argument
    thresholds: Tensor  # subtracted from potentials [out]
    argument_cut: int  # by which what is left becomes the table's argument
    input_cut: int  # of products of two inputs
    score_cut: int
    times: int = 1  # how often each product of score and post factor is added
    delay: int = 0  # newest steps that are left out: lags begin with the one of that age

    def __post_init__(self) -> None:
        if self.weights.ndim not in (1, 3):
            raise ValueError(f"weights must be [in] or [lags, in, out], got {self.weights.ndim}-d")
        if self.weights.ndim == 3 and len(self.weights) != len(self.decays):
            raise ValueError(f"{len(self.weights)} matrices for {len(self.decays)} lags")
        require(self, "delay", self.delay >= 0, ">= 0")

    @property
    def shape(self) -> LocalShape:
        """What the mapper has to know."""
        per_synapse = self.weights.ndim == 3
        return LocalShape(
            lags=len(self.decays),
            per_synapse=per_synapse,
            delay=self.delay,
            times=self.times,
            hosted=isinstance(self.table, SoftMaximum),
        )

    def post(self, v: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return the post factor of potentials [N, out], 8 bits: P02, then P07."""
        argument = v - self.thresholds + half(self.argument_cut)
        return self.table.look_up(
            argument, self.argument_cut, overflows, f"{place}: arguments of tables"
        )

    def alike(self, x: Tensor, earlier: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return products of inputs now and then [N, in], 8 bits: P03, then P06."""
        products = multiply(x, earlier, half(self.input_cut))
        return cut(products, self.input_cut, overflows, f"{place}: products of inputs")

    def weighed(self, alike: Tensor, lag: int) -> Tensor:
        """Return a lag's sums [N, 1] or [N, out] of such products, or of some of them: P04, P41."""
        static = self.weights.unsqueeze(1) if self.weights.ndim == 1 else self.weights[lag]
        return weigh(alike, static)

    def score(self, sums: Tensor, lag: int, overflows: Overflows, place: str) -> Tensor:
        """Return a lag's scores, 8 bits, of the sums of all inputs: P02 and P06, P03 and P06."""
        place = f"{place}: scores"
        fresh = cut(sums + half(self.score_cut), self.score_cut, overflows, place)
        if self.weights.ndim == 3:
            return fresh
        faded = multiply(fresh, self.decays[lag], half(DECAY_CUT))
        return cut(faded, DECAY_CUT, overflows, place)


@dataclass
class History:
    """Inputs and post factors of earlier steps, and the current they make."""

    module: LocalModule
    overflows: Overflows  # counts scores and arguments that do not fit
    place: str  # named there

    def __post_init__(self) -> None:
        reach = self.module.delay + len(self.module.decays)
        self._earlier: deque[tuple[Tensor, Tensor]] = deque(maxlen=reach)  # the newest step first

    def repeated(self, times: int) -> "History":
        """Return a history for `times` samples in the place of each: queries of one support."""
        made = replace(self)
        for x, post in self._earlier:
            made._earlier.append((x.repeat_interleave(times, 0), post.repeat_interleave(times, 0)))
        return made

    def current(self, x: Tensor) -> Tensor | int:
        """Return the local current under input x [N, in], in units of the potential."""
        total: Tensor | int = 0
        module, rest = self.module, (self.overflows, self.place)
        for lag, (earlier, post) in enumerate(list(self._earlier)[module.delay :]):
            sums = module.weighed(module.alike(x, earlier, *rest), lag)
            total = total + multiply(module.score(sums, lag, *rest), post)
        return total * module.times

    def learn(self, x: Tensor, v: Tensor) -> None:
        """Remember an input [N, in] and the potential that it led to [N, out]."""
        self._earlier.appendleft((x, self.module.post(v, self.overflows, self.place)))


class HostRule(NamedTuple):
    """What a host has to know to move a layer's trace."""

    module: LocalModule  # gives the post factor, which the chip sends; its lags are not used
    start: Tensor  # trace before the first step [in, out]
    trace_decay: float  # per step
    rate: Tensor  # [in], of inputs in whole numbers and post factors of 8 bits
    gain: Tensor  # from the trace to synapses in whole numbers: a scalar, or [in, out]
    bits: int  # of synapses
    clip: float | None  # bound of the trace
    nominal_batch: int  # M, images of a stream that weigh as much as a batch

    def written(self, weight: Tensor, trace: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return synapses in whole numbers, of global weights and a trace [*, in, out]."""
        whole = (weight.float() + self.gain * trace).round()
        return overflows.saturate(whole, self.bits, f"{place}: synapses")

    def clipped(self, trace: Tensor) -> Tensor:
        """Return a trace within its bounds."""
        return trace if self.clip is None else trace.clamp(-self.clip, self.clip)


@dataclass
class WrittenSynapses:
    """Synapses that a host rewrites: the same interface as `History`."""

    weight: Tensor  # global weights in whole numbers [in, out]
    rule: HostRule
    overflows: Overflows  # counts synapses and arguments that do not fit
    place: str  # named there

    def __post_init__(self) -> None:
        self._trace = self.rule.start.float().unsqueeze(0)  # one for all samples until they learn

    def current(self, x: Tensor) -> Tensor:
        """Return what the synapses of this step add to those of the global weights [N, out]."""
        traces = self._trace.expand(len(x), -1, -1)
        written = self.rule.written(self.weight, traces, self.overflows, self.place)
        added = (written - self.weight.float()).double()
        return torch.bmm(x.double().unsqueeze(1), added).squeeze(1).long()

    def learn(self, x: Tensor, v: Tensor) -> None:
        """Move the trace by an input [N, in] and the potential that it led to [N, out]."""
        rule, pre = self.rule, (self.rule.rate.float() * x).unsqueeze(2)
        post = rule.module.post(v, self.overflows, self.place).float().unsqueeze(1)
        self._trace = rule.clipped(torch.baddbmm(self._trace, pre, post, beta=rule.trace_decay))
