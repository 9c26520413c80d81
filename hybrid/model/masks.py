"""Sparse masks: which synapses of a layer a task owns, and products that touch nothing else.

A random mask that leaves 3 % of the synapses is kept as their positions; products with it cost
3 % of the dense ones' arithmetic.
"""

import warnings
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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

    @property
    def ndim(self) -> int:
        """Two, as of a dense mask."""
        return len(self.shape)

    def to(self, device: torch.device) -> "SparseMask":
        """Return the mask on a device."""
        return SparseMask(self.starts.to(device), self.inputs.to(device), self.shape[0])

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return M [in, out]."""
        ones = torch.ones(len(self.inputs), dtype=dtype, device=self.inputs.device)
        return self.matrix(ones).to_dense().mT

    def take(self, weight: Tensor) -> Tensor:
        """Return the entries of a weight [out, in] at the ones [ones]."""
        return torch.take(weight, self.positions)

    @cached_property
    def positions(self) -> Tensor:
        """Where the ones lie in a flattened weight [out, in]: [ones], int64."""
        counts = self.starts.diff()
        outputs = torch.arange(len(counts), device=counts.device).repeat_interleave(
            counts, output_size=len(self.inputs)
        )
        return outputs * self.shape[0] + self.inputs

    def product(self, x: Tensor, values: Tensor) -> Tensor:
        """Return x S [N, out] for x [N, in] and S [in, out], which is `values` at the ones."""
        return _Product.apply(x, values, self)

    def sample(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the entries of xᵀ y [in, out] at the ones, for x [N, in] and y [N, out]."""
        return _Sample.apply(x, y, self)

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
        size = (self.shape[1], self.shape[0])
        return torch.sparse_csr_tensor(
            self.starts, self.inputs, values, size, check_invariants=False
        )

    def turned_matrix(self, values: Tensor) -> Tensor:
        """Return S as a sparse matrix [in, out]."""
        turned, order = self._turned
        return turned.matrix(values[order])


def random_masks(
    sizes: Sequence[int], density: float, generator: torch.Generator
) -> tuple[SparseMask, ...]:
    """Return a random mask for each layer between `sizes` neurons."""
    return tuple(SparseMask.random(i, o, density, generator) for i, o in pairwise(sizes))


def _forward(x: Tensor, values: Tensor, mask: SparseMask) -> Tensor:
    return (mask.matrix(values) @ x.mT).mT


def _backward(y: Tensor, values: Tensor, mask: SparseMask) -> Tensor:
    # A sparse matrix on the left is several times faster than on the right.
    return (mask.turned_matrix(values) @ y.mT).mT


def _sampled(x: Tensor, y: Tensor, mask: SparseMask) -> Tensor:
    into = mask.matrix(x.new_zeros(len(mask.inputs)))
    return torch.sparse.sampled_addmm(into, y.mT, x, beta=0.0).values()


class _Product(torch.autograd.Function):
    """x S and its gradients: those of `values` are sampled, never built densely."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, mask: SparseMask) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.mask = mask
        return _forward(x, values, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, values = ctx.saved_tensors
        need_x, need_values, _ = ctx.needs_input_grad
        return (
            _backward(grad, values, ctx.mask) if need_x else None,
            _sampled(x, grad, ctx.mask) if need_values else None,
            None,
        )


class _Sample(torch.autograd.Function):
    """The entries of xᵀ y at the ones, and their gradients, which are sparse products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mask: SparseMask) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.mask = mask
        return _sampled(x, y, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        return (
            _backward(y, grad, ctx.mask) if need_x else None,
            _forward(x, grad, ctx.mask) if need_y else None,
            None,
        )
