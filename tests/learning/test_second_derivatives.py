"""Second derivatives through real windows: exact bilevel gradients against central differences."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.learning.bilevel import Bilevel, Loss, hypergradient
from hybrid.model.coding import LastMembrane
from hybrid.model.layers import InitialMeta, meta_parameters, weight_parameters
from hybrid.model.networks import ContextGated, FullyConnected
from hybrid.model.neurons import LIF, NeuronState, Rectangle
from hybrid.model.plasticity import Hebbian
from hybrid.model.window.choice import EVALUATIONS, Evaluation
from hybrid.model.window.sparse import random_masks

LOUD = InitialMeta((0.3, 0.9), (0.1, 0.6), (-0.2, 0.2))


class Smooth(LIF):
    """A neuron whose spikes are a smooth step: all derivatives are true ones."""

    def step(self, current: Tensor, state: NeuronState | None) -> NeuronState:
        v, _, _ = super().step(current, state)
        return NeuronState(v, torch.sigmoid(8.0 * (v - self.v_th)))


NEURONS = {
    "smooth": Smooth(decay=0.5, v_th=0.35),
    "spiking": LIF(decay=0.5, v_th=0.35, surrogate=Rectangle(0.0)),  # no spike flips nearby
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def networks(neuron: LIF) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
    """A network of each kind, and how it is called."""
    rule = Hebbian(trace_decay=0.9, trace_clip=4.0)
    shared: dict[str, Any] = {
        "neuron": neuron,
        "rule": rule,
        "steps": 5,
        "initial_meta": LOUD,
        "generator": generator(0),
        "meta_generator": generator(1),
    }
    plain = FullyConnected((6, 5, 3), readout=LastMembrane(), lifetime="call", tau=40.0, **shared)
    gated = ContextGated((6, 5, 5, 3), tau=40.0, **shared)
    masks = random_masks((6, 5, 5, 3), 0.5, generator(5))
    return {
        "fully connected": (plain.double().eval(), {}),
        "gated": (gated.double().eval(), {"masks": masks}),
    }


def loss_of(network: nn.Module, call: dict[str, Any], x: Tensor, target: Tensor) -> Loss:
    names = {id(p): name for name, p in network.named_parameters()}
    keys = [names[id(p)] for p in (*weight_parameters(network), *meta_parameters(network))]

    def loss(weights: Sequence[Tensor], theta: Sequence[Tensor]) -> Tensor:
        state = dict(zip(keys, (*weights, *theta), strict=True))
        return F.mse_loss(functional_call(network, state, (x,), call).output, target)

    return loss


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("kind", ["fully connected", "gated"])
@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_the_exact_second_term_is_the_central_difference(
    evaluation: Evaluation, kind: str, neuron: str
) -> None:
    """Sparse masks and dense ones ("recurrent"), factored windows and step by step."""
    network, call = networks(NEURONS[neuron])[kind]
    x = torch.rand(2, 4, 6, generator=generator(2), dtype=torch.float64)
    target = torch.rand(2, 4, 3, generator=generator(3), dtype=torch.float64)
    losses = [
        loss_of(network, call | {"evaluation": evaluation}, *pair)
        for pair in zip(x, target, strict=True)
    ]
    theta = meta_parameters(network)
    assert theta
    found = {}
    for order in ("exact", "finite-difference", "first-order"):
        settings = Bilevel(second_order=order, rate=0.5, difference=1e-4, clamp=None, max_norm=None)
        parts = hypergradient(*losses, weight_parameters(network), theta, settings)
        found[order] = torch.cat([part.flatten() for part in parts])
    second = found["finite-difference"] - found["first-order"]
    assert second.norm() > 1e-3 * found["exact"].norm(), "the second term matters here"
    assert (found["exact"] - found["finite-difference"]).norm() < 1e-6 * second.norm()
    with torch.no_grad():
        spikes = network(x[0], **call).windows[0].z
    assert 0.0 < spikes.mean() < 1.0
