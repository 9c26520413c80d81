"""How the updates of several samples become one trace, or one trace each."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from hybrid.model.plasticity import LocalRule

Pool = Literal["batch", "ranks", "sample", "stream"]
POOLS: tuple[Pool, ...] = ("batch", "ranks", "sample", "stream")


class _SumOfRanks(torch.autograd.Function):
    """The sum of a tensor over all processes; every process's loss depends on each part of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return cast(Tensor, _SumOfRanks.apply(grads[0]))


class Pooling(NamedTuple):
    """How the updates of N samples become one trace, or one trace each."""

    shared: bool  # one trace [in, out] for all samples
    weight: float  # factor of the summed (or own) update
    trace_decay: float  # λ per step
    share: float = 1.0  # of a batch's step that a step of one sample is
    ranks: bool = False  # whether the samples of all processes are one batch

    def total(self, own: Tensor) -> Tensor:
        """Return a sum over this process's samples, summed over all processes that share it."""
        return cast(Tensor, _SumOfRanks.apply(own)) if self.ranks else own

    def of_rule(self, rule: "LocalRule") -> "Pooling":
        """Return the same pooling with the decay of another rule."""
        return self._replace(trace_decay=rule.trace_decay**self.share)

    @classmethod
    def of(cls, pool: Pool, rule: "LocalRule", samples: int) -> "Pooling":
        """Return the pooling named `pool` for a batch of `samples`.

        "batch": the mean over the batch moves one trace (the authors' code). "ranks": the same,
        over the samples of all processes of `torch.distributed` together, which must run the same
        windows at the same time. "sample": each
        sample has its own trace. "stream": each sample has its own trace and moves it by 1/M of
        a batch update, while it decays by λ^{1/M}: M samples seen one after the other weigh as
        much as one batch of M.

        Raises:
            ValueError: if `pool` is not one of the four, or there are no processes.
        """
        if pool == "batch":
            return cls(True, 1.0 / samples, rule.trace_decay)
        if pool == "ranks":
            if not dist.is_initialized():
                raise ValueError("pool = 'ranks' needs torch.distributed.init_process_group first")
            counts: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(counts, samples)  # on whatever device the processes talk
            return cls(True, 1.0 / sum(counts), rule.trace_decay, ranks=True)
        if pool == "sample":
            return cls(False, 1.0, rule.trace_decay)
        if pool == "stream":
            m = rule.nominal_batch
            return cls(False, 1.0 / m, rule.trace_decay ** (1.0 / m), 1.0 / m)
        raise ValueError(f"pool = {pool!r}: choose one of {', '.join(POOLS)}")
