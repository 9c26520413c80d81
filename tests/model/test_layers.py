"""Traces in layers: how long they live, who may change them, and wrong shapes of networks."""

from typing import Any

import pytest
import torch

from hybrid.model.coding import LastMembrane
from hybrid.model.drive import Static, Steps, direct
from hybrid.model.layers import HybridLinear, InitialMeta
from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import LIF
from hybrid.model.plasticity import Hebbian, LayerState

DRIVE = Static(torch.rand(4, 6, generator=torch.Generator().manual_seed(0)), (1.0, 0.9))


def layer(**options: object) -> HybridLinear:
    return HybridLinear(
        6,
        3,
        neuron=LIF(decay=0.5, v_th=0.5),
        rule=Hebbian(trace_decay=0.9),
        generator=torch.Generator().manual_seed(1),
        initial_meta=InitialMeta.up_to(0.5),
        **options,
    )


def traces(tested: HybridLinear, calls: int) -> list[torch.Tensor]:
    found = []
    for _ in range(calls):
        tested(DRIVE)
        found.append(tested.trace.clone())
    return found


def test_lifetime_call_stores_nothing() -> None:
    tested = layer(lifetime="call")
    assert all(trace.count_nonzero() == 0 for trace in traces(tested, 2))


def test_lifetime_carry_goes_on_for_good() -> None:
    tested = layer(lifetime="carry")
    first, second = traces(tested, 2)
    assert first.count_nonzero() > 0
    assert not torch.equal(first, second)
    assert torch.equal(tested.trace, second)


def test_evaluation_changes_the_stored_trace_only_when_asked() -> None:
    tested = layer()
    (learned,) = traces(tested, 1)
    tested.eval()
    tested(DRIVE)
    assert torch.equal(tested.trace, learned)
    tested(DRIVE, store=True)
    assert not torch.equal(tested.trace, learned)
    with pytest.raises(ValueError, match="store=True needs"):
        tested(DRIVE, store=True, pool="stream")


def test_no_gradient_reaches_an_earlier_call() -> None:
    tested = layer()
    tested(DRIVE)
    assert not tested.trace.requires_grad


def test_what_adapted_in_inference_mode_can_be_trained() -> None:
    """Warm-up without gradients: the stored trace must not become an inference tensor."""
    made, plain = layer(), layer()
    before = made.trace
    with torch.inference_mode():
        made(DRIVE)
    plain(DRIVE)
    assert not before.any(), "who kept the trace of before still has it"
    assert torch.equal(made.trace, plain.trace)
    assert made.trace.any()
    found, expected = made(DRIVE), plain(DRIVE)
    assert torch.equal(found.v, expected.v)
    found.v.sum().backward()
    assert made.weight.grad is not None
    assert made.weight.grad.any()


def test_traces_of_samples_cannot_outlive_a_call() -> None:
    with pytest.raises(ValueError, match="use lifetime='call' instead of 'carry'"):
        layer(pool="sample")
    with pytest.raises(ValueError, match="'episode' is unknown: choose one of call, carry"):
        layer(lifetime="episode")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (5,)}, "at least two sizes"),
        ({"sizes": (5, 0)}, "all >= 1"),
        ({"rule": [None]}, "1 of rule: give one for all layers, or one each, 2"),
        ({"neuron": [LIF(decay=0.5, v_th=0.5)] * 3}, "3 of neuron: give one for all layers"),
        ({"steps": 0}, "steps = 0"),
        ({"tau": -1.0}, "tau = -1.0"),
    ],
)
def test_impossible_networks_are_named(options: dict, message: str) -> None:
    arguments = {
        "sizes": (6, 4, 2),
        "neuron": LIF(decay=0.5, v_th=0.5),
        "rule": None,
        "readout": LastMembrane(),
        "steps": 3,
        "generator": torch.Generator(),
    }
    with pytest.raises(ValueError, match=message):
        FullyConnected(**(arguments | options))
    network = FullyConnected(**arguments)
    with pytest.raises(ValueError, match="the drive has 2 steps, the network 3"):
        network(torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match="2 gains for 3 inputs"):
        Steps((torch.zeros(4, 6),) * 3, (1.0, 1.0))
    with pytest.raises(ValueError, match="all steps must have one shape"):
        Steps((torch.zeros(4, 6), torch.zeros(4, 5)), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"3 of \[4, 5\], \[4, 6\] cannot be shown"):
        network([torch.zeros(4, 6), torch.zeros(4, 5), torch.zeros(4, 6)])
    with pytest.raises(ValueError, match=r"shape \[N, 6\], got \[4, 5\]"):
        network(Static(torch.zeros(4, 5), (1.0,) * 3))


@pytest.mark.parametrize("pool", ["batch", "sample"])
def test_gradients_through_the_final_trace_do_not_depend_on_the_evaluation(pool: Any) -> None:
    """Kept for whoever hands a state on, none for what a layer stores by itself."""
    found = {}
    for evaluation in ("recurrent", "factored"):
        for handed in (True, False):
            generator = torch.Generator().manual_seed(0)
            options = {"lifetime": "call"} if pool == "sample" else {}
            layer = HybridLinear(
                5, 6, neuron=LIF(decay=0.5, v_th=0.2), rule=Hebbian(trace_decay=0.9), pool=pool,
                initial_meta=InitialMeta.up_to(0.5), generator=generator, **options,
            ).double()  # fmt: skip
            x = torch.rand(3, 5, generator=generator, dtype=torch.float64)
            start = LayerState() if handed else None
            window = layer(direct(x, 6), start, evaluation=evaluation)
            loss = window.v.mean()
            if window.final.trace is not None:
                loss = loss + window.final.trace.square().mean()
            loss.backward()
            found[evaluation, handed] = layer.theta.local_rate.grad
    for handed in (True, False):
        assert torch.allclose(found["recurrent", handed], found["factored", handed], atol=1e-14)
    assert not torch.allclose(found["recurrent", True], found["recurrent", False])
