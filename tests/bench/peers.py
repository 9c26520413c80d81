"""GP as other libraries compute it: their own neurons, and all products outside the loop over time.

Each network has our weights; what an image evokes in the hidden layer is one product for all steps,
and what spikes evoke in the read-out another one. Neurons reset as their library does it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid.model.networks import FullyConnected

Peer = Callable[[FullyConnected], Callable[[Tensor], Tensor]]


def _network(network: FullyConnected, layer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable:
    """Return images -> outputs, given currents [T, N, out] -> spikes and potentials [T, N, out]."""
    hidden, out = network.layers
    gain = torch.tensor(network.gain).view(-1, 1, 1)

    def forward(x: Tensor) -> Tensor:
        spikes, _ = layer(gain * F.linear(x, hidden.weight) + hidden.bias)
        _, v = layer(F.linear(gain * spikes, out.weight, out.bias))
        return (v[-1] / network.neuron.v_th).clamp(max=1.1)

    return forward


def _each_step(
    step: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]],
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a layer that goes through the steps: (current, potential) -> (spikes, potential)."""

    def layer(currents: Tensor) -> tuple[Tensor, Tensor]:
        state, spikes, potentials = None, [], []
        for current in currents.unbind(0):
            z, state = step(current, state)
            spikes.append(z)
            potentials.append(state)
        return torch.stack(spikes), torch.stack(potentials)

    return layer


def snntorch(network: FullyConnected) -> Callable[[Tensor], Tensor]:
    import snntorch as snn

    neuron = network.neuron
    leaky = snn.Leaky(beta=neuron.decay, threshold=neuron.v_th, reset_mechanism="subtract")

    def step(current: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return leaky(current, torch.zeros_like(current) if v is None else v)

    return _network(network, _each_step(step))


def spikingjelly(network: FullyConnected) -> Callable[[Tensor], Tensor]:
    from spikingjelly.activation_based import neuron, surrogate

    own = network.neuron

    def layer(currents: Tensor) -> tuple[Tensor, Tensor]:
        lif = neuron.LIFNode(
            tau=1.0 / (1.0 - own.decay),
            decay_input=False,
            v_threshold=own.v_th,
            v_reset=None,
            surrogate_function=surrogate.Rect(alpha=1.0),
            step_mode="m",
            store_v_seq=True,
        )
        spikes = lif(currents)
        return spikes, lif.v_seq

    return _network(network, layer)


def norse(network: FullyConnected) -> Callable[[Tensor], Tensor]:
    from norse.torch.functional.lif_box import (
        LIFBoxFeedForwardState,
        LIFBoxParameters,
        lif_box_feed_forward_step,
    )

    own = network.neuron
    p = LIFBoxParameters(
        tau_mem_inv=torch.tensor(1e3 * (1.0 - own.decay)), v_th=torch.tensor(own.v_th)
    )

    def step(current: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        before = LIFBoxFeedForwardState(torch.zeros_like(current) if v is None else v)
        z, state = lif_box_feed_forward_step(current / (1.0 - own.decay), before, p, dt=0.001)
        return z, state.v

    return _network(network, _each_step(step))


PEERS: dict[str, Peer] = {"snnTorch": snntorch, "SpikingJelly": spikingjelly, "norse": norse}
