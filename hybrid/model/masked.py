"""A layer of which a task owns few synapses, without a dense matrix in its window.

With M mostly zero, W ∘ M is sparse, and so is what the mask takes from the local current:

    x_t (W ∘ M + local_gain · P_t ∘ (1 - M))
        = x_t ((W - local_gain · P_t) ∘ M) + local_gain · x_t P_t

The trace at the ones of M is updated by sampled products, x_t P_t is read from Gram matrices as in
`hybrid.model.memories`, and P itself is built once, at the end, where somebody asks for it.
Source: authors' continual-learning network, written out.
"""

import torch
from torch import Tensor

from hybrid.model.coding import Drive
from hybrid.model.masks import SparseMask
from hybrid.model.memories import samples_of, steps_of
from hybrid.model.neurons import NeuronState
from hybrid.model.plasticity import Eligibility, Hebbian, LocalRule, Synapse


class MaskedHistory:
    """Synapses under a sparse mask; the trace, shared by the batch, starts at zero."""

    def __init__(
        self,
        drive: Drive,
        synapse: Synapse,
        mask: SparseMask,
        rule: LocalRule | None,
        v_th: float,
        final_trace: bool,
    ) -> None:
        self._xs, self._mask, self._bias = steps_of(drive), mask, synapse.bias
        assert rule is None or isinstance(rule, Hebbian)
        self._meta, self._rule, self._v_th = synapse.meta, rule, v_th
        self._share, self._final = 1.0 / samples_of(drive), final_trace
        self._own = mask.take(synapse.weight)  # W at the ones of M
        self._trace_there: Tensor | None = None  # P at the ones of M
        self._rated: list[Tensor] = []  # local_rate ∘ x_s, s < t
        self._aged: list[Tensor] = []  # λ^{t-1-s} y_s / N

    def current(self, t: int) -> Tensor:
        x, values = self._xs[t], self._own
        if self._trace_there is None:
            current = self._mask.product(x, values)
        else:
            assert self._meta is not None
            gain = self._meta.local_gain
            current = self._mask.product(x, values - gain * self._trace_there)
            gram = x @ torch.cat(self._rated).mT
            current = current + gain * (gram @ torch.cat(self._aged))
        return current if self._bias is None else current + self._bias

    def learn(self, t: int, state: NeuronState) -> None:
        last = t == len(self._xs) - 1
        if self._rule is None or self._meta is None or (last and not self._final):
            return
        decay, meta = self._rule.trace_decay, self._meta
        y = self._share * self._rule.post_signal(state.v, meta.sliding_threshold, self._v_th)
        rated = self._xs[t] * meta.local_rate
        self._aged = [*(decay * earlier for earlier in self._aged), y]
        self._rated.append(rated)
        if not last:
            update = self._mask.sample(rated, y)
            earlier = self._trace_there
            self._trace_there = update if earlier is None else decay * earlier + update

    def end(self) -> tuple[Tensor | None, Eligibility | None]:
        if not self._rated or not self._final:
            return None, None
        return torch.cat(self._rated).mT @ torch.cat(self._aged), None
