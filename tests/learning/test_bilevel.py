"""The gradient of θ past one step of the weights: three ways that agree on a smooth network."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hybrid.learning.bilevel import Bilevel, Loss, hypergradient

PLAIN = Bilevel(second_order="exact", rate=0.3, clamp=None, max_norm=None)
Tensors = Sequence[Tensor]


def problem(seed: int = 0) -> tuple[Loss, Loss, list[Tensor], list[Tensor]]:
    """A plastic tanh layer that adapts to four samples, with θ = gain and rates, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def loss_on(x: Tensor, y: Tensor) -> Loss:
        def loss(weights: Tensors, meta: Tensors) -> Tensor:
            (hidden, out), (gain, rate) = weights, meta
            first = torch.tanh(x @ hidden)
            trace = (rate * x).mT @ first / len(x)
            second = torch.tanh(x @ (hidden + gain * trace))
            return (second @ out - y).square().mean()

        return loss

    weights = [draw(5, 3), draw(3, 2)]
    meta = [draw(1).squeeze(), draw(5)]
    return loss_on(draw(4, 5), draw(4, 2)), loss_on(draw(4, 5), draw(4, 2)), weights, meta


def looked_past(seed: int = 0) -> Tensor:
    """dC_val(w'(θ), θ)/dθ, differentiated numerically as one function of θ."""
    train, validation, weights, meta = problem(seed)
    sizes = [value.numel() for value in meta]

    def outer(flat: Tensor) -> Tensor:
        theta = [p.reshape(m.shape) for p, m in zip(flat.split(sizes), meta, strict=True)]
        w = [p.clone().requires_grad_() for p in weights]
        step = torch.autograd.grad(train(w, theta), w)
        return validation([p - PLAIN.rate * g for p, g in zip(w, step, strict=True)], theta)

    flat = torch.cat([value.flatten() for value in meta])
    epsilon = 1e-5
    columns = []
    for unit in epsilon * torch.eye(len(flat), dtype=flat.dtype):
        columns.append((outer(flat + unit) - outer(flat - unit)).detach() / (2 * epsilon))
    return torch.stack(columns)


def together(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_gradient_is_the_derivative_of_what_happens(seed: int) -> None:
    exact = together(hypergradient(*problem(seed), PLAIN))
    torch.testing.assert_close(exact, looked_past(seed), rtol=1e-6, atol=1e-9)
    without = replace(PLAIN, second_order="first-order")
    first_order = together(hypergradient(*problem(seed), without))
    assert (exact - first_order).norm() > 1e-3 * exact.norm(), "the second term matters here"


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_papers_difference_agrees_with_the_exact_product(seed: int, lookahead: bool) -> None:
    exact = replace(PLAIN, lookahead=lookahead)
    difference = replace(exact, second_order="finite-difference", difference=1e-4)
    torch.testing.assert_close(
        together(hypergradient(*problem(seed), difference)),
        together(hypergradient(*problem(seed), exact)),
        rtol=1e-5,
        atol=1e-8,
    )


def test_without_lookahead_both_losses_meet_the_same_weights() -> None:
    """The authors' code: direct gradient at w, not at w'."""
    train, validation, weights, meta = problem()
    here = replace(PLAIN, second_order="first-order", lookahead=False)
    theta = [value.clone().requires_grad_() for value in meta]
    direct = torch.autograd.grad(validation(weights, theta), theta)
    torch.testing.assert_close(hypergradient(train, validation, weights, meta, here), list(direct))


def test_bounds_hold() -> None:
    def train(weights: Tensors, meta: Tensors) -> Tensor:
        return 1e3 * (weights[0] * meta[0]).sum()

    def validation(weights: Tensors, meta: Tensors) -> Tensor:
        return weights[0].sum()

    start = [torch.ones(2, dtype=torch.float64)], [torch.ones(2, dtype=torch.float64)]
    for second_order in ("exact", "finite-difference"):
        free = replace(PLAIN, second_order=second_order)
        # The step's derivative by θ is 1,000 in each entry, times ξ = 0.3.
        (gradient,) = hypergradient(train, validation, *start, free)
        assert gradient.tolist() == pytest.approx([-300.0, -300.0])
        (clamped,) = hypergradient(train, validation, *start, replace(free, clamp=1.0))
        assert clamped.tolist() == pytest.approx([-0.3, -0.3])
        (short,) = hypergradient(train, validation, *start, replace(free, max_norm=1.0))
        assert short.norm().item() == pytest.approx(1.0)


def test_what_a_loss_does_not_use_has_no_influence() -> None:
    def train(weights: Tensors, meta: Tensors) -> Tensor:
        return weights[0].square().sum()

    start = [torch.ones(2)], [torch.ones(3)]
    for second_order in ("exact", "finite-difference", "first-order"):
        settings = Bilevel(second_order=second_order)
        (gradient,) = hypergradient(train, train, *start, settings)
        assert gradient.tolist() == [0.0, 0.0, 0.0]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="it must be one of finite-difference, exact, first-order"):
        Bilevel(second_order="third")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Bilevel\.rate = 0\.0: it must be > 0"):
        Bilevel(rate=0.0)
