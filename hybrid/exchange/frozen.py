"""Frozen networks as plain modules, for exporters and meters that know tensors alone."""

import torch.nn.functional as F
from torch import Tensor, nn

from hybrid.model.chain import chain_of
from hybrid.model.networks import HybridNetwork
from hybrid.model.neurons import Neuron, NeuronState, tensor_constants
from hybrid.model.parameters import Constants


class Neurons(nn.Module):
    """A layer of neurons that leaves each of its states in a list that it is given."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron, self.constants = neuron, Constants(tensor_constants(neuron))

    def forward(self, current: Tensor, states: list[NeuronState]) -> Tensor:
        """Return the spikes of the next step under a current [N, *]."""
        states.append(self.now().step(current, states[-1] if states else None))
        return states[-1].z

    def now(self) -> Neuron:
        """Return the neuron model, its constants where the module is."""
        return self.constants.of(self.neuron)


class Frozen(nn.Module):
    """A network that has learned, as `nn.Linear`, `nn.Conv2d` and neurons: tensor in, tensor out.

    Traces are part of the weights, as they are stored, and no longer move. All T steps are run and
    nothing depends on values, so that `torch.export` and ONNX take it, for batches of any size:

        batch = {0: torch.export.Dim("N")}
        torch.onnx.export(Frozen(network), (images,), "it.onnx", dynamic_shapes=(batch,))

    Args:
        network: a `FullyConnected` or `Convolutional` network; later changes of it have no effect.

    Raises:
        ValueError: if the network has an encoder or a normalisation, or is of another class.
    """

    def __init__(self, network: HybridNetwork) -> None:
        super().__init__()
        stages = chain_of(network, frozen=True)
        self.gain, self.readout = network.gain, network.readout
        self.connections = nn.ModuleList(stage.connection for stage in stages)
        self.neurons = nn.ModuleList(Neurons(stage.neuron) for stage in stages)
        self.dims = stages[0].connection.weight.ndim  # of an input [N, *]
        self.faded = tuple(stage.faded for stage in stages)
        self.pooled = tuple(stage.pooled for stage in stages)
        self.requires_grad_(False).eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output [N, classes].

        Args:
            inputs: shown at each step: [N, in], or images [N, channels, height, width]; or with an
                input for each step, [T, N, *].

        Raises:
            ValueError: if there are not T inputs.
        """
        dims, steps = self.dims, len(self.gain)
        if inputs.ndim not in (dims, dims + 1):
            raise ValueError(f"{inputs.ndim} dimensions: give inputs of {dims}, or T before them")
        if inputs.ndim > dims and len(inputs) != steps:
            raise ValueError(f"{len(inputs)} inputs for {steps} steps: give [T, N, *]")
        states: list[list[NeuronState]] = [[] for _ in self.neurons]
        for t, gain in enumerate(self.gain):
            z = inputs[t] if inputs.ndim > dims else inputs
            for i, connect in enumerate(self.connections):
                z = z.flatten(1) if isinstance(connect, nn.Linear) else z
                current = connect(gain * z if self.faded[i] else z)
                z = self.neurons[i](current, states[i])
                z = F.avg_pool2d(z, 2) if self.pooled[i] else z
        last: Neurons = self.neurons[-1]  # type: ignore[assignment]
        return self.readout(states[-1], last.now().v_th)
