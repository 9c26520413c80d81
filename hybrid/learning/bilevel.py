"""Bilevel learning: the gradient of θ looks past the step that the weights are about to take.

Weights w descend a training loss; meta-parameters θ should make that step useful for a validation
loss (paper Eq. 10):

    ∇_θ C_val(w', θ) - ξ · ∂/∂θ [ ∇_w C_train(w, θ) · d ],   w' = w - ξ ∇_w C_train(w, θ),
    d = ∇_w C_val(w', θ) held fixed.

The second term needs second derivatives. It is computed exactly (a Hessian-vector product), by the
paper's central difference of two gradients, or left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hybrid.checks import one_of, require

SecondOrder = Literal["finite-difference", "exact", "first-order"]

Tensors = Sequence[Tensor]
# Maps (weights, θ), in the order they are given to `hypergradient`, to a scalar.
Loss = Callable[[Tensors, Tensors], Tensor]


@dataclass(frozen=True, kw_only=True)
class Bilevel:
    """How θ's gradient is computed; the defaults are the authors', but for `lookahead`.

    Args:
        second_order: how the second term is computed; "first-order" leaves it out.
        rate: ξ, the weights' step that is looked past.
        lookahead: whether the validation loss is taken at w' (the paper's equation) or at w (the
            authors' code).
        difference: largest step of the central difference: ε = difference · min(1, 1 / |d|).
        clamp: bound on each entry of the second term's derivative, before ξ; None for no bound.
        max_norm: bound on the norm of the whole gradient of θ; None for no bound.

    Raises:
        ValueError: if a name is unknown, or a number is not positive.
    """

    second_order: SecondOrder = "finite-difference"
    rate: float = 0.1
    lookahead: bool = True
    difference: float = 1e-3
    clamp: float | None = 1.0
    max_norm: float | None = 1.0

    def __post_init__(self) -> None:
        one_of(self, "second_order", SecondOrder)
        for name in ("rate", "difference", "clamp", "max_norm"):
            value = getattr(self, name)
            require(self, name, value is None or value > 0.0, "> 0")


def hypergradient(
    train_loss: Loss, validation_loss: Loss, weights: Tensors, meta: Tensors, settings: Bilevel
) -> list[Tensor]:
    """Return the gradient of each θ; nothing is changed.

    Args:
        train_loss, validation_loss: see `Loss`; a θ that one of them does not use counts as one
            without influence.
        weights, meta: w and θ, where the gradient is taken.
        settings: see `Bilevel`.

    Source: paper Eq. 10; Liu et al., DARTS, ICLR 2019, for the expansion and the difference.
    """
    w, theta = _leaves(weights), _leaves(meta)
    exact = settings.second_order == "exact"
    ahead, step = w, list[Tensor]()
    if settings.lookahead or exact:
        step = _gradients(train_loss(w, theta), w, create_graph=exact)
    if settings.lookahead:
        ahead = _leaves([p - settings.rate * g for p, g in zip(w, step, strict=True)])
    both = _gradients(validation_loss(ahead, theta), [*ahead, *theta])
    d, direct = both[: len(w)], both[len(w) :]

    if exact:
        along = sum(((g * v).sum() for g, v in zip(step, d, strict=True)), start=torch.zeros(()))
        second = _gradients(along, theta)
    elif settings.second_order == "finite-difference":
        second = _central_difference(train_loss, w, theta, d, settings.difference)
    else:
        return _limited(direct, settings.max_norm)
    if settings.clamp is not None:
        second = [term.clamp(-settings.clamp, settings.clamp) for term in second]
    total = [a - settings.rate * b for a, b in zip(direct, second, strict=True)]
    return _limited(total, settings.max_norm)


def _central_difference(
    loss: Loss, w: Tensors, theta: Tensors, d: Tensors, difference: float
) -> list[Tensor]:
    """Return [∇_θ C(w + εd, θ) - ∇_θ C(w - εd, θ)] / 2ε."""
    size = torch.cat([v.flatten() for v in d]).norm().item()
    epsilon = difference * min(1.0, 1.0 / size) if size else difference
    sides = []
    for sign in (1.0, -1.0):
        moved = [(p + sign * epsilon * v).detach() for p, v in zip(w, d, strict=True)]
        sides.append(_gradients(loss(moved, theta), theta))
    return [(plus - minus) / (2.0 * epsilon) for plus, minus in zip(*sides, strict=True)]


def _leaves(tensors: Tensors) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def _gradients(value: Tensor, of: Tensors, *, create_graph: bool = False) -> list[Tensor]:
    """Return gradients, zero where `value` does not depend on a tensor."""
    if not value.requires_grad:
        return [torch.zeros_like(tensor) for tensor in of]
    found = torch.autograd.grad(
        value, list(of), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return list(found)


def _limited(gradients: list[Tensor], max_norm: float | None) -> list[Tensor]:
    """Return gradients whose common norm is at most `max_norm`."""
    if max_norm is None or not gradients:
        return gradients
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [gradient * (max_norm / norm.clamp(min=max_norm)) for gradient in gradients]
