"""The baseline of a history: a host that keeps the trace and rewrites synapses after each step.

Synapses hold round((W + local_gain ∘ P) / scale) in 8 bits; P itself lives in the host, in floating
point, and learns from the inputs and from the 8-bit potentials that the chip sends. Each sample has
weights of its own: on a chip samples would have to come one after the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.tianjic.fixed import Overflows
from hybrid.tianjic.history import LocalModule


@dataclass(frozen=True, kw_only=True)
class HostRule:
    """What a host has to know to move a layer's trace.

    Args:
        start: trace before the first step [in, out].
        trace_decay: of the trace per step.
        rate: [in], of inputs in whole numbers and post factors of 8 bits.
        gain: from the trace to synapses in whole numbers: a scalar, or [in, out].
        bits: of synapses.
        clip: bound of the trace, or None.
    """

    start: Tensor
    trace_decay: float
    rate: Tensor
    gain: Tensor
    bits: int
    clip: float | None = None


class WrittenSynapses:
    """Synapses that are rewritten: the same interface as `History`.

    Args:
        weight: global weights in whole numbers [in, out].
        rule: of the host.
        module: gives the post factor.
        samples: N.
        overflows, place: where synapses and arguments that do not fit are counted.
    """

    def __init__(
        self,
        weight: Tensor,
        rule: HostRule,
        module: LocalModule,
        samples: int,
        overflows: Overflows,
        place: str,
    ) -> None:
        self._weight, self._rule, self._module = weight.float(), rule, module
        self._overflows, self._place = overflows, place
        self._trace = rule.start.float().expand(samples, -1, -1)

    def current(self, x: Tensor) -> Tensor:
        """Return what the synapses of this step add to those of the global weights [N, out]."""
        whole = (self._weight + self._rule.gain * self._trace).round()
        written = self._overflows.saturate(whole, self._rule.bits, f"{self._place}: synapses")
        own = written - self._weight
        return torch.bmm(x.double().unsqueeze(1), own.double()).squeeze(1).long()

    def learn(self, x: Tensor, v: Tensor) -> None:
        """Move the trace by an input [N, in] and the potential that it led to [N, out]."""
        pre = self._rule.rate.float() * x
        post = self._module.post(v, self._overflows, self._place).float()
        self._trace = torch.baddbmm(
            self._trace, pre.unsqueeze(2), post.unsqueeze(1), beta=self._rule.trace_decay
        )
        if self._rule.clip is not None:
            self._trace = self._trace.clamp(-self._rule.clip, self._rule.clip)
