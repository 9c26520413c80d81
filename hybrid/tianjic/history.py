"""The local module on a chip that cannot rewrite its synapses.

With one sample a trace of its own, and no clip, P never has to be built:

    x_t P_t = Σ_{l ≥ 0} (Σ_i lag_l[i] · x_t[i] · x_{t-1-l}[i]) · y_{t-1-l},  lag_l = decay^l · rate

Counted by lag l, decay and rate are static weights; inputs and potentials of earlier steps are
activations, which shift by one place in each step. A score is one number for all neurons; where
each synapse has a factor of its own (a gain, a mask), lag_l is a matrix, and scores are neurons'.
Exact but for rounding while no clip acts on the trace; with fewer lags than steps the oldest ones
are missing, with a delay the newest. Source: DESIGN §4, *factored*; the mapping to vector
operations is a model of ours.

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
from hybrid.tianjic.fixed import Overflows, exact_product, shifted
from hybrid.tianjic.shapes import LocalShape
from hybrid.tianjic.soma import SoftMaximum, Table


@dataclass(frozen=True, kw_only=True)
class LocalModule:
    """Constants of a local module in whole numbers.

    Raises ValueError for lags of another shape, or a negative delay.
    """

    lags: Tensor  # static weights [lags, in] or [lags, in, out], 8 bits
    table: Table | SoftMaximum  # post factor of the potential's argument
    thresholds: Tensor  # subtracted from potentials [out]
    argument: tuple[int, int]  # (multiplier, shift) from what is left to the table's argument
    coincidence_shift: int  # bits that products of two inputs lose
    score_shift: int  # bits that scores lose before they are cut to `score_bits`
    score_bits: int
    gain: tuple[int, int]  # (multiplier, shift) from sums of score · post factor to potentials
    delay: int = 0  # newest steps that are left out: lags begin with the one of that age

    def __post_init__(self) -> None:
        if self.lags.ndim not in (2, 3):
            raise ValueError(f"lags must be [lags, in] or [lags, in, out], got {self.lags.ndim}-d")
        require(self, "delay", self.delay >= 0, ">= 0")

    @property
    def shape(self) -> LocalShape:
        """What the mapper has to know."""
        per_synapse = self.lags.ndim == 3
        return LocalShape(lags=len(self.lags), per_synapse=per_synapse, delay=self.delay)

    def post(self, v: Tensor, overflows: Overflows, place: str) -> Tensor:
        """Return the post factor of potentials [N, out], 8 bits; see `Table.look_up`."""
        argument = shifted(v - self.thresholds, *self.argument)
        return self.table.look_up(argument, overflows, f"{place}: arguments of tables")


@dataclass
class History:
    """Inputs and post factors of earlier steps, and the current they make."""

    module: LocalModule
    overflows: Overflows  # counts scores and arguments that do not fit
    place: str  # named there

    def __post_init__(self) -> None:
        reach = self.module.delay + len(self.module.lags)
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
        remembered = list(self._earlier)[self.module.delay :]
        for lag, (earlier, post) in zip(self.module.lags, remembered, strict=False):
            total = total + self._score(x, earlier, lag) * post
        return total if isinstance(total, int) else shifted(total, *self.module.gain)

    def learn(self, x: Tensor, v: Tensor) -> None:
        """Remember an input [N, in] and the potential that it led to [N, out]."""
        self._earlier.appendleft((x, self.module.post(v, self.overflows, self.place)))

    def _score(self, x: Tensor, earlier: Tensor, lag: Tensor) -> Tensor:
        """Return how alike two inputs are, weighted by a lag [N, 1] or [N, out]."""
        alike = shifted(x.long() * earlier.long(), 1, self.module.coincidence_shift)
        sums = exact_product(alike, lag.unsqueeze(1) if lag.ndim == 1 else lag)
        sums = shifted(sums, 1, self.module.score_shift)
        return self.overflows.saturate(sums, self.module.score_bits, f"{self.place}: scores")


class HostRule(NamedTuple):
    """What a host has to know to move a layer's trace."""

    start: Tensor  # trace before the first step [in, out]
    trace_decay: float  # per step
    rate: Tensor  # [in], of inputs in whole numbers and post factors of 8 bits
    gain: Tensor  # from the trace to synapses in whole numbers: a scalar, or [in, out]
    bits: int  # of synapses
    clip: float | None  # bound of the trace


@dataclass
class WrittenSynapses:
    """Synapses that a host rewrites: the same interface as `History`."""

    weight: Tensor  # global weights in whole numbers [in, out]
    rule: HostRule
    module: LocalModule  # gives the post factor
    overflows: Overflows  # counts synapses and arguments that do not fit
    place: str  # named there

    def __post_init__(self) -> None:
        self._trace = self.rule.start.float().unsqueeze(0)  # one for all samples until they learn

    def current(self, x: Tensor) -> Tensor:
        """Return what the synapses of this step add to those of the global weights [N, out]."""
        weight, traces = self.weight.float(), self._trace.expand(len(x), -1, -1)
        whole = (weight + self.rule.gain * traces).round()
        written = self.overflows.saturate(whole, self.rule.bits, f"{self.place}: synapses")
        added = (written - weight).double()
        return torch.bmm(x.double().unsqueeze(1), added).squeeze(1).long()

    def learn(self, x: Tensor, v: Tensor) -> None:
        """Move the trace by an input [N, in] and the potential that it led to [N, out]."""
        rule, pre = self.rule, (self.rule.rate.float() * x).unsqueeze(2)
        post = self.module.post(v, self.overflows, self.place).float().unsqueeze(1)
        self._trace = torch.baddbmm(self._trace, pre, post, beta=rule.trace_decay)
        if rule.clip is not None:
            self._trace = self._trace.clamp(-rule.clip, rule.clip)
