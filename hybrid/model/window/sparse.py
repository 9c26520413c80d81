"""Sparse masks: which synapses of a layer a task owns, and products that touch nothing else.

A random mask that leaves 3 % of the synapses is kept as their positions; products with it cost
3 % of the dense ones' arithmetic.
"""

import warnings
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from hybrid.model.drive import Drive
from hybrid.model.neurons import Constant, NeuronState
from hybrid.model.plasticity import Hebbian, LocalRule, MetaLocal, Synapse
from hybrid.model.window.memories import Ending, FinalTrace

with warnings.catch_warnings():  # torch says once per process that CSR tensors are in beta
    warnings.simplefilter("ignore")
    torch.zeros(1, 1).to_sparse_csr()


class SparseMask:
    """The ones of a mask M [in, out], by their positions.

    Args:
        starts: where each output's positions begin, and their number at the end [out + 1], int32.
        inputs: the inputs that each output's ones belong to [ones], int32.
        in_features: inputs of the layer.

    Values at the ones are vectors [ones], output by output: the order of `inputs`.
    """

    def __init__(self, starts: Tensor, inputs: Tensor, in_features: int) -> None:
        self.starts, self.inputs = starts, inputs
        self.shape = (in_features, len(starts) - 1)  # [in, out], as of a dense mask
        self._held: Tensor | None = None

    @classmethod
    def of(cls, mask: Tensor) -> "SparseMask":
        """Return the ones of a dense mask [in, out]."""
        pattern = (mask.mT != 0.0).to_sparse_csr()
        starts, inputs = pattern.crow_indices(), pattern.col_indices()
        return cls(starts.int(), inputs.int(), mask.shape[0])

    @classmethod
    def random(
        cls, in_features: int, out_features: int, density: float, generator: torch.Generator
    ) -> "SparseMask":
        """Return a mask whose entries are one with probability `density`, independently.

        Raises:
            ValueError: if the density does not lie in [0, 1].
        """
        if not 0.0 <= density <= 1.0:
            raise ValueError(f"density = {density}: it must lie in [0, 1]")
        draws = torch.rand(in_features, out_features, generator=generator)
        return cls.of((draws < density).float())

    def to(self, device: torch.device) -> "SparseMask":
        """Return the mask on a device."""
        return SparseMask(self.starts.to(device), self.inputs.to(device), self.shape[0])

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return M [in, out]."""
        ones = torch.ones(len(self.inputs), dtype=dtype, device=self.inputs.device)
        return self.matrix(ones).to_dense().mT

    def take(self, weight: Tensor) -> Tensor:
        """Return the entries of a weight [out, in] at the ones, or those in their place [ones]."""
        return torch.take(weight, self.positions) if self._held is None else self._held

    def holding(self, values: Tensor) -> "SparseMask":
        """Return a mask that puts values [ones] in the place of any weight's entries."""
        other = copy(self)
        other._held = values
        return other

    def full(self, weight: Tensor) -> Tensor:
        """Return a weight [out, in] with what the mask holds, if anything, at the ones."""
        if self._held is None:
            return weight
        flat = weight.detach().flatten()
        return flat.scatter(0, self.positions, self._held.to(flat)).view_as(weight)

    @cached_property
    def positions(self) -> Tensor:
        """Where the ones lie in a flattened weight [out, in]: [ones], int64."""
        counts, ones = self.starts.diff(), len(self.inputs)
        outputs = torch.arange(len(counts), device=counts.device)
        outputs = outputs.repeat_interleave(counts, output_size=ones)
        return outputs * self.shape[0] + self.inputs

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x S [N, out] for x [N, in] and S [in, out], which is `values` at the ones."""
        return cast(Tensor, _Product.apply(x, values, self))

    def sample(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the entries of xᵀ y [in, out] at the ones, for x [N, in] and y [N, out]."""
        return cast(Tensor, _Sample.apply(x, y, self))

    @cached_property
    def _turned(self) -> tuple["SparseMask", Tensor]:
        """Return the mask with inputs and outputs exchanged, and its order of the values."""
        order = torch.argsort(self.inputs, stable=True)
        counts = torch.bincount(self.inputs, minlength=self.shape[0])
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        outputs = (self.positions // self.shape[0]).int()
        return SparseMask(starts, outputs[order], self.shape[1]), order

    def matrix(self, values: Tensor) -> Tensor:
        """Return S as a sparse matrix [out, in]."""
        rows, size = (self.starts, self.inputs), self.shape[::-1]
        return torch.sparse_csr_tensor(*rows, values, size, check_invariants=False)

    def turned_product(self, y: Tensor, values: Tensor) -> Tensor:
        """Return y Sᵀ [N, in] for y [N, out] and S [in, out], which is `values` at the ones."""
        turned, order = self._turned
        return turned.product(y, values[order])


Mask = Tensor | SparseMask  # [in, out]
Masks = Sequence[Mask]


def dense_mask(mask: Mask, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a mask as a dense tensor [in, out]."""
    return mask.to(dtype) if isinstance(mask, Tensor) else mask.dense(dtype)


def random_masks(
    sizes: Sequence[int], density: float, generator: torch.Generator
) -> tuple[SparseMask, ...]:
    """Return a random mask for each layer between `sizes` neurons."""
    return tuple(SparseMask.random(i, o, density, generator) for i, o in pairwise(sizes))


class _Product(torch.autograd.Function):
    """x S and its gradients: those of `values` are sampled, never built densely.

    Gradients are made of the same two functions, so that they have gradients in turn.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, mask: SparseMask) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.mask = mask
        x, values, kept = _precise(x, values)
        # A sparse matrix on the left is several times faster than on the right.
        with torch.autocast(x.device.type, enabled=False):
            return (mask.matrix(values) @ x.mT).mT.to(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,), mask, (x, values) = grads, ctx.mask, ctx.saved_tensors
        need_x, need_values, _ = ctx.needs_input_grad
        of_x = mask.turned_product(grad, values) if need_x else None
        return of_x, mask.sample(x, grad) if need_values else None, None


class _Sample(torch.autograd.Function):
    """The entries of xᵀ y at the ones, and their gradients, which are sparse products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mask: SparseMask) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.mask = mask
        x, y, kept = _precise(x, y)
        into = mask.matrix(x.new_zeros(len(mask.inputs)))
        return torch.sparse.sampled_addmm(into, y.mT, x, beta=0.0).values().to(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,), mask, (x, y) = grads, ctx.mask, ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        of_x = mask.turned_product(y, grad) if need_x else None
        return of_x, mask.product(x, grad) if need_y else None, None


def _precise(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    """Return two factors in the precision of their product, and that of its result.

    torch has no sparse products of half precision: they are computed in single.
    """
    kept = torch.promote_types(one.dtype, other.dtype)
    dtype = torch.float32 if kept in (torch.float16, torch.bfloat16) else kept
    return one.to(dtype), other.to(dtype), kept


class MaskedHistory:
    """Synapses under a sparse mask, without a dense matrix in the window.

    With M mostly zero, W ∘ M is sparse, and so is what the mask takes from the local current:

        x_t (W ∘ M + local_gain · P_t ∘ (1 - M))
            = x_t ((W - local_gain · P_t) ∘ M) + local_gain · x_t P_t
        x_t P_t = Σ_{s<t} λ^{t-1-s} / N · (x_t diag(local_rate) x_sᵀ) y_s

    The trace, shared by the batch, starts at zero. At the ones of M it is updated by sampled
    products, and P itself is built once, at the end, where somebody asks for it. All [N, out]
    tensors lie in memory as [out, N], which is how sparse products leave them. Source: authors'
    continual-learning network.
    """

    def __init__(
        self,
        drive: Drive,
        synapse: Synapse,
        mask: SparseMask,
        rule: LocalRule | None,
        v_th: Constant,
        final_trace: FinalTrace,
    ) -> None:
        self._drive, self._mask, self._bias = drive, mask, synapse.bias
        assert rule is None or isinstance(rule, Hebbian)
        self._theta, self._rule, self._v_th = synapse.meta, rule, v_th
        self._share, self._final = 1.0 / max(drive.shape[0], 1), final_trace != "none"
        self._own = mask.take(synapse.weight)  # W at the ones of M
        self._there: Tensor | None = None  # P at the ones of M
        self._post: list[Tensor] = []  # y_s, s < t
        # Of each step, or of all where one input is repeated: the input, and local_rate ∘ input.
        visible = 1 if drive.repeated else drive.steps
        self._seen = [drive.value_at(t).mT.contiguous().mT for t in range(visible)]
        self._rated = [x * self._meta.local_rate for x in self._seen] if rule else []
        self._read: Tensor | None = None  # what the repeated input of fixed synapses evokes
        self._gram: Tensor | None = None  # of the repeated input

    @property
    def _meta(self) -> MetaLocal:
        assert self._theta is not None
        return self._theta

    def current(self, t: int) -> Tensor:
        gain = self._drive.gain[t]
        if self._rule is None:
            current = gain * self._fixed(t)
        elif self._there is None:
            current = self._mask.product(self._at(self._seen, t), gain * self._own)
        else:
            values = gain * (self._own - self._meta.local_gain * self._there)
            current = self._mask.product(self._at(self._seen, t), values)
        for s, y in enumerate(self._post):
            factor = gain * self._weight(s, t - 1)
            gram = (self._meta.local_gain * factor) * self._overlap(t, s)
            current = torch.addmm(current.mT, y.mT, gram.mT).mT
        return current if self._bias is None else current + self._bias

    def learn(self, t: int, state: NeuronState) -> None:
        last = t == self._drive.steps - 1
        if self._rule is None or (last and not self._final):
            return
        y = self._rule.post_signal(state.v, self._meta.sliding_threshold, self._v_th)
        self._post.append(y)
        if not last:
            update = self._weight(t, t) * self._mask.sample(self._at(self._rated, t), y)
            there, decay = self._there, self._rule.trace_decay
            self._there = update if there is None else torch.add(update, there, alpha=decay)

    def end(self) -> Ending:
        if self._rule is None or not self._final:
            return None, None
        last = self._drive.steps - 1
        post = [self._weight(s, last) * y for s, y in enumerate(self._post)]
        if self._drive.repeated:
            return self._rated[0].mT @ sum(post[1:], post[0]), None
        return torch.cat(self._rated).mT @ torch.cat(post), None

    def _at(self, values: list[Tensor], t: int) -> Tensor:
        return values[0 if self._drive.repeated else t]

    def _weight(self, s: int, t: int) -> float:
        """Return gain_s λ^{t-s} / N, what a signal of step s weighs in the trace after step t."""
        assert self._rule is not None
        return self._drive.gain[s] * self._rule.trace_decay ** (t - s) * self._share

    def _fixed(self, t: int) -> Tensor:
        """Return x (W ∘ M), before its gain."""
        if self._read is None or not self._drive.repeated:
            self._read = self._mask.product(self._at(self._seen, t), self._own)
        return self._read

    def _overlap(self, t: int, s: int) -> Tensor:
        """Return x_t diag(local_rate) x_sᵀ [N, N], before gains."""
        if not self._drive.repeated:
            return self._seen[t] @ self._rated[s].mT
        if self._gram is None:
            self._gram = self._seen[0] @ self._rated[0].mT
        return self._gram
