"""What we compare with: the equations as they are usually coded.

Written from the equations, with the trace update as a mean over [N, in, out] outer products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.model.networks import FullyConnected
from hybrid.model.neurons import Rectangle, spike


class Materialised(nn.Module):
    """The forward pass of an HP network that builds [N, in, out] at every step."""

    def __init__(self, network: FullyConnected) -> None:
        super().__init__()
        self.network = network
        self.traces = [layer.trace.clone() for layer in network.layers]

    def forward(self, x: Tensor) -> Tensor:
        network, neuron = self.network, self.network.neuron
        states = [(0.0, 0.0) for _ in network.layers]
        traces = list(self.traces)
        for gain in network.gain:
            drive = gain * x
            for i, layer in enumerate(network.layers):
                v, z = states[i]
                current = F.linear(drive, layer.weight, layer.bias)
                current = current + layer.theta.local_gain * (drive @ traces[i])
                v = neuron.decay * (v - neuron.v_th * z) + current
                z = spike(v, neuron.v_th, Rectangle())
                y = torch.tanh(v / neuron.v_th - layer.theta.sliding_threshold)
                pre = (layer.theta.local_rate * drive).unsqueeze(2)
                update = torch.bmm(pre, y.unsqueeze(1)).mean(0)
                traces[i] = (layer.rule.trace_decay * traces[i] + update).clamp(-4.0, 4.0)
                states[i], drive = (v, z), gain * z
        self.traces = [trace.detach() for trace in traces]
        return (v / neuron.v_th).clamp(max=1.1)


class PlainLoop(nn.Module):
    """A GP network as a plain loop over time, x W recomputed at every step."""

    def __init__(self, network: FullyConnected) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        network, neuron = self.network, self.network.neuron
        states = [(0.0, 0.0) for _ in network.layers]
        for gain in network.gain:
            drive = gain * x
            for i, layer in enumerate(network.layers):
                v, z = states[i]
                v = neuron.decay * (v - neuron.v_th * z) + F.linear(drive, layer.weight, layer.bias)
                z = spike(v, neuron.v_th, Rectangle())
                states[i], drive = (v, z), gain * z
        return (v / neuron.v_th).clamp(max=1.1)
