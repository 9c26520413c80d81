"""Sparse masks: they do what dense ones do, and touch nothing else."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hybrid.model.layers import HybridLinear
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import STDP, Hebbian, LayerState, LocalRule
from hybrid.model.rules import BCM
from hybrid.model.window import choice
from hybrid.model.window.choice import run_window
from hybrid.model.window.sparse import SparseMask, random_masks
from tests.model.test_windows import IN, NEURON, OUT, N, case, cases

HEBBIAN = Hebbian(trace_decay=0.9)


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, leaves, allow_unused=True))


@cases
@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.0, 0.2, 1.0]))
def test_products_and_their_gradients_are_the_dense_ones(seed: int, density: float) -> None:
    g = torch.Generator().manual_seed(seed)
    x, y, weight = (
        torch.rand(shape, generator=g, dtype=torch.float64, requires_grad=True)
        for shape in ((N, IN), (N, OUT), (OUT, IN))
    )
    mask = SparseMask.random(IN, OUT, density, g)
    dense = mask.dense(torch.float64)
    sparse_form = (mask.product(x, mask.take(weight)) * y).sum()
    dense_form = (x @ (weight.mT * dense) * y).sum()
    torch.testing.assert_close(sparse_form, dense_form)
    torch.testing.assert_close(
        gradients(sparse_form, [x, weight, y]), gradients(dense_form, [x, weight, y])
    )
    sampled = mask.sample(x, y)
    torch.testing.assert_close(sampled, mask.take(y.mT @ x))
    torch.testing.assert_close(
        gradients((sampled**2).sum(), [x, y]), gradients((((x.mT @ y) * dense) ** 2).sum(), [x, y])
    )


@cases
@given(
    seed=st.integers(0, 10_000),
    static=st.booleans(),
    local=st.booleans(),
    sign=st.sampled_from([1, -1]),
)
def test_a_sparse_mask_is_a_dense_one(seed: int, static: bool, local: bool, sign: int) -> None:
    drive, events, synapse, _ = case(seed, mask=True)
    mask, plain = SparseMask.of(synapse.mask), synapse._replace(mask=None)
    rule = Hebbian(trace_decay=0.9, sign=sign) if local else None
    shown = drive if static else events
    leaves = [t.requires_grad_() for t in (synapse.weight, synapse.bias, *synapse.meta)]
    results = []
    for synapses, given_mask in ((synapse, None), (plain, mask)):
        window = run_window(shown, synapses, NEURON, rule, sparse_mask=given_mask)
        goal = (window.v**2).sum() + window.z.sum()
        if local:
            goal = goal + (window.final.trace**2).sum()
        results.append((window.v, window.z, window.final.trace, gradients(goal, leaves)))
    torch.testing.assert_close(*results)


def learning(name: str) -> tuple[LocalRule, LayerState]:
    """Return a rule and a start that have a sparse form ("plain"), or have none."""
    rules: dict[str, LocalRule] = {
        "spike timing": STDP(trace_decay=0.9),
        "clipped": Hebbian(trace_decay=0.9, trace_clip=1e-3),
    }
    start = LayerState(trace=torch.ones(IN, OUT).double()) if name == "started" else LayerState()
    return rules.get(name, HEBBIAN), start


@pytest.mark.parametrize("name", ["plain", "spike timing", "clipped", "started"])
def test_what_has_no_sparse_form_is_evaluated_densely(name: str) -> None:
    drive, _, synapse, _ = case(0, mask=True)
    mask, plain = SparseMask.of(synapse.mask), synapse._replace(mask=None)
    rule, start = learning(name)
    with patch.object(choice, "MaskedHistory", wraps=choice.MaskedHistory) as sparse_form:
        window = run_window(drive, plain, NEURON, rule, start, sparse_mask=mask)
    assert sparse_form.called == (name == "plain")
    expected = run_window(drive, synapse, NEURON, rule, start)
    torch.testing.assert_close(window.v, expected.v)
    torch.testing.assert_close(window.final.trace, expected.final.trace)


def test_random_masks_have_their_density_and_come_from_the_seed() -> None:
    first, again, other = (
        random_masks((300, 200, 100), 0.03, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert [mask.shape for mask in first] == [(300, 200), (200, 100)]
    for mask, same, different in zip(first, again, other, strict=True):
        share = mask.dense().mean().item()
        assert share == pytest.approx(0.03, abs=0.005)
        assert torch.equal(mask.dense(), same.dense())
        assert not torch.equal(mask.dense(), different.dense())
        assert mask.inputs.dtype == mask.starts.dtype == torch.int32


def test_wrong_masks_are_named() -> None:
    drive, _, synapse, _ = case(0)
    turned = SparseMask.of(torch.ones(OUT, IN))
    with pytest.raises(ValueError, match=r"mask must have shape \[7, 5\], got \[5, 7\]"):
        run_window(drive, synapse, NEURON, sparse_mask=turned)
    with pytest.raises(ValueError, match=r"density = 1\.5"):
        SparseMask.random(3, 3, 1.5, torch.Generator())


@pytest.mark.parametrize(
    "rule", [BCM(trace_decay=0.8, trace_clip=0.3), Hebbian(trace_decay=0.8, trace_clip=0.01)]
)
def test_what_a_mask_holds_acts_in_every_evaluation(rule: LocalRule) -> None:
    """Also where a layer has no sparse form; gradients come back to the values."""
    layer = HybridLinear(6, 5, neuron=LIF(decay=0.8, v_th=0.3), rule=rule, lifetime="call").double()
    mask = SparseMask.random(6, 5, 0.5, torch.Generator().manual_seed(1))
    x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    own = torch.nn.Parameter(mask.take(layer.weight.detach()) * 2.0)
    (layer(x, mask=mask.holding(own)).states[-1].v ** 2).sum().backward()
    other = torch.nn.Parameter(layer.weight.detach().clone())
    with torch.no_grad():
        other.put_(mask.positions, own)
        layer.weight.copy_(other)
    (layer(x, mask=mask).states[-1].v ** 2).sum().backward()
    assert own.grad is not None
    assert own.grad.abs().max() > 0.0
    torch.testing.assert_close(own.grad, mask.take(layer.weight.grad))
