"""Spikes and the stand-ins for their derivative.

A spike z = H(v - v_th) has derivative zero almost everywhere. In the backward pass a surrogate
replaces dH/dv by a bump around the threshold (paper, Methods; Fig. 1).
"""

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor


class Surrogate(Protocol):
    """The derivative that the backward pass uses in place of dH/dv."""

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        """Return grad · dH/dv at membrane potential `v`; all tensors share one shape."""
        ...


def _require_positive(owner: str, field: str, value: float, *, zero: bool = False) -> None:
    if value < 0 or (value == 0 and not zero):
        raise ValueError(f"{owner}.{field} = {value}: it must be {'>= 0' if zero else '> 0'}")


@dataclass(frozen=True)
class Rectangle:
    """dH/dv = 1 where |v - v_th| < half_width, else 0: the paper's choice, not rescaled.

    A half width of 0 gives the true derivative of a step, zero everywhere.
    """

    half_width: float = 0.5

    def __post_init__(self) -> None:
        _require_positive("Rectangle", "half_width", self.half_width, zero=True)

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        # The derivative of a hard tanh is this very window: one fused pass instead of four.
        low, high = v_th - self.half_width, v_th + self.half_width
        return torch.ops.aten.hardtanh_backward(grad, v, low, high)


@dataclass(frozen=True)
class FastSigmoid:
    """dH/dv = 1 / (1 + slope |v - v_th|)² (Zenke and Ganguli, Neural Comput. 30, 2018)."""

    slope: float = 10.0

    def __post_init__(self) -> None:
        _require_positive("FastSigmoid", "slope", self.slope)

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        return grad / (1.0 + self.slope * (v - v_th).abs()).square()


@dataclass(frozen=True)
class ArcTan:
    """dH/dv = 1 / (1 + (π slope (v - v_th) / 2)²) (Fang et al., ICCV 2021), peak height 1."""

    slope: float = 2.0

    def __post_init__(self) -> None:
        _require_positive("ArcTan", "slope", self.slope)

    def backward(self, grad: Tensor, v: Tensor, v_th: float) -> Tensor:
        return grad / (1.0 + (torch.pi / 2 * self.slope * (v - v_th)).square())


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, v_th: float, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(v)
        ctx.v_th, ctx.surrogate = v_th, surrogate
        # Writing the comparison into a float buffer skips a slow conversion from bool.
        return torch.gt(v, v_th, out=torch.empty_like(v))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return ctx.surrogate.backward(grads[0], v, ctx.v_th), None, None


def spike(v: Tensor, v_th: float, surrogate: Surrogate) -> Tensor:
    """Return z = H(v - v_th) as floats of `v`'s shape, with `surrogate` as its derivative.

    Source: paper Eq. 8, third line.
    """
    return cast(Tensor, _Spike.apply(v, v_th, surrogate))
