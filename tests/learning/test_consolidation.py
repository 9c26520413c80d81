"""EWC and SI against short implementations of their own, written from their papers' equations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybrid.learning.consolidation import Consolidation

TASKS, SAMPLES, IN, OUT, STEPS, RATE = 3, 40, 5, 2, 60, 0.05


def tasks() -> list[tuple[Tensor, Tensor]]:
    """Linear regressions whose inputs and targets differ."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(TASKS):
        x = torch.randn(SAMPLES, IN, generator=generator, dtype=torch.float64)
        x = x * (0.2 + 1.5 * torch.rand(IN, generator=generator, dtype=torch.float64))
        slope = torch.randn(OUT, IN, generator=generator, dtype=torch.float64)
        found.append((x, x @ slope.T))
    return found


def loss_of(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ((x @ weight.T - y) ** 2).mean()


def fisher_of(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """F_i = mean over samples of (∂ log p / ∂θ_i)², of each sample's own gradient."""
    squares = torch.zeros_like(weight)
    for one in range(len(x)):
        own = weight.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(own, x[one : one + 1], y[one : one + 1]), own)
        squares += gradient**2
    return squares / len(x)


def with_ours(importance: Any, **options: float) -> list[Tensor]:
    """Return the weights after each task, learned with the package's penalty."""
    weight = torch.nn.Parameter(torch.zeros(OUT, IN, dtype=torch.float64))
    optimiser = torch.optim.SGD([weight], RATE)
    held = Consolidation([weight], importance, **options)
    found = []
    for x, y in tasks():
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss_of(weight, x, y).backward()
            held.step(optimiser.step)
        held.end_task(lambda x=x, y=y: [fisher_of(weight, x, y)])  # type: ignore[misc]
        found.append(weight.detach().clone())
    return found


def descend(weight: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the weight after one step of plain gradient descent."""
    own = weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(own), own)
    return weight - RATE * gradient


@pytest.mark.parametrize("strength", [0.3, 3.0])
def test_ewc_is_the_sum_of_its_penalties(strength: float) -> None:
    """L(θ) = L_B(θ) + Σ_k λ/2 Σ_i F_ki (θ_i - θ*_ki)² (Kirkpatrick et al., PNAS 2017, Eq. 3)."""
    weight, earlier = torch.zeros(OUT, IN, dtype=torch.float64), []
    expected = []
    for x, y in tasks():

        def loss(own: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            held = [(f * (own - anchor) ** 2).sum() for f, anchor in earlier]
            return loss_of(own, x, y) + strength / 2 * sum(held, torch.zeros(()))

        for _ in range(STEPS):
            weight = descend(weight, loss)
        earlier.append((fisher_of(weight, x, y), weight))
        expected.append(weight)
    found = with_ours("ewc", strength=strength)
    for ours, own in zip(found, expected, strict=True):
        assert torch.allclose(ours, own, atol=1e-10)
    free = with_ours("none")
    assert (found[-1] - free[-1]).abs().max() > 0.05  # the penalty does something


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_synaptic_intelligence_is_the_path_integral(strength: float) -> None:
    """Zenke et al., ICML 2017, Eq. 3 to 5.

    ω_k = -Σ_t g(t) Δθ(t) along the path of task k, Ω = Σ_k max(ω_k, 0) / (Δ_k² + ξ), and a loss
    L + c Σ Ω (θ - θ̃)², whose c is half of our strength. Shares below zero count as none, here.
    """
    damping, weight = 0.1, torch.zeros(OUT, IN, dtype=torch.float64)
    importance = torch.zeros_like(weight)
    anchor, expected = weight.clone(), []
    for x, y in tasks():
        share, start = torch.zeros_like(weight), weight.clone()
        for _ in range(STEPS):
            own = weight.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(loss_of(own, x, y), own)

            def loss(own: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
                held = (importance * (own - anchor) ** 2).sum()  # noqa: B023 (used at once)
                return loss_of(own, x, y) + strength / 2 * held

            moved = descend(weight, loss)
            share -= slope * (moved - weight)
            weight = moved
        importance = importance + share.clamp(min=0.0) / ((weight - start) ** 2 + damping)
        anchor = weight.clone()
        expected.append(weight)
    found = with_ours("si", strength=strength, damping=damping)
    for ours, own in zip(found, expected, strict=True):
        assert torch.allclose(ours, own, atol=1e-10)
    assert (found[-1] - with_ours("none")[-1]).abs().max() > 0.05
